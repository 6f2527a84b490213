"""Backups of the ledger, and what is done when the ledger is damaged.

A damaged ledger is set aside, never deleted, and the newest sound backup takes its place. What came
since that backup is found again: files by the scan, masks by the provenance in their stores,
corrections by the files in their folder.
"""

import re
import shutil
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from cellwatch.files.atomic import flush
from cellwatch.storage.reports.station import LEDGER

BACKUPS, DAMAGED = "backups", "damaged"  # below the state folder
KEPT = 7
EVERY = timedelta(hours=20)  # a little less than a day: a station that runs by day has one a day
STAMP = "%Y%m%dT%H%M%SZ"
NAME = re.compile(r"cellwatch-\d{8}T\d{6}Z\.db")
COMPANIONS = ("", "-wal", "-shm")  # files of one SQLite database


def back_up_if_due(state: Path, now: datetime) -> Path | None:
    """Write a backup of the ledger unless there is a recent one; remove the oldest beyond seven.

    Parameters
    ----------
    state : Path
    now : datetime
        In UTC.

    Raises
    ------
    OSError, sqlite3.Error
        When it cannot be written or read; what was begun is removed.
    """
    folder = state / BACKUPS
    # One of the future was made by a clock that was wrong.
    if any(timedelta() <= now - _moment(known) < EVERY for known in backups(state)):
        return None
    folder.mkdir(exist_ok=True)
    target = folder / f"cellwatch-{now.strftime(STAMP)}.db"
    aside = folder / f".{target.name}.partial"
    try:
        with closing(_reading(state / LEDGER)) as source, closing(sqlite3.connect(aside)) as copy:
            source.backup(copy, pages=1000, sleep=0.01)
        if why := why_damaged(aside):
            raise sqlite3.DatabaseError(f"the ledger is damaged ({why}): the last backups are kept")
        flush(aside)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    for old in backups(state)[:-KEPT]:
        old.unlink(missing_ok=True)
    return target


def backups(state: Path) -> list[Path]:
    """Return the backups of a ledger, the oldest first; files of other names are left alone."""
    found = (state / BACKUPS).glob("cellwatch-*.db")
    return sorted(path for path in found if NAME.fullmatch(path.name))


def mend(state: Path, now: datetime) -> str:
    """Put a sound ledger in the place of a damaged one; say what was done, "" when nothing was.

    Parameters
    ----------
    state : Path
    now : datetime
        In UTC; names the damaged one.

    Returns
    -------
    str
        For people: what was wrong, where it lies now, and what took its place.
    """
    path = state / LEDGER
    why = why_damaged(path) if path.exists() else "it is not there"
    if not why:
        return ""
    sound = [backup for backup in backups(state) if not why_damaged(backup)]
    if (not path.exists() and not sound) or (_is_empty(path) and not sound):
        return ""  # a station that begins has no ledger
    aside = state / DAMAGED
    if path.exists():
        aside.mkdir(exist_ok=True)
    stamp = now.strftime(STAMP)
    for ending in COMPANIONS:
        part = path.with_name(f"{path.name}{ending}")
        if part.exists():
            part.rename(aside / f"cellwatch-{stamp}.db{ending}")
    told = f"the ledger was damaged ({why})"
    if aside.exists() and why != "it is not there":
        told += f" and lies in {aside} now"
    if not sound:
        return f"{told}; there was no backup: a new one is made from the files and mask stores"
    _put_in_place(sound[-1], path)
    return (
        f"{told}; the backup of {_moment(sound[-1]):%Y-%m-%d %H:%M} UTC took its place. Images, "
        "masks and corrections that came since are found again; promotions since then are not"
    )


def why_damaged(path: Path) -> str:
    """Say why a file is not a sound SQLite database; "" when it is one."""
    if _is_empty(path):
        return "it is empty"
    try:
        with closing(_reading(path)) as db:
            told = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        # Locked, or a disk that fails: that is not the database's damage.
        return "" if error.sqlite_errorcode != sqlite3.SQLITE_CORRUPT else str(error)
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if told == "ok" else told.splitlines()[0]


def _is_empty(path: Path) -> bool:
    return path.exists() and path.stat().st_size == 0


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=5.0)


def _put_in_place(backup: Path, path: Path) -> None:
    aside = path.with_name(f".{path.name}.partial")
    shutil.copyfile(backup, aside)
    flush(aside)
    aside.replace(path)


def _moment(backup: Path) -> datetime:
    return datetime.strptime(f"{backup.stem[len('cellwatch-') :]}+0000", f"{STAMP}%z")
