"""What was handed out to be corrected, found again by the name of what comes back.

By its short id; what was handed out before there were ids, by its stem.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cellwatch.files.stems import stem_key
from cellwatch.records import Checkout
from cellwatch.storage.ledger.acquisitions import iso
from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.ledger.rows import first, records

if TYPE_CHECKING:
    from sqlite_utils import Database


def record(db: "Database", made: Mapping[str, Any], now: datetime) -> None:  # Any: columns
    """Record what was taken out, as `take_out` describes it."""
    row = {**made, "stem": _text(made["stem"]), "checked_out_at": iso(now)}
    db.table("checkouts").insert(row)


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
    """Return what was handed out under a name of a file, whatever it holds now; latest first."""
    wanted = [_text(stem) for stem in stems]
    sql = f"""
        SELECT c.* FROM checkouts c JOIN acquisitions a ON a.id = c.acquisition_id
        WHERE c.stem IN ({",".join("?" * len(wanted))}) AND c.is_mirrored = 0
              AND a.watch = ? AND a.relative_path = ? ORDER BY c.id DESC
    """
    return records(db, Checkout, sql, [*wanted, watch, relative_path])


def with_short_id(db: sqlite3.Connection, short_id: str) -> Checkout | None:
    """Return the checkout with an id; None: there is none."""
    return first(db, Checkout, "SELECT * FROM checkouts WHERE short_id = ?", [short_id])


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
