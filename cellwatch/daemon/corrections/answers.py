"""What was dropped is recorded, then answered beside the file: never before."""

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from cellwatch.daemon.corrections.events import DropRead
from cellwatch.daemon.corrections.presence import FilesMoved
from cellwatch.records import Correction, CorrectionKind, CorrectionState
from cellwatch.storage.corrections import answer_files
from cellwatch.storage.corrections.names import TABLE
from cellwatch.storage.ledger import annotations, corrections, lookup, precedence, superseding
from cellwatch.storage.ledger.path_text import text_path

logger = logging.getLogger(__name__)
MOST_NAMED = 3  # corrections, in an answer
REPLACED = (CorrectionState.SUPERSEDED, CorrectionState.REJECTED)
LEAD = " (unless retrain.lead names this one's annotator)"


def record(db: Database, folder: Path, event: DropRead, now: datetime) -> Correction:
    """Record what the drop watcher found, then write the answer; return the row."""
    if event.read is None:
        if event.orphan_id is not None and corrections.waits_still(
            db, event.orphan_id, event.waiting
        ):
            return _known(db, event.orphan_id)
        key = corrections.wait_for_image(
            db, event.drop, event.waiting, event.remedy, now, is_blocked=event.is_blocked
        )
    else:
        key = corrections.receive(db, event.drop, event.read, now)
    if event.orphan_id is not None:
        corrections.retire_orphan(db, event.orphan_id, now)
    row = _known(db, key)
    answer(db, folder, row)
    answer_part(db, folder, key)
    return row


def answer_part(db: Database, folder: Path, correction_id: int) -> None:
    """Write the answers of other files that share pixels with a correction.

    It came, or was taken back.
    """
    file = _known(db, correction_id).file
    others: list[Correction] = [
        *superseding.of_part(db, correction_id),
        *precedence.sharing(db, correction_id),
        *annotations.regions_beside(db, correction_id),
    ]
    for other in {row.id: row for row in others if row.file != file}.values():
        dropped = folder / text_path(other.file)
        is_told = other.state.is_active or other.state in REPLACED
        is_told = is_told and superseding.is_latest_of_file(db, other.id)
        if is_told and not answer_files.has_answer(dropped, *_text(db, other)):
            answer(db, folder, other)


def answer(db: Database, folder: Path, row: Correction) -> None:
    """Write the answer that a row calls for beside the dropped file.

    Where it cannot be written (a share that is gone) the row remains valid; the answer is
    written at the next start.
    """
    dropped = folder / text_path(row.file)
    text, is_accepted = _text(db, row)
    try:
        answer_files.write_answer(dropped, text, is_accepted=is_accepted)
    except OSError as error:
        logger.warning(
            "the answer to %s cannot be written (%s); read it with: cellwatch corrections list",
            row.file,
            error,
        )


def missing_answers(
    db: Database, folder: Path, files: frozenset[str] | None = None
) -> list[Correction]:
    """Return the rows whose file lies there without this answer: a crash came between the two.

    Of these files alone; None: of all.
    """
    return [
        row
        for row in corrections.latest_of_files(db)
        if (files is None or row.file in files)
        and row.state != CorrectionState.WITHDRAWN
        and not (row.state == CorrectionState.SUPERSEDED and row.superseded_by is None)
        and (folder / text_path(row.file)).exists()
        and not answer_files.has_answer(folder / text_path(row.file), *_text(db, row))
    ]


def _text(db: Database, row: Correction) -> tuple[str, bool]:
    if row.state in (CorrectionState.REJECTED, CorrectionState.ORPHAN):
        remedy = f"{row.remedy}{_still(db, row)}"
        return answer_files.rejected_text(row.reason or "", remedy, TABLE), False
    return answer_files.accepted_text(_told(db, row)), True


def note_moved(db: Database, folder: Path, event: FilesMoved, now: datetime) -> list[Correction]:
    """Record what was taken away: nobody waits for it any longer. Return what is to be read.

    What came back has its answer again; one that was rejected, or waited, is looked at again.
    """
    for row in [*corrections.open_rejections(db), *corrections.orphans(db)]:
        if row.file in event.gone:
            corrections.taken_away(db, row.id, now)
    if not event.back:
        return []
    for row in missing_answers(db, folder, event.back):
        answer(db, folder, row)
    away = corrections.files_taken_away(db)
    return [_known(db, key) for file, key in away if file in event.back]


def _told(db: Database, row: Correction) -> dict[str, Any]:  # Any: JSON
    path = lookup.acquisition(db, row.acquisition_id).path if row.acquisition_id else None
    told = {
        "accepted": row.received_at,
        "correction": row.id,
        "image": path,
        "target": row.target,
        "group": row.group_name,
        "format": row.format,
        "use": _use(db, row),
    }
    if row.kind != CorrectionKind.REGION:
        told |= {
            "rois": row.rois,
            "against_the_prediction": {
                "model": row.model_id,
                "rois": row.predicted,
                "added": row.added,
                "removed": row.removed,
                "changed": row.changed,
                "ap50": row.ap50,
            },
        }
        others = [
            o for o in superseding.of_part(db, row.id) if o.state == CorrectionState.SUPERSEDED
        ]
        if others and row.state.is_active:
            told["replaces"] = [named([other]) for other in others]
        if row.agreement is not None:
            told["agreement_with_the_other_look"] = row.agreement
    return {**told, "notes": list(row.notes or ())}


def _use(db: Database, row: Correction) -> str:
    if row.state == CorrectionState.SUPERSEDED:
        now = superseding.active_of_part(db, row.id)
        whose = f"correction {now.id} ({now.file}) took its place" if now else "it was replaced"
        return f"none: {whose}; to use this one again, save it again"
    if row.kind == CorrectionKind.REGION:
        return _use_of_region(db, row)
    if row.kind == CorrectionKind.SECOND_LOOK:
        return "a second look: it measures your agreement with yourself and is not trained on"
    who = f" by {row.annotator}" if row.annotator else ""
    lead = LEAD if row.annotator else ""
    over = precedence.above(db, row.id)
    if covering := precedence.covering(db, row.id):
        return f"not used: {named([covering])} covers the same area and takes precedence{lead}"
    use = f"the latest correction{who} of this part; the group learns from it in its next training"
    return f"{use}, but for the pixels of {named(over)}{lead}" if over else use


def _use_of_region(db: Database, row: Correction) -> str:
    # A region applies to the masks of its own annotator and part, and to no others.
    ours, beside = annotations.with_region(db, row.id), annotations.beside_region(db, row.id)
    if not ours and not beside:
        return "none yet: it waits for masks of the same part; then only this region is used"
    if not ours:
        return (
            f"none: it is not for {named(beside)}, which has another annotator or part; a region "
            "applies to the masks whose name and sub-folder it has (NAME_region.tif beside "
            "NAME_masks.tif)"
        )
    last = ours[-1]
    if not last.is_in_region:
        return f"only this region, once {named([last])} is read again; if that fails, save it again"
    over, lead = precedence.above(db, last.id), LEAD if last.annotator else ""
    if covering := precedence.covering(db, last.id):
        return f"not used: {named([covering])} takes precedence over {named([last])}{lead}"
    use = f"only this region of {named([last])} is learned from and scored"
    return f"{use}, but for the pixels of {named(over)}{lead}" if over else use


def named(rows: Sequence[Correction]) -> str:
    """Name corrections for an answer, the latest few of many."""
    names = [f"correction {row.id} ({row.file})" for row in rows[-MOST_NAMED:]]
    more = f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else ""
    return f"{', '.join(names)}{more}"


def _known(db: Database, key: int) -> Correction:
    row = superseding.by_id(db, key)
    if row is None:
        raise KeyError(key)
    return row


def _still(db: Database, row: Correction) -> str:
    before = superseding.active_of_file(db, row.file)
    return f". Until then correction {before} is used, which the file held before" if before else ""
