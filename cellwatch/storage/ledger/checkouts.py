"""What was handed out to be corrected, found again by the name of what comes back."""

import sqlite3
from collections.abc import Iterable
from typing import Any

from cellwatch.files.stems import stem_key
from cellwatch.storage.ledger.path_text import path_text

Row = dict[str, Any]  # Any: what SQLite holds


def handed_out_as(db: sqlite3.Connection, stems: Iterable[str], kind: str, file: str) -> set[int]:
    """Return the acquisitions that were handed out under a name and are still out.

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
        WHERE stem IN ({",".join("?" * len(wanted))}) AND is_mirrored = 0
        AND (NOT EXISTS (SELECT 1 FROM corrections c WHERE c.checkout_id = k.id AND c.kind = ?
                         AND c.state IN ('trainable', 'used', 'superseded'))
             OR EXISTS (SELECT 1 FROM corrections c WHERE c.checkout_id = k.id AND c.file = ?))
    """
    return {key for (key,) in db.execute(sql, [*wanted, kind, file]).fetchall()}


def of_file(
    db: sqlite3.Connection, stems: Iterable[str], watch: str, relative_path: str
) -> list[sqlite3.Row]:
    """Return what was handed out under a name of a file, whatever it holds now; latest first."""
    wanted = [_text(stem) for stem in stems]
    sql = f"""
        SELECT c.* FROM checkouts c JOIN acquisitions a ON a.id = c.acquisition_id
        WHERE c.stem IN ({",".join("?" * len(wanted))}) AND c.is_mirrored = 0
              AND a.watch = ? AND a.relative_path = ? ORDER BY c.id DESC
    """
    return db.execute(sql, [*wanted, watch, relative_path]).fetchall()


def latest(db: sqlite3.Connection, stem: str) -> Row | None:
    """Return what was handed out last under a stem; None: nothing was."""
    sql = "SELECT * FROM checkouts WHERE stem = ? ORDER BY id DESC LIMIT 1"
    row = db.execute(sql, [_text(stem)]).fetchone()
    return dict(row) if row else None


def _text(stem: str) -> str:
    return path_text(stem_key(f"{stem}.x"))
