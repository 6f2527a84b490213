"""Which correction of a part is active: the latest, until it is withdrawn.

Nothing is deleted, so that what was superseded can become active again.
"""

from datetime import datetime

from sqlite_utils import Database

from cellwatch.records import (
    ActiveCorrection,
    Correction,
    CorrectionKind,
    CorrectionRead,
    CorrectionState,
)
from cellwatch.storage.ledger import precedence
from cellwatch.storage.ledger.acquisitions import iso
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.dropped_files import Drop
from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.ledger.rows import first, records

OF_ONE_PART = "n.kind = o.kind AND n.part_key = o.part_key"


def supersede(db: Database, newer: int, now: datetime) -> None:
    """Have a correction take the place of those of its file and its part; in a transaction.

    A file that was dropped again under its name replaces what it was before, also a rejection.
    """
    db.execute(
        f"""
        UPDATE corrections AS o SET superseded_by = n.id FROM corrections AS n
        WHERE n.id = ? AND o.id != n.id AND o.superseded_by IS NULL
        AND ((n.file = o.file AND n.kind = o.kind) OR ({OF_ONE_PART}))
        """,
        [newer],
    )
    db.execute(
        "UPDATE corrections SET state = 'superseded', state_since = ? "
        "WHERE superseded_by = ? AND state IN ('trainable', 'used', 'orphan')",
        [iso(now), newer],
    )


def withdraw(
    db: Database, correction_id: int, now: datetime
) -> tuple[Correction, Correction | None] | None:
    """Take a correction back: no later training uses it.

    The latest labels of another file that they replaced become active again;
    where none do on the image, the flags that were removed from it are raised again.

    Returns
    -------
    (Correction, Correction or None) or None
        The correction, and the one that is active again; None: it is not active, or there is none.
    """
    with transaction(db):
        row = by_id(db, correction_id)
        if row is None or not (row.state.is_active or row.state == CorrectionState.ORPHAN):
            return None
        _set(db, correction_id, CorrectionState.WITHDRAWN, now)
        for other in precedence.sharing(db, correction_id):
            _set(db, other.id, CorrectionState.TRAINABLE, now)  # there is more to learn from it
        sql = f"""
            SELECT o.* FROM corrections o JOIN corrections n ON n.id = ? AND {OF_ONE_PART}
            WHERE o.kind != 'region' AND o.state = 'superseded' AND o.id < n.id AND o.file != n.file
            AND NOT EXISTS (SELECT 1 FROM corrections s WHERE s.file = o.file AND s.id > o.id)
            ORDER BY o.id DESC LIMIT 1
        """
        back = first(db, Correction, sql, [correction_id])
        if back is not None:
            _stand_again(db, back.id, now)
            back = by_id(db, back.id)
        if row.acquisition_id is not None:
            _raise_again(db, row.acquisition_id)
        return row, back


def by_id(db: Database, correction_id: int) -> Correction | None:
    """Return a correction; None: there is none of this id."""
    return first(db, Correction, "SELECT * FROM corrections WHERE id = ?", [correction_id])


def of_part(db: Database, correction_id: int) -> list[Correction]:
    """Return what each other file says of the part of a correction: the files' latest rows."""
    sql = f"""
        SELECT o.* FROM corrections o JOIN corrections n ON n.id = ? AND {OF_ONE_PART}
        WHERE o.file != n.file
        AND NOT EXISTS (SELECT 1 FROM corrections s WHERE s.file = o.file AND s.id > o.id)
        ORDER BY o.id
    """
    return records(db, Correction, sql, [correction_id])


def active_of_part(db: Database, correction_id: int) -> Correction | None:
    """Return the active correction of the part of another one; None: there is none."""
    sql = f"""
        SELECT o.* FROM corrections o JOIN corrections n ON n.id = ? AND {OF_ONE_PART}
        WHERE o.state IN ('trainable', 'used') ORDER BY o.id DESC LIMIT 1
    """
    return first(db, Correction, sql, [correction_id])


def active_of_file(db: Database, file: str) -> int | None:
    """Return the id of the active labels that a file holds or held before; None: there are none."""
    sql = """
        SELECT max(id) FROM corrections
        WHERE file = ? AND kind != 'region' AND state IN ('trainable', 'used')
    """
    found = db.execute(sql, [file]).fetchone()[0]
    return None if found is None else int(found)


def same_again(db: Database, drop: Drop, read: CorrectionRead) -> int | None:
    """Return the active correction that a file gave before it was copied or touched; None: none.

    Its content is the same and its time another, as after a restore from a backup. Where another
    correction shares pixels, saving a file again is a way to let it go before: that is a new one.
    """
    sql = """
        SELECT id FROM corrections WHERE file = ? AND sha256 = ? AND acquisition_id = ?
        AND mtime_ns != ? AND state IN ('trainable', 'used') ORDER BY id DESC LIMIT 1
    """
    values = [path_text(drop.file), read.sha256, drop.acquisition_id, drop.mtime_ns]
    found = db.execute(sql, values).fetchone()
    if found is None or not is_latest_of_file(db, found[0]) or precedence.sharing(db, found[0]):
        return None
    return int(found[0])


def is_latest_of_file(db: Database, correction_id: int) -> bool:
    """Say whether a correction is what its file was last found to be."""
    sql = """
        SELECT 1 FROM corrections n JOIN corrections o ON o.file = n.file
        WHERE o.id = ? AND n.id > o.id LIMIT 1
    """
    return db.execute(sql, [correction_id]).fetchone() is None


def work_at_stake(db: Database, drop: Drop, read: CorrectionRead) -> ActiveCorrection | None:
    """Return the active work of an annotator on the part that an untouched drop would replace.

    None: the drop was worked on, or there is none.
    """
    is_touched = read.added or read.removed or read.changed or not read.rois
    is_untouched = read.is_untouched if read.reason else not is_touched
    if drop.kind != CorrectionKind.LABELS or not is_untouched:
        return None
    sql = """
        SELECT * FROM active_corrections WHERE part_key = ?
        AND added + removed + changed > 0 AND sha256 IS NOT ? ORDER BY id DESC LIMIT 1
    """
    return first(db, ActiveCorrection, sql, [drop.part_key, read.sha256])


def _stand_again(db: Database, key: int, now: datetime) -> None:
    # What a candidate was trained on is no news to the next night.
    sql = """
        SELECT 1 FROM trained_on t JOIN runs r ON r.model_sha256 = t.model_sha256
        WHERE t.correction_id = ? LIMIT 1
    """
    is_used = db.execute(sql, [key]).fetchone() is not None
    db.table("corrections").update(key, {"superseded_by": None})
    _set(db, key, CorrectionState.USED if is_used else CorrectionState.TRAINABLE, now)


def _raise_again(db: Database, acquisition_id: int) -> None:
    # Flags that corrections took off, when none is active any more; not beside a newer one alike.
    sql = """
        UPDATE flags SET lowered_at = NULL, lowered_why = NULL, is_lowered_by_correction = 0
        WHERE acquisition_id = ? AND is_lowered_by_correction = 1
        AND id IN (SELECT max(id) FROM flags WHERE acquisition_id = ? GROUP BY raised_by, roi)
        AND NOT EXISTS (SELECT 1 FROM active_corrections WHERE acquisition_id = ?)
    """
    db.execute(sql, [acquisition_id] * 3)


def _set(db: Database, key: int, state: CorrectionState, now: datetime) -> None:
    db.table("corrections").update(key, {"state": state, "state_since": iso(now)})
