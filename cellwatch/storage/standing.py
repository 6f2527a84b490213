"""Which correction of a part stands: the latest, until it is taken back.

Nothing is deleted, so that what was superseded can stand again.
"""

from datetime import datetime
from typing import Any

from sqlite_utils import Database

from cellwatch.records import CorrectionRead, CorrectionState
from cellwatch.storage.arrivals import iso
from cellwatch.storage.drops import Drop, part_of
from cellwatch.storage.ledger import transaction

Row = dict[str, Any]  # Any: what SQLite holds
STANDING = ("trainable", "used")
OF_ONE_PART = """
    n.kind = o.kind AND n.is_again = o.is_again AND n.acquisition_id = o.acquisition_id
    AND n.target = o.target AND n.position = o.position AND n.t = o.t AND n.z = o.z
    AND n.crop IS o.crop AND n.annotator = o.annotator
"""


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


def withdraw(db: Database, correction_id: int, now: datetime) -> tuple[Row, Row | None] | None:
    """Take a correction back: no later training uses it.

    The latest other file whose place it took stands again, and so do the flags that it lowered.

    Returns
    -------
    (Row, Row or None) or None
        The correction, and the one that stands again; None: it does not stand, or there is none.
    """
    with transaction(db):
        row = next(db.table("corrections").rows_where("id = ?", [correction_id]), None)
        if row is None or row["state"] not in (*STANDING, "orphan"):
            return None
        _set(db, correction_id, CorrectionState.WITHDRAWN, now)
        sql = f"""
            SELECT o.* FROM corrections o JOIN corrections n ON n.id = ? AND {OF_ONE_PART}
            JOIN corrections s ON s.id = o.superseded_by AND s.file != o.file
            WHERE o.state = 'superseded' AND o.id < n.id AND o.file != n.file
            ORDER BY o.id DESC LIMIT 1
        """
        back = next(iter(db.query(sql, [correction_id])), None)
        if back is not None:
            db.table("corrections").update(back["id"], {"superseded_by": None})
            _set(db, back["id"], CorrectionState.TRAINABLE, now)
            back = dict(db.table("corrections").get(back["id"]))
        elif row["acquisition_id"] is not None:
            _raise_again(db, row)
        return row, back


def replaced_by(db: Database, correction_id: int) -> list[Row]:
    """Return the corrections of other files whose place one took, latest first."""
    sql = """
        SELECT o.* FROM corrections o JOIN corrections n ON n.id = o.superseded_by
        WHERE n.id = ? AND o.state = 'superseded' AND o.file != n.file ORDER BY o.id DESC
    """
    return list(db.query(sql, [correction_id]))


def work_at_stake(db: Database, drop: Drop, read: CorrectionRead) -> Row | None:
    """Return the standing work of the same hand on the part that an untouched drop would replace.

    None: the drop was worked on, or there is none.
    """
    is_touched = read.added or read.removed or read.changed
    if read.reason or drop.kind != "labels" or drop.is_again or is_touched or not read.rois:
        return None
    sql = """
        SELECT * FROM corrections WHERE kind = 'labels' AND is_again = 0 AND acquisition_id = ?
        AND target = ? AND position = ? AND t = ? AND z = ? AND crop IS ? AND annotator = ?
        AND state IN ('trainable', 'used') AND added + removed + changed > 0 AND sha256 IS NOT ?
        ORDER BY id DESC LIMIT 1
    """
    values = [drop.acquisition_id, drop.target, *part_of(drop), read.sha256]
    return next(iter(db.query(sql, values)), None)


def _raise_again(db: Database, row: Row) -> None:
    # Only the flags that this very correction took off, unless another one stands on the image.
    sql = """
        UPDATE flags SET lowered_at = NULL, lowered_why = NULL
        WHERE lowered_at = ? AND lowered_why = ? AND NOT EXISTS (
            SELECT 1 FROM corrections WHERE acquisition_id = ? AND kind = 'labels'
            AND state IN ('trainable', 'used'))
    """
    values = [row["received_at"], f"corrected in {row['file']}", row["acquisition_id"]]
    db.execute(sql, values)


def _set(db: Database, key: int, state: CorrectionState, now: datetime) -> None:
    db.table("corrections").update(key, {"state": state, "state_since": iso(now)})
