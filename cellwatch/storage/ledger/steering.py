"""What people do to the queue: pause it, put images first, leave them out, try them again."""

import json
from collections.abc import Sequence
from datetime import datetime

from sqlite_utils import Database

from cellwatch.records import AcquisitionState
from cellwatch.storage.ledger.acquisitions import iso, set_state
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.ledger.rows import Ledger
from cellwatch.storage.reports.pauses import PAUSED, pauses

FIRST = 100  # the priority of images that somebody put first
AGAIN = ("failed", "quarantined", "blocked", "skipped", "missing")
LEFT_OUT = ("queued", *AGAIN)


def pause(db: Database, watch: str, by: str, now: datetime) -> None:
    """Let no further image of a folder, or with "" of all, be begun."""
    value = json.dumps({"by": by, "since": iso(now)})
    with transaction(db):
        db.table("station").upsert({"key": f"{PAUSED}{watch}", "value": value}, pk="key")


def resume(db: Database, watch: str) -> list[str]:
    """End the pause of a folder, or with "" every pause; return those that were paused."""
    with transaction(db):
        ended = [each.watch for each in pauses(db) if watch in ("", each.watch)]
        for name in ended:
            db.execute("DELETE FROM station WHERE key = ?", [f"{PAUSED}{name}"])
    return ended


def put_first(db: Database, keys: Sequence[int]) -> int:
    """Let images that wait go before all others; return how many."""
    sql = """
        UPDATE acquisitions SET priority = ? WHERE id = ? AND superseded_by IS NULL
        AND (state = 'queued' OR retry_at IS NOT NULL)
    """
    with transaction(db):
        return sum(int(db.execute(sql, [FIRST, key]).rowcount) for key in keys)


def leave_out(db: Database, keys: Sequence[int], by: str, now: datetime) -> int:
    """Leave images out that were not begun; return how many.

    Those that are done, and queued to be compared or done again, keep their masks and their turn.
    """
    return _move(db, keys, LEFT_OUT, (AcquisitionState.SKIPPED, f"left out by {by}"), now)


def try_again(db: Database, keys: Sequence[int], now: datetime) -> int:
    """Put images back that have failed or were left out, with all their attempts; return how many.

    Those that were never whole have to be written again, and stay as they are.
    """
    return _move(db, keys, AGAIN, (AcquisitionState.QUEUED, None), now)


def of_experiment(db: Ledger, experiment: str) -> list[int]:
    """Return the current images of an experiment."""
    sql = "SELECT id FROM acquisitions WHERE experiment = ? AND superseded_by IS NULL ORDER BY id"
    return [key for (key,) in db.execute(sql, [path_text(experiment)]).fetchall()]


def of_file(db: Ledger, name: str) -> list[int]:
    """Return the current images in a file that holds several, or lists a set, by path or name."""
    sql = """
        SELECT id FROM acquisitions WHERE superseded_by IS NULL
        AND (instr(path, ?) = 1 OR instr('/' || relative_path, ?) > 0) ORDER BY id
    """
    text = path_text(name)
    return [key for (key,) in db.execute(sql, [f"{text}/", f"/{text}/"]).fetchall()]


def _move(
    db: Database,
    keys: Sequence[int],
    states: Sequence[str],
    to: tuple[AcquisitionState, str | None],
    now: datetime,
) -> int:
    kinds = ",".join("?" * len(states))
    sql = f"""
        SELECT 1 FROM acquisitions WHERE id = ? AND state IN ({kinds}) AND state != ?
        AND superseded_by IS NULL AND store IS NOT NULL
        AND NOT (finished_at IS NOT NULL AND state = 'queued')
    """
    fresh = {"attempts": 0, "worker_deaths": 0, "daemon_deaths": 0, "retry_at": None}
    with transaction(db):
        moved = [k for k in keys if db.execute(sql, [k, *states, to[0].value]).fetchone()]
        for key in moved:
            set_state(db, key, to[0], to[1], now)
            db.table("acquisitions").update(key, fresh)
    return len(moved)
