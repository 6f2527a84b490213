"""Other looks at the part of a plane that a correction is of: regions, annotators, second looks."""

import sqlite3
from typing import TYPE_CHECKING, Any

from cellwatch.storage.ledger.dropped_files import Drop, part_of

if TYPE_CHECKING:
    from sqlite_utils import Database  # slow to import, and commands read REGION_NOTE

Row = dict[str, Any]  # Any: what SQLite holds


def handed_out_digests(db: "Database | sqlite3.Connection", drop: Drop) -> tuple[str, ...]:
    """Return the digests of the labels that were handed out for the part of a drop.

    Of the file at its place, whatever it held: a rerun does not make them somebody's work.
    """
    sql = """
        SELECT c.labels_sha256 FROM checkouts c JOIN acquisitions a ON a.id = c.acquisition_id
        JOIN acquisitions n ON n.watch = a.watch AND n.relative_path = a.relative_path
        WHERE n.id = ? AND c.labels_sha256 IS NOT NULL AND c.is_mirrored = 0 AND c.target = ?
        AND c.position = ? AND c.t = ? AND c.z = ? AND c.crop IS ?
    """
    values = [drop.acquisition_id, drop.target, *part_of(drop)[:4]]
    return tuple(digest for (digest,) in db.execute(sql, values))


def region_of(db: "Database | sqlite3.Connection", drop: Drop) -> str:
    """Return the folder of the region that was marked for the same part; "": none was."""
    sql = """
        SELECT folder FROM corrections WHERE kind = 'region' AND acquisition_id = ? AND target = ?
        AND position = ? AND t = ? AND z = ? AND crop IS ? AND annotator = ?
        AND state = 'trainable' ORDER BY id DESC LIMIT 1
    """
    row = db.execute(sql, [drop.acquisition_id, drop.target, *part_of(drop)]).fetchone()
    return str(row[0]) if row else ""


def other_look(db: "Database | sqlite3.Connection", drop: Drop) -> str:
    """Return the folder of another standing look at the same part; "": there is none.

    For a second look that is the same annotator's first one, else the latest of another annotator.
    A second look that nobody put a name to is anybody's, where only one has looked.
    """
    sql = """
        SELECT annotator, folder FROM corrections WHERE kind = 'labels' AND is_again = 0
        AND acquisition_id = ? AND target = ? AND position = ? AND t = ? AND z = ? AND crop IS ?
        AND state IN ('trainable', 'used') ORDER BY id DESC
    """
    *part, who = part_of(drop)
    rows = db.execute(sql, [drop.acquisition_id, drop.target, *part]).fetchall()
    own = [str(folder) for annotator, folder in rows if annotator == who]
    others = [str(folder) for annotator, folder in rows if annotator != who]
    if not drop.is_again:
        return others[0] if others else ""
    is_only = not who and len({annotator for annotator, _ in rows}) == 1
    found = own or (others if is_only else [])
    return found[0] if found else ""


def under_region(db: "Database", drop: Drop) -> Row | None:
    """Return the active correction that a newly dropped region covers."""
    sql = """
        SELECT * FROM corrections WHERE kind = 'labels' AND acquisition_id = ? AND target = ?
        AND position = ? AND t = ? AND z = ? AND crop IS ? AND annotator = ?
        AND state IN ('trainable', 'used') ORDER BY id DESC LIMIT 1
    """
    return next(iter(db.query(sql, [drop.acquisition_id, drop.target, *part_of(drop)])), None)


def with_region(db: "Database", region_id: int) -> list[Row]:
    """Return the standing corrections that a region spoke of."""
    sql = """
        SELECT c.* FROM corrections c JOIN corrections r ON r.id = ?
        WHERE c.kind = 'labels' AND c.state IN ('trainable', 'used') AND c.is_again = 0
        AND c.acquisition_id = r.acquisition_id AND c.target = r.target AND c.t = r.t
        AND c.z = r.z AND c.position = r.position AND c.crop IS r.crop AND c.annotator = r.annotator
    """
    return list(db.query(sql, [region_id]))


def beside_region(db: "Database", region_id: int) -> list[Row]:
    """Return the standing corrections of the plane of a region, of whatever hand and part."""
    sql = """
        SELECT c.* FROM corrections c JOIN corrections r ON r.id = ?
        WHERE c.kind = 'labels' AND c.state IN ('trainable', 'used') AND c.is_again = 0
        AND c.acquisition_id = r.acquisition_id AND c.target = r.target AND c.t = r.t
        AND c.z = r.z AND c.position = r.position ORDER BY c.id
    """
    return list(db.query(sql, [region_id]))


def regions_beside(db: "Database", correction_id: int) -> list[Row]:
    """Return the active regions on the plane of a correction."""
    sql = """
        SELECT r.* FROM corrections r JOIN corrections c ON c.id = ?
        WHERE r.kind = 'region' AND r.state = 'trainable'
        AND c.acquisition_id = r.acquisition_id AND c.target = r.target AND c.t = r.t
        AND c.z = r.z AND c.position = r.position ORDER BY r.id
    """
    return list(db.query(sql, [correction_id]))


def out_of_step(db: "Database") -> list[Row]:
    """Return the corrections that are to be read again: a region came, or was withdrawn, since.

    One whose newer reading was rejected is left as it is.
    """
    sql = """
        SELECT c.* FROM corrections c LEFT JOIN corrections r ON r.id = (
            SELECT max(id) FROM corrections WHERE kind = 'region' AND state = 'trainable'
            AND acquisition_id = c.acquisition_id AND target = c.target AND position = c.position
            AND t = c.t AND z = c.z AND crop IS c.crop AND annotator = c.annotator)
        WHERE c.kind = 'labels' AND c.state IN ('trainable', 'used') AND c.is_again = 0
        AND (r.id > c.id OR (r.id IS NULL AND c.is_in_region = 1))
        AND NOT EXISTS (SELECT 1 FROM corrections n WHERE n.file = c.file AND n.id > c.id
                        AND n.id > coalesce(r.id, c.id))
    """
    return list(db.query(sql))
