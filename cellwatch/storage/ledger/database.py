"""Open the ledger: one SQLite database per station."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database

from cellwatch.errors import LedgerBroken, LedgerTooNew
from cellwatch.storage.ledger.migrations import migrations
from cellwatch.storage.reports.station import LEDGER

BUSY_TIMEOUT_S = 30.0


def open_ledger(state: Path, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Database:
    """Open the ledger of a state folder for writing, creating or migrating it as needed.

    Parameters
    ----------
    state : Path
    busy_timeout_s : float
        For how long a statement waits for another process that holds the ledger.

    Raises
    ------
    LedgerTooNew
        When a newer cellwatch wrote it; nothing is changed then.
    LedgerBroken
        When it is not a database any more.
    sqlite3.OperationalError
        When another process holds it for longer, or the disk is full.
    """
    state.mkdir(parents=True, exist_ok=True)
    path = state / LEDGER
    try:
        return _opened(path, busy_timeout_s)
    except sqlite3.OperationalError:
        raise  # locked, or the disk: nothing is wrong with the ledger itself
    except sqlite3.DatabaseError as error:
        raise LedgerBroken(
            f"{path} is damaged ({error}); start the daemon: it sets it aside and continues with "
            "the newest backup"
        ) from error


def _opened(path: Path, busy_timeout_s: float) -> Database:
    is_new = not path.exists()
    db = Database(path)
    db.conn.execute(f"PRAGMA busy_timeout = {round(busy_timeout_s * 1000)}")
    if not is_new:
        _refuse_newer(db, path)
    db.conn.execute("PRAGMA journal_mode = WAL")
    db.conn.execute("PRAGMA synchronous = FULL")
    db.conn.execute("PRAGMA foreign_keys = ON")
    if migrations.pending(db):
        _back_up(db, path, is_new=is_new)
        migrations.apply(db)
        db.conn.execute(f"PRAGMA user_version = {len(migrations.applied(db))}")
    if path.stat().st_uid == os.geteuid():
        _share_with_group(path)
    # Statements run at once; what belongs together goes into `transaction`.
    db.conn.isolation_level = None
    return db


@contextmanager
def transaction(db: Database) -> Iterator[None]:
    """Run the block's statements as one: all of them or, after an error, none.

    Within another transaction it is a part of that one, and comes to pass with it.
    """
    if db.conn.in_transaction:
        yield
        return
    db.conn.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.conn.execute("COMMIT")
    except BaseException:
        # A full disk may have made SQLite roll back already.
        if db.conn.in_transaction:
            db.conn.execute("ROLLBACK")
        raise


def _share_with_group(path: Path) -> None:
    # SQLite makes files that the owner alone may write. Members of the group use the verbs that
    # write where the process's umask gives the group that right, as the unit's does. Its journals
    # get the rights of the database.
    mask = os.umask(0)
    os.umask(mask)
    if not mask & 0o020:
        for ending in ("", "-wal", "-shm"):
            part = path.with_name(f"{path.name}{ending}")
            if part.exists():
                part.chmod(part.stat().st_mode | 0o060)


def _refuse_newer(db: Database, path: Path) -> None:
    known = {migration.name for migration in migrations.pending(Database(memory=True))}
    if newer := sorted({migration.name for migration in migrations.applied(db)} - known):
        raise LedgerTooNew(
            f"{path} was written by a newer cellwatch (it has {newer[-1]}); upgrade this one"
        )


def _back_up(db: Database, path: Path, *, is_new: bool) -> None:
    if is_new or not db.table_names():
        return
    version = db.conn.execute("PRAGMA user_version").fetchone()[0]
    target = path.with_name(f"{path.stem}.before-{version + 1:03d}.db")
    if not target.exists():
        db.conn.execute("VACUUM INTO ?", [str(target)])
