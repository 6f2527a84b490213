"""Open the ledger: one SQLite database per station."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database

from cellwatch.errors import LedgerTooNew
from cellwatch.storage.migrations import migrations
from cellwatch.storage.reading import LEDGER

BUSY_TIMEOUT_S = 30


def open_ledger(state: Path) -> Database:
    """Open the ledger of a state folder for writing, creating or migrating it as needed.

    Raises
    ------
    LedgerTooNew
        When a newer cellwatch wrote it; nothing is changed then.
    """
    state.mkdir(parents=True, exist_ok=True)
    path = state / LEDGER
    is_new = not path.exists()
    db = Database(path)
    db.conn.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    if not is_new:
        _refuse_newer(db, path)
    db.conn.execute("PRAGMA journal_mode = WAL")
    db.conn.execute("PRAGMA synchronous = FULL")
    db.conn.execute("PRAGMA foreign_keys = ON")
    if migrations.pending(db):
        _back_up(db, path, is_new=is_new)
        migrations.apply(db)
        db.conn.execute(f"PRAGMA user_version = {len(migrations.applied(db))}")
    # Statements run at once; what belongs together stands in `transaction`.
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
    except BaseException:
        db.conn.execute("ROLLBACK")
        raise
    db.conn.execute("COMMIT")


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
