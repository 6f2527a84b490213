"""The report: one file with the station's results that any browser opens, without a network."""

import json
import os
import threading
from datetime import datetime
from importlib import resources
from pathlib import Path

from cellwatch.files.atomic import writing
from cellwatch.storage.reports import station
from cellwatch.storage.reports.html.facts import page_facts

NAME = "report.html"  # in the output folder
PARTS = {"/*CSS*/": "page.css", "/*JS*/": "page.js"}
DATA = '"DATA"'


def write_report(state: Path, output: Path, name: str, now: datetime) -> Path:
    """Write the report of a station into its output folder, whole or not at all; return its place.

    Parameters
    ----------
    state, output : Path
        The folders of the station.
    name : str
        What it is called.
    now : datetime

    Raises
    ------
    LedgerMissing
        When no daemon has run yet.
    OSError
        When it cannot be written.
    """
    with station.reader(state / station.LEDGER) as db:
        facts = page_facts(db, output, name, now)
    place = output / NAME
    with writing(place, f"{os.getpid()}-{threading.get_ident()}") as aside:
        aside.write_text(page(facts), encoding="utf-8")
    return place


def page(facts: object) -> str:
    """Return the page that shows these facts.

    Parameters
    ----------
    facts : JSON
        As `page_facts` gives them.
    """
    folder = resources.files(__package__ or "")
    text = (folder / "page.html").read_text(encoding="utf-8")
    for mark, part in PARTS.items():
        text = text.replace(mark, (folder / part).read_text(encoding="utf-8"))
    # Whatever a name holds, it is no markup.
    data = json.dumps(facts, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    return text.replace(DATA, data)
