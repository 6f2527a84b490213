"""Which results a person should not take for good without a look."""

import sqlite3
from dataclasses import dataclass, replace
from typing import Any

from cellwatch.records import AcquisitionState, ListedAcquisition
from cellwatch.storage.ledger.rows import records
from cellwatch.storage.reports.corrections import acquisitions
from cellwatch.storage.reports.station import has_marks

MANY = 10_000  # rows of the review queue that are looked through
TAKEN_OUT = """(SELECT max(k.checked_out_at) FROM checkouts k
                WHERE k.acquisition_id = q.acquisition_id AND k.is_mirrored = 0) AS taken_out"""
UNSURE = 0.75  # a lower mean confidence is worth a look
# Of an acquisition `a` and its target `t`: nobody has corrected it.
NOT_CORRECTED = """NOT EXISTS (
    SELECT 1 FROM corrections c WHERE c.acquisition_id = a.id AND c.target = t.name
    AND c.state IN ('trainable', 'used'))"""
NOTED = "a.file_notes IS NOT NULL"  # what a file does not say was guessed, or said otherwise
# Files that were written to since, whose masks in place are of what they held before.
OUTDATED = """
    SELECT count(DISTINCT n.id) FROM acquisitions n JOIN acquisitions a
    ON a.watch = n.watch AND a.path = n.path AND a.id < n.id
    WHERE n.superseded_by IS NULL AND n.finished_at IS NULL
          AND n.state NOT IN ('skipped', 'missing') AND a.finished_at IS NOT NULL
"""
NOVEL = 1.5  # times the reach of the training images' own styles


def n_outdated(db: sqlite3.Connection) -> int:
    """Return how many masks were deleted or edited since they were written."""
    return int(db.execute(OUTDATED).fetchone()[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class ForReview:
    """An image that waits for a person.

    Attributes
    ----------
    acquisition_id : int or None
        None: it is still to come.
    path : str
    state : AcquisitionState or None
    by : str
        Who says so: a person, or cellwatch.
    why : str or None
    taken_out : str or None
        When it was last handed out.
    target : str
        "": whichever it has.
    flag_id, roi, raised_at
        Of a flag; None: it is suggested.
    novelty, confidence, rois
        Of a suggestion.
    """

    acquisition_id: int | None
    path: str
    state: AcquisitionState | None
    by: str
    why: str | None = None
    taken_out: str | None = None
    target: str = ""
    flag_id: int | None = None
    roi: int | None = None
    raised_at: str = ""
    novelty: float | None = None
    confidence: float | None = None
    rois: int | None = None
    file_notes: tuple[str, ...] | None = None


def review_queue(db: sqlite3.Connection, limit: int = 20) -> list[ForReview]:
    """Return what waits for a person: flagged first, then what the daemon suggests, each with why.

    Suggested are images that were not corrected yet and are unlike what their model was trained on,
    on which it was unsure, or found nothing; the most telling first. After them come those that
    were read with a note: a guess about axes, a part of a set.
    """
    noted = f"OR {NOTED}" if has_marks(db) else ""
    sql = f"""
        SELECT flag_id, acquisition_id, path, why, roi, raised_by AS by, raised_at, state,
               {TAKEN_OUT} FROM review_queue q ORDER BY flag_id LIMIT ?
    """
    flagged = records(db, ForReview, sql, [limit])
    taken = {row.acquisition_id for row in flagged}
    sql = f"""
        SELECT a.id AS acquisition_id, a.path, a.state, t.name AS target, t.novelty, t.confidence,
               t.rois, 'cellwatch' AS by, {"a.file_notes" if noted else "NULL AS file_notes"},
               {TAKEN_OUT.replace("q.acquisition_id", "a.id")}
        FROM acquisitions a JOIN targets t ON t.acquisition_id = a.id
        WHERE a.superseded_by IS NULL AND t.state = 'done'
              AND (t.novelty > ? OR t.confidence < ? OR t.rois = 0 {noted})
              AND {NOT_CORRECTED}
        ORDER BY t.rois > 0 AND coalesce(t.novelty, 0) <= ? AND coalesce(t.confidence, 1) >= ?,
                 max(coalesce(t.novelty, 0) / ?, 1 - coalesce(t.confidence, 1)) DESC, a.id DESC
        LIMIT ?
    """
    suggested = [
        replace(row, why=_why(row))
        for row in records(db, ForReview, sql, [NOVEL, UNSURE, NOVEL, UNSURE, NOVEL, limit])
        if row.acquisition_id not in taken
    ]
    return [*flagged, *suggested][:limit]


def doubts(db: sqlite3.Connection) -> dict[str, Any]:  # Any: JSON
    """Count the results that a person should not take for good without a look.

    Returns
    -------
    mapping
        `images` that are done; of those that nobody corrected, `unlike`: by model, those unlike
        what it was trained on; `empty`: without any ROI; `unsure`: those on which the model was
        unsure; `noted`: read with a note;
        `outdated`: overwritten, and not done again yet; `missing` and `edited`: mask
        stores that changed since they were written.
    """
    done = "a.state = 'done' AND a.superseded_by IS NULL"
    images = db.execute(f"SELECT count(*) FROM acquisitions a WHERE {done}").fetchone()[0]
    sql = f"""
        SELECT t.model_id, count(DISTINCT a.id) FROM targets t
        JOIN acquisitions a ON a.id = t.acquisition_id
        WHERE {done} AND t.novelty > ? AND {NOT_CORRECTED} GROUP BY t.model_id
    """
    unlike = dict(db.execute(sql, [NOVEL]).fetchall())
    sql = f"""
        SELECT count(*) FROM acquisitions a WHERE {done}
        AND (SELECT sum(t.rois) FROM targets t WHERE t.acquisition_id = a.id) = 0
        AND EXISTS (SELECT 1 FROM targets t WHERE t.acquisition_id = a.id AND {NOT_CORRECTED})
    """
    empty = db.execute(sql).fetchone()[0]
    sql = f"""
        SELECT count(DISTINCT a.id) FROM targets t JOIN acquisitions a ON a.id = t.acquisition_id
        WHERE {done} AND t.confidence < ? AND {NOT_CORRECTED}
    """
    unsure = db.execute(sql, [UNSURE]).fetchone()[0]
    marks = {"outdated": n_outdated(db)}
    if has_marks(db):
        sql = f"""
            SELECT count(DISTINCT a.id) FROM targets t JOIN acquisitions a
            ON a.id = t.acquisition_id WHERE {done} AND ({NOTED}) AND {NOT_CORRECTED}
        """
        marks["noted"] = db.execute(sql).fetchone()[0]
        sql = """
            SELECT output_mark, count(*) FROM acquisitions a
            WHERE a.superseded_by IS NULL AND output_mark IS NOT NULL GROUP BY output_mark
        """
        marks |= dict(db.execute(sql).fetchall())
    return {"images": images, "unlike": unlike, "empty": empty, "unsure": unsure, **marks}


def _why(row: ForReview) -> str:
    reasons = ["no ROI was found"] if row.rois == 0 else []
    if row.novelty is not None and row.novelty > NOVEL:
        reasons.append(f"unlike what its model was trained on (novelty {row.novelty:.1f})")
    if row.confidence is not None and row.confidence < UNSURE:
        reasons.append(f"the model is unsure (confidence {row.confidence:.2f})")
    if not reasons:
        reasons = [f"noted: {row.file_notes[0]}"] if row.file_notes else []
    return ", ".join(reasons)


def to_check_out(db: sqlite3.Connection, limit: int, target: str = "") -> list[ListedAcquisition]:
    """Return the acquisitions to take out next: the review queue, then the latest others.

    What was taken out already is left out, unless it was flagged since.
    """
    sql = """
        SELECT acquisition_id, max(checked_out_at) FROM checkouts
        WHERE is_mirrored = 0 AND ? IN ('', target) GROUP BY acquisition_id
    """
    taken = dict(db.execute(sql, [target]).fetchall())
    sql = "SELECT DISTINCT acquisition_id FROM targets WHERE ? IN ('', name)"
    having = {key for (key,) in db.execute(sql, [target])}
    queue = [
        key
        for row in review_queue(db, MANY)
        if row.state == AcquisitionState.DONE
        and (key := row.acquisition_id) in having
        and ("" in (target, row.target) or target == row.target)
        and (key not in taken or row.raised_at > taken[key])
    ]
    sql = """
        SELECT id FROM acquisitions a WHERE state = 'done' AND superseded_by IS NULL
        AND id NOT IN (SELECT acquisition_id FROM corrections WHERE acquisition_id IS NOT NULL
                       AND ? IN ('', target) AND state IN ('trainable', 'used'))
        AND id NOT IN (SELECT acquisition_id FROM checkouts WHERE ? IN ('', target))
        AND EXISTS (SELECT 1 FROM targets t WHERE t.acquisition_id = a.id
                    AND (? = '' OR t.name = ?))
        ORDER BY id DESC LIMIT ?
    """
    others = [key for (key,) in db.execute(sql, [*[target] * 4, limit])]
    keys = list(dict.fromkeys([*queue, *others]))[:limit]
    return [row for key in keys for row in acquisitions(db, "a.id = ?", [key])]
