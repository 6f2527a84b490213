"""What the daemon says of itself: its life, its folders, the models it used."""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlite_utils import Database

from cellwatch.records import DaemonState, ModelCard, WorkerProcess
from cellwatch.storage.ledger.acquisitions import iso
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.path_text import path_text, text_path
from cellwatch.storage.reports.learning import GROUP_MODELS, GROUPS
from cellwatch.storage.reports.station import DISK


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """Who the running daemon is."""

    pid: int
    host: str
    boot_id: str
    version: str
    device: str
    config: str


def daemon_started(db: Database, facts: DaemonFacts, now: datetime) -> list[WorkerProcess]:
    """Record that the daemon runs; return the workers of the one before.

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
                "trouble": None,
                "workers": "[]",
                "started_at": iso(now),
                "heartbeat_at": iso(now),
                "stopped_at": None,
            },
            pk="id",
        )
    found = json.loads(before[0]) if before and before[0] else []
    return [WorkerProcess(each["pid"], each["started"]) for each in found]


def daemon_workers(db: Database, workers: Sequence[WorkerProcess]) -> None:
    """Record which worker processes live, so that a successor can wait for them to end."""
    with transaction(db):
        db.table("daemon").update(1, {"workers": json.dumps([asdict(each) for each in workers])})


def daemon_degraded(db: Database, trouble: str) -> None:
    """Record what keeps the daemon from segmenting; "": nothing any more."""
    state = DaemonState.DEGRADED if trouble else DaemonState.RUNNING
    with transaction(db):
        db.table("daemon").update(1, {"state": state, "trouble": trouble or None})


def worker_ready(db: Database, devices: str, precision: str, trouble: str = "") -> None:
    """Record what the workers compute on, and in which precision; `trouble` keeps them from it."""
    state = DaemonState.DEGRADED if trouble else DaemonState.RUNNING
    with transaction(db):
        facts = {"device": devices, "precision": precision, "trouble": trouble or None}
        db.table("daemon").update(1, {**facts, "state": state})


def secret(db: Database, key: str) -> bytes:
    """Return a secret of this station, made at random when it is first asked for."""
    with transaction(db):
        made = {"key": key, "value": secrets.token_hex(32)}
        db.table("station").insert(made, pk="key", ignore=True)
        return bytes.fromhex(db.table("station").get(key)["value"])


def told(db: Database, key: str, text: str) -> None:
    """Record a fact of the station that `status` shows; "": it is none any more."""
    with transaction(db):
        if text:
            db.table("station").upsert({"key": key, "value": text}, pk="key")
        else:
            db.execute("DELETE FROM station WHERE key = ?", [key])


def unread_found(db: Database, watch: str, found: Mapping[str, Sequence[str]]) -> list[str]:
    """Record which files look like images and are not read; return the suffixes that are new."""
    with transaction(db):
        rows = db.execute("SELECT suffix FROM unread WHERE watch = ?", [watch]).fetchall()
        known = {suffix for (suffix,) in rows}
        db.execute("DELETE FROM unread WHERE watch = ?", [watch])
        for suffix, files in found.items():
            row = {"watch": watch, "suffix": suffix, "files": len(files)}
            db.table("unread").insert({**row, "example": path_text(files[0])})
    return sorted(set(found) - known)


def root_moved(
    db: Database, watch: str, folder: str, is_content: Callable[[Path, str], bool]
) -> int:
    """Give what is known of a watched folder its new place; return how many acquisitions.

    A folder of the same name at another place is the same folder where at least half of the files
    that are looked at lie there with the content that they had; else nothing is changed. (Names and
    sizes tell nothing: a microscope gives the same ones every day.)

    Parameters
    ----------
    db : Database
    watch, folder : str
    is_content : callable
        Says whether a file has a fingerprint.
    """
    row = db.execute("SELECT path FROM folders WHERE name = ?", [watch]).fetchone()
    if row is None or row[0] in (folder, path_text(folder)):
        return 0
    sql = """
        SELECT relative_path, fingerprint FROM acquisitions
        WHERE watch = ? AND superseded_by IS NULL AND fingerprint != ''
        ORDER BY id DESC LIMIT 20
    """
    sample = db.execute(sql, [watch]).fetchall()
    there = sum(is_content(Path(folder, text_path(path)), mark) for path, mark in sample)
    if not sample or 2 * there < len(sample):
        return 0
    with transaction(db):
        sql = "SELECT id, relative_path, path FROM acquisitions WHERE watch = ?"
        rows = db.execute(sql, [watch]).fetchall()
        for key, relative, before in rows:
            path = path_text(f"{folder}/{text_path(relative)}")
            # What is known of a file at its new place already stays with it.
            db.execute("UPDATE OR IGNORE acquisitions SET path = ? WHERE id = ?", [path, key])
            db.execute(
                "UPDATE OR IGNORE pins SET experiment = ? WHERE watch = ? AND experiment = ?",
                [path, watch, before],
            )
        db.execute("UPDATE folders SET path = ? WHERE name = ?", [folder, watch])
    return len(rows)


def heartbeat(db: Database, now: datetime, disk: str = "") -> None:
    """Record that the daemon is alive, and how much room there is for masks."""
    with transaction(db):
        db.table("daemon").update(1, {"heartbeat_at": iso(now)})
        db.table("station").upsert({"key": DISK, "value": disk}, pk="key")


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
    db: Database,
    name: str,
    path: str,
    *,
    files: int,
    reason: str,
    now: datetime,
    next_in_s: float = 0.0,
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
                "due_at": iso(now + timedelta(seconds=next_in_s)) if next_in_s else None,
            },
            pk="name",
        )


def folders_named(db: Database, names: Sequence[str]) -> None:
    """Record which folders the configuration names: the others are not watched any more."""
    marks = ",".join("?" * len(names))
    sql = f"UPDATE folders SET state = 'unwatched', reason = NULL WHERE name NOT IN ({marks})"
    with transaction(db):
        db.execute(sql, list(names))


def groups_named(db: Database, models: Mapping[str, str]) -> None:
    """Record the groups of the configuration and their models, for `status`."""
    with transaction(db):
        for key, value in ((GROUPS, list(models)), (GROUP_MODELS, dict(models))):
            db.table("station").upsert({"key": key, "value": json.dumps(value)}, pk="key")


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
