"""Other looks at the part of a plane that a correction is of: regions, annotators, second looks."""

from cellwatch.records import ActiveCorrection, Correction, CorrectionKind
from cellwatch.storage.ledger.dropped_files import Drop, crop_text
from cellwatch.storage.ledger.rows import Ledger, first, records


def handed_out_digests(db: Ledger, drop: Drop) -> tuple[str, ...]:
    """Return the digests of the labels that were handed out for the part of a drop.

    Of the file at its place, whatever it held: a rerun does not make them somebody's work.
    """
    sql = """
        SELECT c.labels_sha256 FROM checkouts c JOIN acquisitions a ON a.id = c.acquisition_id
        JOIN acquisitions n ON n.watch = a.watch AND n.relative_path = a.relative_path
        WHERE n.id = ? AND c.labels_sha256 IS NOT NULL AND c.is_mirrored = 0 AND c.target = ?
        AND c.position = ? AND c.t = ? AND c.z = ? AND c.crop IS ?
    """
    plane = drop.plane
    values = [drop.acquisition_id, drop.target, plane.position, plane.t, plane.z]
    return tuple(digest for (digest,) in db.execute(sql, [*values, crop_text(drop.crop)]))


def region_of(db: Ledger, drop: Drop) -> str:
    """Return the folder of the region that was marked for the same part; "": none was."""
    sql = """
        SELECT folder FROM corrections WHERE kind = 'region' AND part_key = ?
        AND state = 'trainable' ORDER BY id DESC LIMIT 1
    """
    row = db.execute(sql, [drop.part_key]).fetchone()
    return str(row[0]) if row else ""


def other_look(db: Ledger, drop: Drop) -> str:
    """Return the folder of another active look at the same part; "": there is none.

    For a second look that is the same annotator's first one, else the latest of another annotator.
    A second look that nobody put a name to is anybody's, where only one has looked.
    """
    sql = """
        SELECT annotator, folder FROM active_corrections
        WHERE plane_key = ? AND crop IS ? ORDER BY id DESC
    """
    who = drop.annotator
    rows = db.execute(sql, [drop.plane_key, crop_text(drop.crop)]).fetchall()
    own = [str(folder) for annotator, folder in rows if annotator == who]
    others = [str(folder) for annotator, folder in rows if annotator != who]
    if drop.kind != CorrectionKind.SECOND_LOOK:
        return others[0] if others else ""
    is_only = not who and len({annotator for annotator, _ in rows}) == 1
    found = own or (others if is_only else [])
    return found[0] if found else ""


def under_region(db: Ledger, drop: Drop) -> ActiveCorrection | None:
    """Return the active correction that a newly dropped region covers."""
    sql = "SELECT * FROM active_corrections WHERE part_key = ? ORDER BY id DESC LIMIT 1"
    return first(db, ActiveCorrection, sql, [drop.part_key])


def with_region(db: Ledger, region_id: int) -> list[ActiveCorrection]:
    """Return the active corrections of the part of a region."""
    sql = """
        SELECT c.* FROM active_corrections c JOIN corrections r ON r.id = ?
        WHERE c.part_key = r.part_key
    """
    return records(db, ActiveCorrection, sql, [region_id])


def beside_region(db: Ledger, region_id: int) -> list[ActiveCorrection]:
    """Return the active corrections of the plane of a region, of whatever hand and part."""
    sql = """
        SELECT c.* FROM active_corrections c JOIN corrections r ON r.id = ?
        WHERE c.plane_key = r.plane_key ORDER BY c.id
    """
    return records(db, ActiveCorrection, sql, [region_id])


def regions_beside(db: Ledger, correction_id: int) -> list[Correction]:
    """Return the active regions on the plane of a correction."""
    sql = """
        SELECT r.* FROM corrections r JOIN corrections c ON c.id = ?
        WHERE r.kind = 'region' AND r.state = 'trainable' AND c.plane_key = r.plane_key
        ORDER BY r.id
    """
    return records(db, Correction, sql, [correction_id])


def out_of_step(db: Ledger) -> list[ActiveCorrection]:
    """Return the corrections that are to be read again: a region came, or was withdrawn, since.

    One whose newer reading was rejected is left as it is.
    """
    sql = """
        SELECT c.* FROM active_corrections c LEFT JOIN corrections r ON r.id = (
            SELECT max(id) FROM corrections
            WHERE kind = 'region' AND state = 'trainable' AND part_key = c.part_key)
        WHERE (r.id > c.id OR (r.id IS NULL AND c.is_in_region = 1))
        AND NOT EXISTS (SELECT 1 FROM corrections n WHERE n.file = c.file AND n.id > c.id
                        AND n.id > coalesce(r.id, c.id))
    """
    return records(db, ActiveCorrection, sql)
