"""Files of sets: each was seen, and belongs to the set that another file lists.

A file that lists itself holds several images, or lists a set, and all its images are recorded as of
when it was seen.
"""

from sqlite_utils import Database

from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.path_text import path_text, text_path
from cellwatch.storage.ledger.rows import Ledger
from cellwatch.watching.settle import Sighting


def note(db: Database, watch: str, sighting: Sighting, index: str) -> None:
    """Record a file of a set as it was seen."""
    row = {
        "watch": watch,
        "relative_path": path_text(sighting.path),
        "index_path": path_text(index),
        "size": sighting.size,
        "mtime_ns": sighting.mtime_ns,
        "ctime_ns": sighting.ctime_ns,
    }
    with transaction(db):
        db.table("set_files").upsert(row, pk=("watch", "relative_path"))


def forget(db: Database, watch: str, index: str) -> None:
    """Have the file that lists a set looked into again, should it be seen."""
    with transaction(db):
        db.execute(
            "DELETE FROM set_files WHERE watch = ? AND relative_path = ?", [watch, path_text(index)]
        )


def forget_all(db: Database, watch: str, index: str) -> None:
    """Drop all files of a set, none of which is there any more."""
    with transaction(db):
        db.execute(
            "DELETE FROM set_files WHERE watch = ? AND index_path = ?", [watch, path_text(index)]
        )


def listed_by(db: Ledger, watch: str, index: str) -> list[str]:
    """Return the files of a set that were seen, and the file that lists them if it was."""
    sql = "SELECT relative_path FROM set_files WHERE watch = ? AND index_path = ?"
    return [text_path(path) for (path,) in db.execute(sql, [watch, path_text(index)])]


def count(db: Ledger, watch: str, index: str) -> int:
    """Return how many files of a set were seen."""
    sql = """
        SELECT count(*) FROM set_files
        WHERE watch = ? AND index_path = ? AND relative_path != index_path
    """
    return int(db.execute(sql, [watch, path_text(index)]).fetchone()[0])


def index_at(db: Ledger, path: str) -> str:
    """Return the path of the file that lists the set of a file; "": it belongs to none."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'set_files'").fetchone():
        return ""  # of an earlier version
    sql = """
        SELECT f.path || '/' || s.index_path FROM set_files s JOIN folders f ON f.name = s.watch
        WHERE f.path || '/' || s.relative_path = ? AND s.relative_path != s.index_path
    """
    found = db.execute(sql, [path_text(path)]).fetchone()
    return text_path(str(found[0])) if found else ""
