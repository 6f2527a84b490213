"""What is changed from outside after an image had its turn: its metadata, its masks, the clock."""

from datetime import datetime
from pathlib import Path

from sqlite_utils import Database

from cellwatch.records import AcquisitionState
from cellwatch.storage.ledger.acquisitions import iso, set_state
from cellwatch.storage.ledger.attempts import MAX_ATTEMPTS
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.path_text import text_path
from cellwatch.storage.ledger.queue import RETRY_AFTER


def mark_output(db: Database, acquisition_id: int, mark: str) -> None:
    """Record what became of a mask store since it was written; "": nothing."""
    with transaction(db):
        db.table("acquisitions").update(acquisition_id, {"output_mark": mark or None})


def redo_with_metadata(db: Database, watch: str, now: datetime) -> int:
    """Queue again what lacked a file of metadata that has come; return how many."""
    sql = """
        SELECT id, lacks FROM acquisitions WHERE watch = ? AND lacks IS NOT NULL
        AND superseded_by IS NULL AND state NOT IN ('queued', 'running')
    """
    keys = [k for k, lacks in db.execute(sql, [watch]) if _is_there(Path(text_path(lacks)))]
    with transaction(db):
        for key in keys:
            set_state(db, key, AcquisitionState.QUEUED, None, now)
            db.table("acquisitions").update(key, {"lacks": None, "attempts": 0, "retry_at": None})
    return len(keys)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file system has
        return False


def due_at_most(db: Database, now: datetime) -> None:
    """Let nothing wait for longer than the longest pause there is: the clock was set back."""
    latest = now + RETRY_AFTER * 2**MAX_ATTEMPTS
    with transaction(db):
        sql = "UPDATE acquisitions SET retry_at = ? WHERE retry_at > ?"
        db.execute(sql, [iso(now), iso(latest)])
