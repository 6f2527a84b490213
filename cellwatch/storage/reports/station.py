"""Read-only reports from the ledger, with the standard library alone, so that they start fast."""

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cellwatch.errors import LedgerBroken, LedgerMissing, LedgerOutdated
from cellwatch.records import AcquisitionState, DaemonState
from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.ledger.rows import first, records
from cellwatch.storage.ledger.version import VERSION

LEDGER = "cellwatch.db"  # in the state folder
# Keys of the table `station` that `status` shows.
RELOAD_ERROR = "reload_error"
LEDGER_MENDED = "ledger_mended"
DISK = "disk"
DEAD_AFTER = timedelta(seconds=30)  # without a heartbeat
EVER = "1970-01-01T00:00:00+00:00"  # before any heartbeat
MADE_WITHIN_S = 5.0  # a ledger has all its tables; the first start of a station makes it


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


def has_loop(db: sqlite3.Connection) -> bool:
    """Say whether a daemon of this version has opened the ledger."""
    sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'corrections'"
    return db.execute(sql).fetchone() is not None


@dataclass(frozen=True, slots=True)
class UnreadKind:
    """Files that look like images and are not read: their suffix, how many, and one of them."""

    suffix: str
    files: int
    example: str


def unread(db: sqlite3.Connection) -> list[UnreadKind]:
    """Return the files that look like images and are not read: by suffix, how many, and one."""
    if not has_marks(db):
        return []
    sql = """
        SELECT u.suffix, sum(u.files) AS files, min(f.path || '/' || u.example) AS example
        FROM unread u JOIN folders f ON f.name = u.watch AND f.state != 'unwatched'
        GROUP BY u.suffix ORDER BY u.suffix
    """
    return records(db, UnreadKind, sql)


def has_marks(db: sqlite3.Connection) -> bool:
    """Say whether a daemon of this version has opened the ledger."""
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'unread'").fetchone() is not None


def counts(db: sqlite3.Connection) -> dict[str, int]:
    """Count the acquisitions in every state, also when 0; superseded ones are left out."""
    found = dict(
        db.execute(
            "SELECT state, count(*) FROM acquisitions WHERE superseded_by IS NULL GROUP BY state"
        ).fetchall()
    )
    return {state.value: int(found.get(state.value, 0)) for state in AcquisitionState}


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonFacts:
    """What the daemon last said of itself."""

    id: int
    state: DaemonState
    pid: int | None
    host: str | None
    boot_id: str | None
    version: str | None
    device: str | None
    config: str | None
    workers: tuple[Mapping[str, Any], ...] | None  # Any: JSON
    started_at: str | None
    heartbeat_at: str | None
    stopped_at: str | None
    trouble: str | None = None
    precision: str | None = None


def daemon(db: sqlite3.Connection) -> DaemonFacts | None:
    """Return what the daemon last said of itself; None: it never ran."""
    return first(db, DaemonFacts, "SELECT * FROM daemon WHERE id = 1")


def daemon_state(facts: DaemonFacts | None, now: datetime, *, is_locked: bool) -> DaemonState:
    """Judge whether the daemon is what it last said it is."""
    if facts is None or facts.state == DaemonState.STOPPED:
        return DaemonState.STOPPED
    age = now - datetime.fromisoformat(facts.heartbeat_at or EVER)
    if not is_locked or age > DEAD_AFTER:
        return DaemonState.DEAD
    return facts.state


def last_change(db: sqlite3.Connection) -> str:
    """Return what differs after anything happened to an image, a flag, a correction or a model."""
    people = ("flags", "checkouts", "corrections")
    highest = ("acquisitions", "attempts", *people, "runs", "promotions")
    found = [db.execute(f"SELECT max(id) FROM {table}").fetchone()[0] for table in highest]
    running = db.execute("SELECT count(*) FROM acquisitions WHERE state = 'running'").fetchone()
    lowered = db.execute("SELECT count(*) FROM flags WHERE lowered_at IS NOT NULL").fetchone()
    return repr([*found, running[0], lowered[0]])


def told(db: sqlite3.Connection, key: str) -> str:
    """Return a fact of the station that `status` shows; "": there is none."""
    sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'station'"
    if db.execute(sql).fetchone() is None:
        return ""
    row = db.execute("SELECT value FROM station WHERE key = ?", [key]).fetchone()
    return str(row[0]) if row else ""


@dataclass(frozen=True, slots=True)
class WatchedFolder:
    """A watched folder as it was last listed."""

    name: str
    path: str
    state: str
    reason: str | None
    scanned_at: str | None
    files: int | None
    due_at: str | None = None


def folders(db: sqlite3.Connection) -> list[WatchedFolder]:
    """Return the watched folders."""
    sql = "SELECT * FROM folders WHERE state != 'unwatched' ORDER BY name"
    return records(db, WatchedFolder, sql)


@dataclass(frozen=True, slots=True)
class InFlight:
    """An acquisition that is being segmented."""

    id: int
    path: str
    started_at: str
    claimed_by: str | None
    attempts: int


def in_flight(db: sqlite3.Connection) -> list[InFlight]:
    """Return the acquisitions being segmented now."""
    columns = "id, path, started_at, claimed_by, attempts"
    sql = f"SELECT {columns} FROM acquisitions WHERE state = 'running'"
    return records(db, InFlight, sql)


@dataclass(frozen=True, slots=True)
class Failure:
    """An acquisition that someone should look at."""

    id: int
    path: str
    state: AcquisitionState
    reason: str | None
    attempts: int
    retry_at: str | None
    state_since: str


def recent_failures(db: sqlite3.Connection, now: datetime, limit: int = 5) -> list[Failure]:
    """Return the latest acquisitions that someone should look at."""
    # What was taken away is told for a day; after that it is one of a number.
    sql = """
        SELECT * FROM failures WHERE state != 'missing' OR state_since > ?
        ORDER BY state_since DESC LIMIT ?
    """
    yesterday = (now - timedelta(days=1)).isoformat()
    return records(db, Failure, sql, [yesterday, limit])


@dataclass(frozen=True, slots=True)
class TroubleCount:
    """Files that are not segmented for one reason: in what state, how many, and one of them."""

    state: AcquisitionState
    reason: str | None
    files: int
    example: str


def troubles(db: sqlite3.Connection, limit: int) -> list[TroubleCount]:
    """Return why files are not segmented, the reasons of most files first."""
    sql = """
        SELECT state, reason, count(*) AS files, min(path) AS example FROM acquisitions
        WHERE superseded_by IS NULL
        AND state IN ('failed', 'quarantined', 'blocked', 'interrupted')
        GROUP BY state, reason ORDER BY files DESC, reason LIMIT ?
    """
    return records(db, TroubleCount, sql, [limit])


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A file that is there and not whole yet."""

    id: int
    path: str
    state: AcquisitionState
    reason: str | None
    state_since: str


def waiting(db: sqlite3.Connection, limit: int = 5) -> list[Incomplete]:
    """Return the files that are there and incomplete, those that wait longest first."""
    sql = """
        SELECT id, path, state, reason, state_since FROM acquisitions
        WHERE state = 'waiting' ORDER BY id LIMIT ?
    """
    return records(db, Incomplete, sql, [limit])


def finished_stores(
    db: sqlite3.Connection, after: int, limit: int
) -> list[tuple[int, str, str, str]]:
    """Return id, store, time and mark of acquisitions that are done, from an id on."""
    sql = """
        SELECT id, store, finished_at, coalesce(output_mark, '') FROM acquisitions
        WHERE finished_at IS NOT NULL AND state != 'running' AND superseded_by IS NULL
              AND former_store IS NULL AND id > ?
        ORDER BY id LIMIT ?
    """
    return [tuple(row) for row in db.execute(sql, [after, limit])]


@dataclass(frozen=True, slots=True)
class Segmented:
    """Where an acquisition and its masks lie."""

    watch: str
    experiment: str
    path: str
    store: str
    plate: str | None = None
    well: str | None = None
    field: int | None = None


def segmented_since(db: sqlite3.Connection, experiment: str, since: str) -> list[Segmented]:
    """Return what was segmented, in the order of the images.

    Parameters
    ----------
    experiment : str
        "": all.
    since : str
        A time of the ledger; "": from the beginning.
    """
    sql = """
        SELECT * FROM acquisitions
        WHERE state = 'done' AND superseded_by IS NULL AND ? IN ('', experiment)
              AND (? = '' OR finished_at >= ?) ORDER BY id
    """
    return records(db, Segmented, sql, [path_text(experiment), since, since])
