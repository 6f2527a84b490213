"""What a person called right in spite of a doubt: such a drop is read again, and taken."""

import sqlite3
from dataclasses import replace
from datetime import datetime

from sqlite_utils import Database

from cellwatch.records import Correction, CorrectionState
from cellwatch.storage.ledger import superseding
from cellwatch.storage.ledger.acquisitions import iso
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.dropped_files import Drop
from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.ledger.rows import records


def confirm(db: Database, correction_id: int, by: str, now: datetime) -> Correction | None:
    """Record that a person calls a doubtful drop right; it is read again.

    None: there is no such drop, it is not in doubt, or its file was dropped again since.
    """
    with transaction(db):
        row = superseding.by_id(db, correction_id)
        if row is None or row.state != CorrectionState.REJECTED or not row.is_doubtful:
            return None
        if not superseding.is_latest_of_file(db, correction_id):
            return None
        facts = {"confirmed_by": by, "confirmed_at": iso(now)}
        db.table("corrections").update(correction_id, facts)
        return replace(row, confirmed_by=by, confirmed_at=iso(now))


def is_confirmed(db: sqlite3.Connection, drop: Drop) -> bool:
    """Say whether a person called this very file right."""
    sql = """
        SELECT 1 FROM corrections WHERE file = ? AND size = ? AND mtime_ns = ?
        AND confirmed_at IS NOT NULL LIMIT 1
    """
    values = [path_text(drop.file), drop.size, drop.mtime_ns]
    return db.execute(sql, values).fetchone() is not None


def confirmed_since(db: Database) -> list[Correction]:
    """Return the drops that were confirmed and not read again yet."""
    sql = """
        SELECT * FROM corrections c WHERE state = 'rejected' AND confirmed_at IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM corrections n WHERE n.file = c.file AND n.id > c.id)
    """
    return records(db, Correction, sql)
