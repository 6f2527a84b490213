"""What people ask of the daemon: rows that a command writes and the supervisor answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from cellwatch.storage.ledger.acquisitions import iso
from cellwatch.storage.ledger.database import transaction

ASKED, DONE, REFUSED = "asked", "done", "refused"


@dataclass(frozen=True, slots=True)
class Request:
    """One thing that somebody asked for.

    Attributes
    ----------
    id : int
    kind : str
    arguments : mapping
        JSON.
    asked_by : str
    """

    id: int
    kind: str
    arguments: Mapping[str, Any]  # Any: JSON
    asked_by: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request.

    Attributes
    ----------
    is_done : bool
        False: it was refused.
    text : str
    facts : mapping
        JSON.
    """

    is_done: bool
    text: str
    facts: Mapping[str, Any]  # Any: JSON


def ask(db: Database, kind: str, arguments: Mapping[str, Any], asked_by: str, now: datetime) -> int:
    """Write down a request; return its id."""
    with transaction(db):
        table = db.table("requests").insert(
            {
                "kind": kind,
                "arguments": json.dumps(arguments),
                "asked_by": asked_by,
                "asked_at": iso(now),
                "state": ASKED,
            }
        )
        return int(table.last_pk)  # type: ignore[arg-type]  # None only before an insert


def pending(db: Database) -> list[Request]:
    """Return the requests that nobody has answered, oldest first."""
    rows = db.execute(
        "SELECT id, kind, arguments, asked_by FROM requests WHERE state = 'asked' ORDER BY id"
    ).fetchall()
    return [Request(key, kind, json.loads(said), by) for key, kind, said, by in rows]


def answer(db: Database, request_id: int, given: Answer, now: datetime) -> None:
    """Answer a request."""
    with transaction(db):
        db.table("requests").update(
            request_id,
            {
                "state": DONE if given.is_done else REFUSED,
                "answer": json.dumps({"text": given.text, "facts": dict(given.facts)}),
                "answered_at": iso(now),
            },
        )


def answer_to(db: Database, request_id: int) -> Answer | None:
    """Return the answer to a request; None: there is none yet."""
    row = db.table("requests").get(request_id)
    if row["state"] == ASKED:
        return None
    said = json.loads(row["answer"])
    return Answer(row["state"] == DONE, said["text"], said["facts"])


def data_version(db: Database) -> int:
    """Return a number that changes when another process has written to the ledger."""
    return int(db.execute("PRAGMA data_version").fetchone()[0])
