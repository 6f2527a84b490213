"""Single questions about acquisitions, their targets and what was handed out of them."""

import json
import math
import sqlite3
from collections.abc import Sequence
from datetime import datetime

from cellwatch.files.members import WITH_MEMBERS, container_of
from cellwatch.files.stems import stem_key
from cellwatch.records import Acquisition, AcquisitionState
from cellwatch.storage.ledger.path_text import path_text, text_path
from cellwatch.storage.ledger.rows import NOT_PAUSED, Ledger, first, records
from cellwatch.watching.settle import Sighting

# Of acquisitions `a`: those that represent a file. One that is being rewritten has a second row,
# which holds nothing yet, beside what the file held before.
CURRENT = """a.superseded_by IS NULL AND NOT (a.fingerprint = '' AND EXISTS (
    SELECT 1 FROM acquisitions o WHERE o.watch = a.watch AND o.path = a.path
    AND o.fingerprint != '' AND o.superseded_by IS NULL))"""


def acquisition(db: Ledger, key: int) -> Acquisition:
    """Return an acquisition that there is."""
    (found,) = records(db, Acquisition, "SELECT * FROM acquisitions WHERE id = ?", [key])
    return found


def current_at(db: sqlite3.Connection, watch: str, path: str) -> Acquisition | None:
    """Return the acquisition that a file is now; None: it is none any more."""
    sql = f"SELECT a.* FROM acquisitions a WHERE a.watch = ? AND a.path = ? AND {CURRENT}"
    return first(db, Acquisition, sql, [watch, path])


def with_stem(db: sqlite3.Connection, stem: str) -> list[Acquisition]:
    """Return the acquisitions of a stem, in the order in which they came."""
    sql = f"SELECT a.* FROM acquisitions a WHERE a.stem = ? AND {CURRENT} ORDER BY a.id"
    return records(db, Acquisition, sql, [_stem_text(stem)])


def stems_like(db: sqlite3.Connection, stem: str, limit: int) -> list[str]:
    """Return stems that contain this one: people drop what the microscope put before a number."""
    sql = """
        SELECT DISTINCT stem FROM acquisitions
        WHERE superseded_by IS NULL AND instr(stem, ?) > 0 ORDER BY stem LIMIT ?
    """
    return [near for (near,) in db.execute(sql, [_stem_text(stem), limit]).fetchall()]


def is_folder_of_images(db: sqlite3.Connection, name: str) -> bool:
    """Say whether images lie, or lay, in a folder of this name, at any depth."""
    sql = "SELECT 1 FROM acquisitions WHERE instr('/' || lower(relative_path), ?) > 0 LIMIT 1"
    return db.execute(sql, [f"/{path_text(name).lower()}/"]).fetchone() is not None


def target_state(db: sqlite3.Connection, key: int, target: str) -> str:
    """Return the state of a target of an acquisition; "": it has no such target."""
    sql = "SELECT state FROM targets WHERE acquisition_id = ? AND name = ?"
    found = db.execute(sql, [key, target]).fetchone()
    return str(found[0]) if found else ""


def n_channels_fed(db: Ledger, key: int, target: str) -> int:
    """Return how many channels the network was given for a target; 1: not known."""
    sql = "SELECT channels FROM targets WHERE acquisition_id = ? AND name = ?"
    found = db.execute(sql, [key, target]).fetchone()
    return len(json.loads(found[0])) if found and found[0] else 1


def most_rois(db: Ledger, keys: Sequence[int]) -> int | None:
    """Return the most ROIs that any finished target has; None: there is none."""
    marks = ",".join("?" * len(keys))
    sql = f"SELECT max(rois) FROM targets WHERE state = 'done' AND acquisition_id IN ({marks})"
    found: int | None = db.execute(sql, list(keys)).fetchone()[0]
    return found


def last_started(db: Ledger, key: int) -> str:
    """Return when the last attempt at an acquisition began; "": never."""
    sql = "SELECT max(started_at) FROM attempts WHERE acquisition_id = ?"
    return str(db.execute(sql, [key]).fetchone()[0] or "")


def folders_of_experiment(db: Ledger, experiment: str) -> list[str]:
    """Return the watched folders in which an experiment lies."""
    sql = "SELECT DISTINCT watch FROM acquisitions WHERE experiment = ?"
    return [name for (name,) in db.execute(sql, [path_text(experiment)]).fetchall()]


def known_files(db: Ledger, watch: str) -> dict[str, Sighting]:
    """Return the files of a watched folder that were taken in before, as they were then."""
    rows = db.execute(
        """
        SELECT relative_path, size, mtime_ns, ctime_ns, 0 FROM acquisitions
        WHERE watch = ?1 AND superseded_by IS NULL
              AND state NOT IN ('waiting', 'interrupted', 'missing')
              AND NOT (state = 'failed' AND fingerprint = '')
        UNION ALL
        SELECT relative_path, size, mtime_ns, ctime_ns, 1 FROM set_files WHERE watch = ?1
        """,
        [watch],
    )
    known = {}
    for path, size, mtime_ns, ctime_ns, is_listed in rows:
        file = text_path(path)
        # One that may hold several images is known when all of them are recorded.
        if is_listed or not (container_of(file) != file or file.lower().endswith(WITH_MEMBERS)):
            known[file] = Sighting(file, size, mtime_ns, ctime_ns)
    return known


def waiting_files(db: Ledger, watch: str, now: datetime) -> list[tuple[Sighting, float]]:
    """Return the incomplete files of a watched folder, and how long they have waited, in s.

    Of those that were given up it is infinite: they stay so, and are looked at once more.
    """
    sql = """
        SELECT relative_path, size, mtime_ns, ctime_ns, state, state_since FROM acquisitions
        WHERE watch = ? AND fingerprint = '' AND state IN ('waiting', 'interrupted')
              AND superseded_by IS NULL
    """
    found = []
    for path, size, mtime_ns, ctime_ns, state, since in db.execute(sql, [watch]).fetchall():
        waited = (now - datetime.fromisoformat(since)).total_seconds()
        if state == AcquisitionState.INTERRUPTED:
            waited = math.inf
        found.append((Sighting(text_path(path), size, mtime_ns, ctime_ns), max(0.0, waited)))
    return found


def was_scanned(db: Ledger, watch: str) -> bool:
    """Say whether a watched folder was listed before."""
    sql = "SELECT 1 FROM folders WHERE name = ? AND scanned_at IS NOT NULL"
    return db.execute(sql, [watch]).fetchone() is not None


def offline_folders(db: Ledger) -> list[str]:
    """Return the watched folders that could not be listed the last time."""
    return [n for (n,) in db.execute("SELECT name FROM folders WHERE state = 'offline'").fetchall()]


def n_in_state(db: Ledger, state: AcquisitionState) -> int:
    """Return how many acquisitions are in a state."""
    sql = "SELECT count(*) FROM acquisitions WHERE state = ? AND superseded_by IS NULL"
    return int(db.execute(sql, [state.value]).fetchone()[0])


def is_busy(db: Ledger) -> bool:
    """Say whether an image waits or is being segmented, or a training runs."""
    sql = f"""
        SELECT EXISTS (SELECT 1 FROM acquisitions
                       WHERE superseded_by IS NULL
                             AND (state = 'running' OR (state = 'queued' AND {NOT_PAUSED})))
               OR EXISTS (SELECT 1 FROM runs WHERE state = 'running')
    """
    return bool(db.execute(sql).fetchone()[0])


def _stem_text(stem: str) -> str:
    return path_text(stem_key(f"{stem}.x"))
