"""What was handed out to be corrected, found again by the name of what comes back.

By its short id; what was handed out before there were ids, by its stem.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cellwatch.errors import RequestRefused
from cellwatch.files.stems import stem_key
from cellwatch.records import Checkout
from cellwatch.storage.ledger.acquisitions import iso
from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.ledger.rows import Ledger, first, records

if TYPE_CHECKING:
    from sqlite_utils import Database


def record(db: "Database", made: Mapping[str, Any], now: datetime) -> None:  # Any: columns
    """Record what was taken out, as `take_out` describes it.

    Raises
    ------
    RequestRefused
        When another checkout was given the same short id at the same moment.
    """
    row = {key: value for key, value in made.items() if key != "name"}  # stem and short id are it
    row |= {"stem": _text(made["stem"]), "checked_out_at": iso(now)}
    try:
        db.table("checkouts").insert(row)
    except sqlite3.IntegrityError as error:
        raise RequestRefused(
            f"{made['folder']} cannot be recorded ({error}); remove it and take the image out again"
        ) from error


def handed_out_as(db: sqlite3.Connection, stems: Iterable[str], kind: str, file: str) -> set[int]:
    """Return the acquisitions that were handed out under a name without an id and are still out.

    One that came back as another file, and was accepted, is done with.

    Parameters
    ----------
    stems : iterable of str
        What the name may mean.
    kind : str
        Of the correction: labels or region.
    file : str
        The file that has come, as the ledger has it.
    """
    wanted = [_text(stem) for stem in stems]
    sql = f"""
        SELECT DISTINCT acquisition_id FROM checkouts k
        WHERE stem IN ({",".join("?" * len(wanted))}) AND is_mirrored = 0 AND short_id IS NULL
        AND (NOT EXISTS (SELECT 1 FROM corrections c WHERE c.checkout_id = k.id AND c.kind = ?
                         AND c.state IN ('trainable', 'used', 'superseded'))
             OR EXISTS (SELECT 1 FROM corrections c WHERE c.checkout_id = k.id AND c.file = ?))
    """
    return {key for (key,) in db.execute(sql, [*wanted, kind, file]).fetchall()}


def of_file(
    db: sqlite3.Connection, stems: Iterable[str], watch: str, relative_path: str
) -> list[Checkout]:
    """Return what was handed out of a file under a name without an id, latest first.

    Whatever the file holds now.
    """
    wanted = [_text(stem) for stem in stems]
    sql = f"""
        SELECT c.* FROM checkouts c JOIN acquisitions a ON a.id = c.acquisition_id
        WHERE c.stem IN ({",".join("?" * len(wanted))}) AND c.is_mirrored = 0
              AND c.short_id IS NULL AND a.watch = ? AND a.relative_path = ? ORDER BY c.id DESC
    """
    return records(db, Checkout, sql, [*wanted, watch, relative_path])


def with_short_id(db: sqlite3.Connection, short_id: str) -> Checkout | None:
    """Return the checkout with an id; None: there is none."""
    return first(db, Checkout, "SELECT * FROM checkouts WHERE short_id = ?", [short_id])


def short_ids_of_file(db: Ledger, acquisition_id: int) -> set[str]:
    """Return the ids of all checkouts of an acquisition's file, whatever it held then."""
    sql = """
        SELECT c.short_id FROM acquisitions now
        JOIN acquisitions a ON a.watch = now.watch AND a.relative_path = now.relative_path
        JOIN checkouts c ON c.acquisition_id = a.id
        WHERE now.id = ? AND c.short_id IS NOT NULL
    """
    return {key for (key,) in db.execute(sql, [acquisition_id]).fetchall()}


def short_ids(db: sqlite3.Connection) -> set[str]:
    """Return the ids that are taken."""
    sql = "SELECT short_id FROM checkouts WHERE short_id IS NOT NULL"
    return {key for (key,) in db.execute(sql).fetchall()}


def latest(db: sqlite3.Connection, stem: str) -> Checkout | None:
    """Return what was handed out last under a stem without an id; None: nothing was."""
    sql = "SELECT * FROM checkouts WHERE stem = ? AND short_id IS NULL ORDER BY id DESC LIMIT 1"
    return first(db, Checkout, sql, [_text(stem)])


def _text(stem: str) -> str:
    return path_text(stem_key(f"{stem}.x"))
