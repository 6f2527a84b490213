"""Which corrections count, and which of two that share pixels: as few as say all that was said."""

import sqlite3
from collections import defaultdict
from typing import Any

from sqlite_utils import Database

from cellwatch.files.stems import name_key
from cellwatch.storage.ledger.dropped_files import crop_of

Row = dict[str, Any]  # Any: what SQLite holds
# When it was said first: a region that comes later has labels read again, not said again.
SAID = """
    (SELECT min(f.id) FROM corrections f WHERE f.file = c.file AND f.mtime_ns = c.mtime_ns
     AND f.sha256 IS c.sha256) AS said
"""


def counting(rows: list[Row], lead: str) -> list[Row]:
    """Return the corrections that count, by rising weight.

    One annotator's for each part of each plane, and none that lies wholly within a weightier one.
    Those that are left may still share pixels: there the later in this order counts.

    Parameters
    ----------
    rows : list of Row
        As `trainable` gives them.
    lead : str
        The annotator who goes before others; "": nobody does.
    """
    by_plane: defaultdict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: weight(row, lead), reverse=True):
        weightier = by_plane[plane_of(row)]
        if not any(is_covered(row, other) for other in weightier):
            weightier.append(row)
    left = [row for rows_left in by_plane.values() for row in rows_left]
    return sorted(left, key=lambda row: weight(row, lead))


def counting_ids(db: Database | sqlite3.Connection, lead: str) -> set[int]:
    """Return the ids of the corrections that count, of every group."""
    sql = f"""
        SELECT c.*, {SAID} FROM corrections c
        WHERE c.kind = 'labels' AND c.is_again = 0 AND c.state IN ('trainable', 'used')
    """
    return {row["id"] for row in counting(_rows(db, sql, []), lead)}


def plane_of(row: Row) -> str:
    """Return which plane of which acquisition and target a correction is of."""
    return "/".join(str(row[k]) for k in ("acquisition_id", "target", "position", "t", "z"))


def weight(row: Row, lead: str) -> tuple[bool, bool, int]:
    """Return what decides between two: the lead's, else the worked-on one, else the later."""
    edits = row["added"] + row["removed"] + row["changed"]
    return is_of(row, lead), edits > 0, row["said"]


def is_of(row: Row, lead: str) -> bool:
    """Say whether a correction is by the annotator who goes before others."""
    return bool(lead) and row["annotator"] == name_key(lead)


def is_covered(row: Row, other: Row) -> bool:
    """Say whether a correction of the same plane covers every pixel that this one has."""
    ours, theirs = crop_of(row["crop"]), crop_of(other["crop"])
    if ours == theirs:
        return True  # one part: one of two, also where one of them was checked in a region only
    if other["is_in_region"]:
        return False
    return theirs is None or (ours is not None and ours.is_within(theirs))


def sharing(db: Database | sqlite3.Connection, correction_id: int) -> list[Row]:
    """Return the standing corrections that share pixels with another one, also of its very part.

    A region and a second look say nothing of their own: none does with them.
    """
    sql = f"""
        SELECT c.*, n.crop AS own_crop, {SAID} FROM corrections c JOIN corrections n ON n.id = ?
        WHERE c.id != n.id AND c.kind = 'labels' AND c.is_again = 0
        AND n.kind = 'labels' AND n.is_again = 0
        AND c.acquisition_id = n.acquisition_id AND c.target = n.target
        AND c.position = n.position AND c.t = n.t AND c.z = n.z
        AND c.state IN ('trainable', 'used') ORDER BY c.id
    """
    return [row for row in _rows(db, sql, [correction_id]) if not _is_apart(row)]


def above(db: Database | sqlite3.Connection, correction_id: int) -> list[Row]:
    """Return those that take precedence where both cover the same pixels, whoever is the lead."""
    sql = f"SELECT c.*, {SAID} FROM corrections c WHERE c.id = ?"
    own = _rows(db, sql, [correction_id])[0]
    return [row for row in sharing(db, correction_id) if weight(row, "") > weight(own, "")]


def _is_apart(row: Row) -> bool:
    own, other = crop_of(row["own_crop"]), crop_of(row["crop"])
    return own is not None and other is not None and own.is_apart_from(other)


def _rows(db: Database | sqlite3.Connection, sql: str, values: list[int]) -> list[Row]:
    cursor = db.execute(sql, values)
    names = [name for name, *_ in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
