"""Read-only reports from the ledger, with the standard library alone, so that they start fast."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cellwatch.errors import LedgerBroken, LedgerMissing, LedgerOutdated
from cellwatch.records import AcquisitionState, DaemonState
from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.ledger.version import VERSION

LEDGER = "cellwatch.db"  # in the state folder
# Keys of the table `station` that `status` shows.
RELOAD_ERROR = "reload_error"
LEDGER_MENDED = "ledger_mended"
DEAD_AFTER = timedelta(seconds=30)  # without a heartbeat
MADE_WITHIN_S = 5.0  # a ledger has all its tables; the first start of a station makes it

Row = dict[str, Any]  # Any: what SQLite holds


@contextmanager
def reader(ledger: Path) -> Iterator[sqlite3.Connection]:
    """Open a ledger for reading only; one that is being made is waited for.

    Raises
    ------
    LedgerMissing
        When there is none: no daemon has run in this state folder yet.
    LedgerOutdated
        When it lacks what is asked for, since the daemon of this version has not run yet.
    """
    if not ledger.is_file():
        raise LedgerMissing(f"there is no ledger at {ledger}; start the daemon: cellwatch run")
    connection = sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True, timeout=30)
    connection.row_factory = sqlite3.Row
    try:
        _await_tables(connection, time.monotonic() + MADE_WITHIN_S)
        yield connection
    except sqlite3.OperationalError as error:
        if "no such" in str(error) and _version(connection) < VERSION:
            raise LedgerOutdated(
                f"{ledger} was written by an earlier version of cellwatch; restart the daemon "
                "(cellwatch run): it brings the ledger up to date and loses nothing"
            ) from error
        raise LedgerBroken(f"{ledger} cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        raise LedgerBroken(f"{ledger} cannot be read: {error}") from error
    finally:
        connection.close()


def _await_tables(connection: sqlite3.Connection, until: float) -> None:
    # The version is written last.
    while not _version(connection) and time.monotonic() < until:
        time.sleep(0.05)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def counts(db: sqlite3.Connection) -> dict[str, int]:
    """Count the acquisitions in every state, also when 0; superseded ones are left out."""
    found = dict(
        db.execute(
            "SELECT state, count(*) FROM acquisitions WHERE superseded_by IS NULL GROUP BY state"
        ).fetchall()
    )
    return {state.value: int(found.get(state.value, 0)) for state in AcquisitionState}


def daemon(db: sqlite3.Connection) -> Row:
    """Return what the daemon last said of itself; empty when it never ran."""
    row = db.execute("SELECT * FROM daemon WHERE id = 1").fetchone()
    return dict(row) if row else {}


def daemon_state(facts: Row, now: datetime, *, is_locked: bool) -> DaemonState:
    """Judge whether the daemon is what it last said it is."""
    if not facts or facts["state"] == DaemonState.STOPPED:
        return DaemonState.STOPPED
    age = now - datetime.fromisoformat(facts["heartbeat_at"])
    if not is_locked or age > DEAD_AFTER:
        return DaemonState.DEAD
    return DaemonState(facts["state"])


def told(db: sqlite3.Connection, key: str) -> str:
    """Return a fact of the station that `status` shows; "": there is none."""
    sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'station'"
    if db.execute(sql).fetchone() is None:
        return ""
    row = db.execute("SELECT value FROM station WHERE key = ?", [key]).fetchone()
    return str(row[0]) if row else ""


def folders(db: sqlite3.Connection) -> list[Row]:
    """Return the watched folders."""
    sql = "SELECT * FROM folders WHERE state != 'unwatched' ORDER BY name"
    return [dict(row) for row in db.execute(sql)]


def in_flight(db: sqlite3.Connection) -> list[Row]:
    """Return the acquisitions being segmented now."""
    columns = "id, path, started_at, claimed_by, attempts"
    sql = f"SELECT {columns} FROM acquisitions WHERE state = 'running'"
    return [dict(row) for row in db.execute(sql)]


def recent_failures(db: sqlite3.Connection, limit: int = 5) -> list[Row]:
    """Return the latest acquisitions that someone should look at."""
    sql = "SELECT * FROM failures ORDER BY state_since DESC LIMIT ?"
    return [dict(row) for row in db.execute(sql, [limit])]


def waiting(db: sqlite3.Connection, limit: int = 5) -> list[Row]:
    """Return the files that are there and incomplete, those that wait longest first."""
    sql = """
        SELECT id, path, state, reason, state_since FROM acquisitions
        WHERE state = 'waiting' ORDER BY id LIMIT ?
    """
    return [dict(row) for row in db.execute(sql, [limit])]


def speed(db: sqlite3.Connection, last: int = 100) -> Row:
    """Return how many ROIs and seconds the latest acquisitions took."""
    row = db.execute(
        """
        WITH latest AS (
            SELECT id, seconds FROM acquisitions
            WHERE state = 'done' AND superseded_by IS NULL ORDER BY id DESC LIMIT ?
        )
        SELECT count(*) AS acquisitions, avg(seconds) AS seconds,
               (SELECT sum(rois) FROM targets
                WHERE acquisition_id IN (SELECT id FROM latest)) AS rois
        FROM latest
        """,
        [last],
    ).fetchone()
    return dict(row)


def acquisitions_at(db: sqlite3.Connection, path: str) -> list[Row]:
    """Return what is known of a file, newest first, with targets and attempts."""
    sql = "SELECT * FROM acquisitions WHERE path = ? OR store = ? ORDER BY id DESC"
    return [_whole(db, row) for row in db.execute(sql, [path, path]).fetchall()]


def acquisitions_named(db: sqlite3.Connection, name: str) -> list[Row]:
    """Return what is known of files of a name, in whatever folder, newest first."""
    sql = """
        SELECT * FROM acquisitions
        WHERE relative_path = ? OR substr(relative_path, -length(?)) = ? ORDER BY id DESC
    """
    return [_whole(db, row) for row in db.execute(sql, [name, f"/{name}", f"/{name}"]).fetchall()]


def finished(db: sqlite3.Connection) -> Iterator[Row]:
    """Yield every acquisition whose masks are recorded, whatever became of it, with its targets."""
    sql = "SELECT * FROM acquisitions WHERE finished_at IS NOT NULL ORDER BY id"
    for row in db.execute(sql).fetchall():
        yield _whole(db, row)


def finished_stores(
    db: sqlite3.Connection, after: int, limit: int
) -> list[tuple[int, str, str, str]]:
    """Return id, store, time and mark of acquisitions that are done, from an id on."""
    sql = """
        SELECT id, store, finished_at, coalesce(output_mark, '') FROM acquisitions
        WHERE finished_at IS NOT NULL AND state != 'running' AND superseded_by IS NULL AND id > ?
        ORDER BY id LIMIT ?
    """
    return [tuple(row) for row in db.execute(sql, [after, limit])]


def segmented_since(db: sqlite3.Connection, experiment: str, since: str) -> Iterator[Row]:
    """Yield watch, experiment, path and store of what was segmented, in the order of the images.

    Parameters
    ----------
    experiment : str
        "": all.
    since : str
        A time of the ledger; "": from the beginning.
    """
    sql = """
        SELECT watch, experiment, path, store FROM acquisitions
        WHERE state = 'done' AND superseded_by IS NULL AND ? IN ('', experiment)
              AND (? = '' OR finished_at >= ?) ORDER BY id
    """
    for row in db.execute(sql, [path_text(experiment), since, since]):
        yield dict(row)


def all_paths(db: sqlite3.Connection) -> dict[str, list[Row]]:
    """Return id, state and store of all acquisitions that are not superseded, by path."""
    found: dict[str, list[Row]] = {}
    sql = "SELECT id, path, state, store FROM acquisitions WHERE superseded_by IS NULL"
    for row in db.execute(sql):
        found.setdefault(row["path"], []).append(dict(row))
    return found


def _whole(db: sqlite3.Connection, row: sqlite3.Row) -> Row:
    key = [row["id"]]
    targets = [dict(t) for t in db.execute("SELECT * FROM targets WHERE acquisition_id = ?", key)]
    for target in targets:
        for column in ("params", "channels", "notes", "choice"):
            # A ledger that no daemon of this version has opened lacks the newer columns.
            target[column] = json.loads(target[column]) if target.get(column) else None
    attempts = db.execute("SELECT * FROM attempts WHERE acquisition_id = ? ORDER BY id", key)
    return {**dict(row), "targets": targets, "attempts_made": [dict(a) for a in attempts]}
