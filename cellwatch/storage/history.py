"""What the daemon says of itself: its life, its folders, the models it used."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from cellwatch.records import DaemonState, ModelCard
from cellwatch.storage.arrivals import iso
from cellwatch.storage.ledger import transaction
from cellwatch.storage.reports import GROUPS


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """Who the running daemon is."""

    pid: int
    host: str
    boot_id: str
    version: str
    device: str
    config: str


def daemon_started(db: Database, facts: DaemonFacts, now: datetime) -> list[dict[str, Any]]:
    """Record that the daemon runs; return the workers of the one before, as {pid, started}.

    Those of another boot of the machine are gone with it.
    """
    with transaction(db):
        sql = "SELECT workers FROM daemon WHERE id = 1 AND boot_id = ?"
        before = db.execute(sql, [facts.boot_id]).fetchone()
        db.table("daemon").upsert(
            {
                "id": 1,
                **asdict(facts),
                "state": DaemonState.RUNNING,
                "workers": "[]",
                "started_at": iso(now),
                "heartbeat_at": iso(now),
                "stopped_at": None,
            },
            pk="id",
        )
    return list(json.loads(before[0])) if before and before[0] else []


def daemon_workers(db: Database, workers: list[dict[str, Any]]) -> None:
    """Record which worker processes live, so that a successor can wait for them to end."""
    with transaction(db):
        db.table("daemon").update(1, {"workers": json.dumps(workers)})


def heartbeat(db: Database, now: datetime) -> None:
    """Record that the daemon is alive."""
    with transaction(db):
        db.table("daemon").update(1, {"heartbeat_at": iso(now)})


def daemon_stopped(db: Database, now: datetime) -> None:
    """Record that the daemon ended well."""
    with transaction(db):
        db.table("daemon").update(
            1,
            {
                "state": DaemonState.STOPPED,
                "workers": "[]",
                "stopped_at": iso(now),
                "heartbeat_at": iso(now),
            },
        )


def folder_scanned(
    db: Database, name: str, path: str, *, files: int, reason: str, now: datetime
) -> None:
    """Record the last look into a watched folder; a reason means that it is not there."""
    with transaction(db):
        db.table("folders").upsert(
            {
                "name": name,
                "path": path,
                "state": "offline" if reason else "watching",
                "reason": reason or None,
                # A folder that could not be listed has not been scanned.
                **({} if reason else {"scanned_at": iso(now), "files": files}),
            },
            pk="name",
        )


def folders_named(db: Database, names: Sequence[str]) -> None:
    """Record which folders the configuration names: the others are not watched any more."""
    marks = ",".join("?" * len(names))
    sql = f"UPDATE folders SET state = 'unwatched', reason = NULL WHERE name NOT IN ({marks})"
    with transaction(db):
        db.execute(sql, list(names))


def groups_named(db: Database, names: Sequence[str]) -> None:
    """Record which groups the configuration has, so that `status` knows those that serve nobody."""
    with transaction(db):
        db.table("station").upsert({"key": GROUPS, "value": json.dumps(list(names))}, pk="key")


def model_used(db: Database, card: ModelCard, now: datetime) -> None:
    """Record a model's card the first time a job names it."""
    with transaction(db):
        db.table("models").insert(
            {
                "id": card.id,
                "sha256": card.sha256,
                "card": json.dumps(asdict(card)),
                "first_used_at": iso(now),
            },
            pk=("id", "sha256"),
            ignore=True,
        )
