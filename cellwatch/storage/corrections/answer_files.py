"""The answer that lies beside each dropped file within seconds."""

import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cellwatch.storage.ledger.path_text import readable

ACCEPTED = ".accepted.json"
REJECTED = ".rejected.txt"


def write_answer(dropped: Path, text: str, *, is_accepted: bool) -> None:
    """Write the answer to a dropped file, and remove the other one that an earlier drop had."""
    ending, other = (ACCEPTED, REJECTED) if is_accepted else (REJECTED, ACCEPTED)
    if not dropped.exists():
        return  # the person took it away meanwhile
    target = answer_path(dropped, ending)
    aside = target.with_name(f".{uuid.uuid4().hex}.partial")
    aside.write_text(readable(text), encoding="utf-8")
    aside.replace(target)
    answer_path(dropped, other).unlink(missing_ok=True)


def take_back(dropped: Path) -> None:
    """Remove the answer to a file; a folder that forbids it keeps it."""
    for ending in (ACCEPTED, REJECTED):
        with suppress(OSError):
            answer_path(dropped, ending).unlink(missing_ok=True)


def has_answer(dropped: Path, text: str, is_accepted: bool) -> bool:
    """Say whether this answer, and no other, lies beside a dropped file."""
    ending, other = (ACCEPTED, REJECTED) if is_accepted else (REJECTED, ACCEPTED)
    try:
        said = answer_path(dropped, ending).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return said == readable(text) and not answer_path(dropped, other).exists()


def answer_path(dropped: Path, ending: str) -> Path:
    """Return where an answer lies; a name too long for the file system is cut."""
    name = os.fsencode(dropped.name)[: 255 - len(ending)]
    return dropped.with_name(os.fsdecode(name) + ending)


def accepted_text(facts: Mapping[str, Any]) -> str:  # Any: JSON
    """Return the text of an `.accepted.json`."""
    return json.dumps(facts, indent=2, ensure_ascii=False) + "\n"


def rejected_text(reason: str, remedy: str, table: str) -> str:
    """Return the text of a `.rejected.txt`."""
    return f"{reason}\n\nWhat to do: {remedy}\n\nNames of corrections:\n{table}\n"
