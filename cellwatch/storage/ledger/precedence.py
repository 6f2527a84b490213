"""Which corrections count, and which of two that share pixels: as few as say all that was said."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

from cellwatch.files.stems import name_key
from cellwatch.records import ActiveCorrection, Correction, Crop
from cellwatch.storage.ledger.rows import Ledger, first, records

Active = TypeVar("Active", bound=ActiveCorrection)
# When it was said first: a region that comes later has labels read again, not said again.
SAID = """
    (SELECT min(f.id) FROM corrections f WHERE f.file = c.file AND f.mtime_ns = c.mtime_ns
     AND f.sha256 IS c.sha256) AS said
"""


def in_effect(rows: Sequence[Active], lead: str) -> list[Active]:
    """Return the corrections that take effect, by rising weight.

    One annotator's for each part of each plane, and none that lies wholly within a weightier one.
    Those that are left may still share pixels: there the later in this order takes effect.

    Parameters
    ----------
    rows : sequence of ActiveCorrection
        As `trainable` gives them.
    lead : str
        The annotator who goes before others; "": nobody does.
    """
    by_plane: defaultdict[str, list[Active]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: weight(row, lead), reverse=True):
        weightier = by_plane[row.plane_key]
        if not any(is_covered(row, other) for other in weightier):
            weightier.append(row)
    left = [row for rows_left in by_plane.values() for row in rows_left]
    return sorted(left, key=lambda row: weight(row, lead))


def ids_in_effect(db: Ledger, lead: str) -> set[int]:
    """Return the ids of the corrections that take effect, of every group."""
    rows = records(db, ActiveCorrection, f"SELECT c.*, {SAID} FROM active_corrections c")
    return {row.id for row in in_effect(rows, lead)}


def weight(row: ActiveCorrection, lead: str) -> tuple[bool, bool, int]:
    """Return what decides between two: the lead's, else the worked-on one, else the later."""
    return is_of(row, lead), row.edits > 0, row.said


def is_of(row: ActiveCorrection, lead: str) -> bool:
    """Say whether a correction is by the annotator who goes before others."""
    return bool(lead) and row.annotator == name_key(lead)


def is_covered(row: ActiveCorrection, other: ActiveCorrection) -> bool:
    """Say whether a correction of the same plane covers every pixel that this one has."""
    ours, theirs = row.crop, other.crop
    if ours == theirs:
        return True  # one part: one of two, also where one of them was checked in a region only
    if other.is_in_region:
        return False
    return theirs is None or (ours is not None and ours.is_within(theirs))


def sharing(db: Ledger, correction_id: int) -> list[ActiveCorrection]:
    """Return the active corrections that share pixels with another one, also of its very part.

    A region and a second look say nothing of their own: none does with them.
    """
    sql = "SELECT * FROM corrections WHERE id = ? AND kind = 'labels' AND plane_key IS NOT NULL"
    own = first(db, Correction, sql, [correction_id])
    if own is None:
        return []
    sql = f"""
        SELECT c.*, {SAID} FROM active_corrections c JOIN corrections n ON n.id = ?
        WHERE c.id != n.id AND c.plane_key = n.plane_key ORDER BY c.id
    """
    rows = records(db, ActiveCorrection, sql, [correction_id])
    return [row for row in rows if not _are_apart(row.crop, own.crop)]


def above(db: Ledger, correction_id: int) -> list[ActiveCorrection]:
    """Return those that take precedence where both cover the same pixels, whoever is the lead.

    None where the correction itself is not active.
    """
    own = _active(db, correction_id)
    if own is None:
        return []
    return [row for row in sharing(db, correction_id) if weight(row, "") > weight(own, "")]


def covering(db: Ledger, correction_id: int) -> ActiveCorrection | None:
    """Return one of those that takes precedence over every pixel of a correction; None: none."""
    own = _active(db, correction_id)
    over = above(db, correction_id)
    return next((row for row in over if own is not None and is_covered(own, row)), None)


def _active(db: Ledger, correction_id: int) -> ActiveCorrection | None:
    sql = f"SELECT c.*, {SAID} FROM active_corrections c WHERE c.id = ?"
    return first(db, ActiveCorrection, sql, [correction_id])


def _are_apart(one: Crop | None, other: Crop | None) -> bool:
    return one is not None and other is not None and one.is_apart_from(other)
