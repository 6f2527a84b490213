"""The command that shows the station's status."""

import shutil
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellwatch.cli.console import ConfigOption, JsonOption, print_json
from cellwatch.cli.status_screen import fitted, sections
from cellwatch.cli.status_training import learning_facts
from cellwatch.config.locate import find_config, state_folder
from cellwatch.errors import EXIT_NOT_RUNNING
from cellwatch.records import AcquisitionState, DaemonState
from cellwatch.storage.ledger.locking import DAEMON, holder
from cellwatch.storage.reports import alarms, doubts, pace, plates, station
from cellwatch.storage.reports.pauses import pauses

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from _typeshed import DataclassInstance

PLATES = 5  # of yesterday and today
REFRESH_S = 2.0
# Of a terminal: clear all, go to its first place, clear to the end of the line, clear below.
CLEAR, HOME, TO_END, BELOW = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"


def status(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh every 2 s.")] = False,
) -> None:
    """Show the station's status. Exit code 3 if the daemon does not run."""
    place = find_config(config)
    state = state_folder(place)
    is_first = True
    while True:
        now = datetime.now(UTC)
        facts = station_status(state, now, place)
        if as_json:
            print_json(facts)
        elif watch and sys.stdout.isatty():
            _paint(sections(facts, now), is_first=is_first)
        else:
            typer.echo("\n".join(line for part in sections(facts, now) for line in part))
        if not watch:
            break
        is_first = False
        sys.stdout.flush()
        time.sleep(REFRESH_S)
    if facts["state"] in (DaemonState.STOPPED, DaemonState.DEAD):
        raise typer.Exit(EXIT_NOT_RUNNING)


def _paint(parts: list[list[str]], *, is_first: bool) -> None:
    # Over what stands there, so that nothing flickers; the last line stays free for the cursor.
    width, height = shutil.get_terminal_size()
    lines = "".join(f"{line}{TO_END}\n" for line in fitted(parts, width, height - 1))
    typer.echo(f"{CLEAR if is_first else ''}{HOME}{lines}{BELOW}", nl=False)


def station_status(
    state_path: Path, now: datetime, config: Path | None = None
) -> dict[str, Any]:  # Any: JSON
    """Read what there is to say about a station; works whether or not the daemon runs."""
    ledger = state_path / station.LEDGER
    if not ledger.is_file():
        nothing = dict.fromkeys(AcquisitionState, 0)
        return {
            "state": DaemonState.STOPPED,
            "counts": nothing,
            "daemon": {},
            "folders": [],
            "running": [],
            "waiting": [],
            "failures": [],
            "speed": {},
            "models": {},
            "to_do": 0,
            "left_s": None,
            "disk": "",
            "learning": {},
            "holder": {},
            "is_config_newer": False,
            "doubts": {},
            "unread": [],
            "pauses": [],
            "plates": [],
            "alarms": [],
            "reload_error": "",
            "ledger_mended": "",
        }
    with station.reader(ledger) as db:
        daemon = station.daemon(db)
        held = holder(state_path)
        state = station.daemon_state(daemon, now, is_locked=bool(held))
        speed, to_do = pace.speed(db, now), pace.n_to_do(db)
        workers = len(daemon.workers or ()) if daemon else 0
        return {
            "state": state,
            "counts": station.counts(db),
            "daemon": asdict(daemon) if daemon else {},
            "folders": _plain(station.folders(db)),
            "running": _plain(station.in_flight(db)),
            "waiting": _plain(station.waiting(db)),
            "failures": _plain(station.recent_failures(db, now)),
            "speed": asdict(speed),
            "models": pace.models_of_latest(db),
            "to_do": to_do,
            "left_s": to_do * speed.seconds / max(1, workers) if speed.seconds else None,
            "disk": station.told(db, station.DISK),
            "learning": learning_facts(db),
            "holder": held,
            "is_config_newer": _is_newer(config, held, daemon),
            "doubts": doubts.doubts(db) if station.has_loop(db) else {},
            "unread": _plain(station.unread(db)),
            "pauses": _plain(pauses(db)),
            "plates": _plain(_plates(db, now)),
            "alarms": _plain(alarms.active(db)),
            "reload_error": station.told(db, station.RELOAD_ERROR),
            "ledger_mended": station.told(db, station.LEDGER_MENDED),
        }


def _plates(db: "sqlite3.Connection", now: datetime) -> "list[plates.PlateSummary]":
    yesterday = (now - timedelta(days=1)).isoformat()
    return plates.plates(db, since=yesterday)[:PLATES] if plates.has_plates(db) else []


def _plain(rows: "Sequence[DataclassInstance]") -> list[dict[str, Any]]:  # Any: JSON
    return [asdict(row) for row in rows]


def _is_newer(
    config: Path | None,
    held: dict[str, Any],  # Any: JSON
    daemon: station.DaemonFacts | None,
) -> bool:
    # Only the daemon keeps what it has read; a command reads the file each time.
    is_daemon = held.get("who") == DAEMON and "since" in held
    if config is None or not is_daemon or not config.exists():
        return False
    # It may have read the file again since it took the lock.
    began = daemon.started_at if daemon else None
    since = max(held["since"], began or "", key=_moment)
    return config.stat().st_mtime > _moment(since)


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0
