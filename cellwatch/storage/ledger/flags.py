"""Flags: a person's "look at this one", for images that are known and such as are yet to come."""

from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import PurePosixPath

from sqlite_utils import Database

from cellwatch.files.members import image_name
from cellwatch.files.stems import meant_by, name_key, stem_key
from cellwatch.records import Acquisition
from cellwatch.storage.ledger.acquisitions import iso
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.lookup import CURRENT
from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.ledger.rows import records

NAMED = 3  # images that a mistyped name may have meant
LIKELY = 5000  # images, the newest, among which a mistyped name is looked for


@dataclass(frozen=True, slots=True)
class Flag:
    """What a person says of an image.

    Attributes
    ----------
    name : str
        Of the image: a path, a file name, or a stem.
    why : str
    roi : int or None
    raised_by : str
    file : str
        In the flags folder; "": it was raised by a command.
    mtime_ns : int
        Of the file.
    """

    name: str
    why: str = ""
    roi: int | None = None
    raised_by: str = ""
    file: str = ""
    mtime_ns: int = 0


def raise_flag(db: Database, flag: Flag, now: datetime) -> list[int] | None:
    """Record a flag on every image that its name means; return their acquisitions.

    None: this file raised its flag before.

    One whose image is not known yet waits for it. An existing flag gets the new words. A
    file that lies there since before raises nothing again, also when its flag was lowered.
    """
    with transaction(db):
        already = "file = ? AND mtime_ns = ?"
        if flag.file and db.table("flags").count_where(
            already, [path_text(flag.file), flag.mtime_ns]
        ):
            return None
        found = acquisitions_named(db, flag.name)
        for acquisition in found:
            _raise_one(db, flag, acquisition, now)
        if not found:
            _raise_one(db, flag, None, now)
    return found


def lower_flag(db: Database, name: str, why: str, now: datetime) -> int:
    """Take the flags off an image; return how many there were."""
    with transaction(db):
        keys = acquisitions_named(db, name, is_every=True)
        marks = ",".join("?" * len(keys))
        sql = f"""
            UPDATE flags SET lowered_at = ?, lowered_why = ? WHERE lowered_at IS NULL
            AND (acquisition_id IN ({marks}) OR (acquisition_id IS NULL AND name = ?))
        """
        return int(db.execute(sql, [iso(now), why, *keys, path_text(name)]).rowcount)


def lower_on(db: Database, acquisition_id: int, why: str, now: datetime) -> None:
    """Take the flags off an acquisition that was corrected, and off what its file held before.

    Inside a transaction.
    """
    db.execute(
        "UPDATE flags SET lowered_at = ?, lowered_why = ?, is_lowered_by_correction = 1 "
        "WHERE lowered_at IS NULL AND acquisition_id IN (SELECT o.id FROM acquisitions o "
        "JOIN acquisitions a ON o.watch = a.watch AND o.path = a.path WHERE a.id = ?)",
        [iso(now), why, acquisition_id],
    )


def match_waiting(db: Database) -> int:
    """Give flags that wait for their image the acquisition that has come; return how many."""
    rows = db.execute(
        "SELECT id, name FROM flags WHERE acquisition_id IS NULL AND lowered_at IS NULL"
    ).fetchall()
    matched = 0
    for key, name in rows:
        with transaction(db):
            if found := acquisitions_named(db, name):
                db.table("flags").update(key, {"acquisition_id": found[0]})
                matched += 1
    return matched


def acquisitions_named(db: Database, name: str, *, is_every: bool = False) -> list[int]:
    """Return the acquisitions that a path, a file name or a stem means.

    The current ones, or every one, also those that were overwritten.
    """
    current = "1" if is_every else CURRENT
    sql = f"""
        SELECT a.* FROM acquisitions a
        WHERE {current} AND a.stem IN (?, ?, ?) ORDER BY a.id
    """
    stems = [path_text(stem_key(n)) for n in (f"{name}.x", name, image_name(name))]
    return [row.id for row in meant_by(path_text(name), records(db, Acquisition, sql, stems))]


def resembling(db: Database, name: str) -> list[str]:
    """Return the file names of at most three images whose stem is nearly that of a name."""
    sql = f"SELECT a.stem, a.path FROM acquisitions a WHERE {CURRENT} ORDER BY a.id DESC LIMIT ?"
    files: dict[str, str] = {}  # by stem, and by all of the name: either may be what was mistyped
    for stem, path in db.execute(sql, [LIKELY]).fetchall():
        file = PurePosixPath(path)
        files |= {stem: file.name, name_key(file.stem): file.name}
    near = get_close_matches(path_text(stem_key(name)), list(files), 2 * NAMED, cutoff=0.75)
    return list(dict.fromkeys(files[key] for key in near))[:NAMED]


def _raise_one(db: Database, flag: Flag, acquisition: int | None, now: datetime) -> None:
    sql = "lowered_at IS NULL AND roi IS ? AND raised_by = ? AND "
    sql += (
        "acquisition_id = ?" if acquisition is not None else "acquisition_id IS NULL AND name = ?"
    )
    last = acquisition if acquisition is not None else path_text(flag.name)
    standing = next(db.table("flags").rows_where(sql, [flag.roi, flag.raised_by, last]), None)
    facts = {"why": flag.why or None}
    if standing:
        if flag.why:
            db.table("flags").update(standing["id"], facts)
        return
    db.table("flags").insert(
        {
            "acquisition_id": acquisition,
            "name": path_text(flag.name),
            **facts,
            "roi": flag.roi,
            "raised_by": flag.raised_by,
            "file": path_text(flag.file) or None,
            "mtime_ns": flag.mtime_ns or None,
            "raised_at": iso(now),
        }
    )
