"""Corrections in the ledger: what was dropped, what it was found to be, and what it is good for.

Each function is one short transaction. Nothing is deleted: a newer drop supersedes the older.
"""

import json
import sqlite3
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from cellwatch.records import (
    ActiveCorrection,
    Correction,
    CorrectionKind,
    CorrectionRead,
    CorrectionState,
    Side,
    TrainableCorrection,
)
from cellwatch.storage.ledger import superseding
from cellwatch.storage.ledger.acquisitions import iso
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.dropped_files import Drop, crop_text
from cellwatch.storage.ledger.flags import lower_on
from cellwatch.storage.ledger.path_text import path_text, readable
from cellwatch.storage.ledger.precedence import SAID
from cellwatch.storage.ledger.rows import records

Columns = dict[str, Any]  # Any: what SQLite holds, to be written
TAKEN_AWAY = "it was taken away; put back, it is looked at again"
UNTOUCHED_REMEDY = (
    "correct it and save it again; if it is right as it was found, first take that one back "
    "(cellwatch corrections withdraw {id}), then save this one again"
)
CONFIRM = "; if it is right as it is, say so: cellwatch corrections confirm {id}"


def receive(db: Database, drop: Drop, read: CorrectionRead, now: datetime) -> int:
    """Record a correction that was read, good or bad; return its id.

    A good one supersedes what the same annotator gave before for the same part of the same plane,
    lowers the flags on its image, and is scored against the prediction it corrected. One in which
    nothing was changed supersedes no work that was done: it is rejected.
    """
    with transaction(db):
        if not read.reason and (key := superseding.same_again(db, drop, read)):
            db.table("corrections").update(key, {"size": drop.size, "mtime_ns": drop.mtime_ns})
            return key
        if done := superseding.work_at_stake(db, drop, read):
            read = replace(
                read,
                reason=_untouched(done),
                remedy=UNTOUCHED_REMEDY.format(id=done.id),
                is_doubtful=False,
            )
        state = CorrectionState.REJECTED if read.reason else CorrectionState.TRAINABLE
        facts = _facts(drop, state, now)
        if read.reason:
            facts |= {"reason": readable(read.reason), "remedy": readable(read.remedy)}
            facts["is_doubtful"] = int(read.is_doubtful)
            key = _insert(db, facts)
            if read.is_doubtful:
                remedy = f"{facts['remedy']}{CONFIRM.format(id=key)}"
                db.table("corrections").update(key, {"remedy": remedy})
            return key
        facts |= _found(db, drop, read, now)
        is_reread = _was_taken(db, drop)
        key = _insert(db, facts)
        superseding.supersede(db, key, now)
        is_labels = drop.kind != CorrectionKind.REGION
        if is_labels and drop.acquisition_id is not None and not is_reread:
            why = f"corrected in {path_text(drop.file)}"
            lower_on(db, drop.acquisition_id, why, now)
        if drop.kind == CorrectionKind.LABELS:
            _test_then_train(db, key, read, now)
        return key


def wait_for_image(
    db: Database, drop: Drop, reason: str, remedy: str, now: datetime, *, is_blocked: bool = False
) -> int:
    """Record a correction that waits for its image, or for a disk (`is_blocked`).

    It replaces one of its file that waited before.
    """
    with transaction(db):
        facts = _facts(drop, CorrectionState.ORPHAN, now)
        facts |= {"reason": readable(reason), "remedy": readable(remedy)}
        facts["is_blocked"] = int(is_blocked)
        key = _insert(db, facts)
        db.execute(
            "UPDATE corrections SET state = 'superseded', superseded_by = ?, state_since = ? "
            "WHERE file = ? AND state = 'orphan' AND id != ?",
            [key, iso(now), facts["file"], key],
        )
        return key


def trainable(db: Database, group: str) -> list[TrainableCorrection]:
    """Return the active corrections of a group, oldest first, whatever the side."""
    sql = f"""
        SELECT c.*, {SAID}, a.relative_path, a.watch, a.pixel_size_um FROM active_corrections c
        JOIN acquisitions a ON a.id = c.acquisition_id WHERE c.group_name = ? ORDER BY c.id
    """
    return records(db, TrainableCorrection, sql, [group])


def known_drops(db: Database | sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """Return size and time of the files that were looked at, by their name."""
    sql = "SELECT file, size, mtime_ns FROM corrections ORDER BY id"
    return {file: (size, mtime) for file, size, mtime in db.execute(sql).fetchall()}


def latest_of_files(db: Database) -> list[Correction]:
    """Return the latest row of each dropped file, for answers that are to be written again."""
    sql = """
        SELECT * FROM corrections WHERE id IN (SELECT max(id) FROM corrections GROUP BY file)
        ORDER BY id
    """
    return records(db, Correction, sql)


def orphans(db: Database) -> list[Correction]:
    """Return the corrections that wait for their image."""
    sql = "SELECT * FROM corrections WHERE state = 'orphan' ORDER BY id"
    return records(db, Correction, sql)


def taken_away(db: Database, correction_id: int, now: datetime) -> None:
    """Mark a file that its person took away before it was accepted: nobody waits for it."""
    with transaction(db):
        _set_state(db, correction_id, CorrectionState.WITHDRAWN, now)
        said = {"remedy": TAKEN_AWAY, "is_taken_away": 1}
        db.table("corrections").update(correction_id, said)


def files_taken_away(db: Database | sqlite3.Connection) -> list[tuple[str, int]]:
    """Return the files whose latest row says that they were taken away, with the row's id."""
    sql = """
        SELECT file, id FROM corrections
        WHERE id IN (SELECT max(id) FROM corrections GROUP BY file)
        AND state = 'withdrawn' AND is_taken_away = 1
    """
    return [(file, key) for file, key in db.execute(sql).fetchall()]


def open_rejections(db: Database) -> list[Correction]:
    """Return the rejected drops that nothing has replaced yet."""
    sql = "SELECT * FROM corrections WHERE state = 'rejected' AND superseded_by IS NULL"
    return records(db, Correction, sql)


def waits_still(db: Database, correction_id: int, reason: str) -> bool:
    """Say whether a correction waits for the reason that its row gives already."""
    row = superseding.by_id(db, correction_id)
    if row is None or row.state != CorrectionState.ORPHAN:
        return False
    return row.reason == readable(reason)


def retire_orphan(db: Database, correction_id: int, now: datetime) -> None:
    """Mark a correction that waited as superseded by the row that its second reading gave."""
    with transaction(db):
        _set_state(db, correction_id, CorrectionState.SUPERSEDED, now)


def sides(db: Database, group: str) -> dict[str, Side]:
    """Return what was decided of each acquisition's content in a group."""
    sql = "SELECT content_key, side FROM sides WHERE group_name = ?"
    return {key: Side(side) for key, side in db.execute(sql, [group]).fetchall()}


def decide_sides(db: Database, group: str, decided: dict[str, Side], now: datetime) -> None:
    """Write down for good on which side contents are; those that have one keep it."""
    with transaction(db):
        for key, side in decided.items():
            db.table("sides").insert(
                {
                    "group_name": group,
                    "content_key": key,
                    "side": side,
                    "decided_at": iso(now),
                },
                pk=("group_name", "content_key"),
                ignore=True,
            )


def _was_taken(db: Database, drop: Drop) -> bool:
    # A file that is read again because a region came brings no new work.
    where = "file = ? AND size = ? AND mtime_ns = ? AND state IN ('trainable', 'used')"
    values = [path_text(drop.file), drop.size, drop.mtime_ns]
    return bool(db.table("corrections").count_where(where, values))


def _untouched(done: ActiveCorrection) -> str:
    edits = f"+{done.added} -{done.removed} ~{done.changed}"
    return (
        f"nothing was changed in it, and correction {done.id} ({done.file}: {done.rois} "
        f"ROIs, {edits}) of the same part is active"
    )


def _facts(drop: Drop, state: CorrectionState, now: datetime) -> Columns:
    return {
        "file": path_text(drop.file),
        "size": drop.size,
        "mtime_ns": drop.mtime_ns,
        "received_at": iso(now),
        "kind": drop.kind,
        "state": state,
        "state_since": iso(now),
        "acquisition_id": drop.acquisition_id,
        "target": drop.target or None,
        "group_name": drop.group or None,
        **asdict(drop.plane),
        "crop": crop_text(drop.crop),
        "annotator": drop.annotator,
        "checkout_id": drop.checkout_id,
        "folder": drop.folder or None,
    }


def _found(db: Database, drop: Drop, read: CorrectionRead, now: datetime) -> Columns:
    sql = "SELECT model_id, model_sha256 FROM targets WHERE acquisition_id = ? AND name = ?"
    model = db.execute(sql, [drop.acquisition_id, drop.target]).fetchone() or (None, None)
    notes = [*read.notes, *_withdrawn_before(db, drop, read)]
    return {
        "format": read.format,
        "sha256": read.sha256 or None,
        "content_key": _content_key(db, drop, read.content_key) if read.content_key else None,
        "pixels_sha256": read.content_key or None,
        "model_id": model[0],
        "model_sha256": model[1],
        "rois": read.rois,
        "predicted": read.predicted,
        "added": read.added,
        "removed": read.removed,
        "changed": read.changed,
        "ap50": round(read.average_precision, 6) if drop.kind != CorrectionKind.REGION else None,
        "agreement": None if read.agreement is None else round(read.agreement, 6),
        "minutes": _minutes(db, drop, now),
        "notes": json.dumps(notes),
        "is_in_region": int(read.is_in_region),
    }


def _content_key(db: Database, drop: Drop, pixels: str) -> str:
    # The same pixels under any name, and whatever the same file held before: a time-lapse that
    # grows, or a file that was overwritten, is one sample, and stays on its side.
    for where, values in (
        ("c.pixels_sha256 = ?", [pixels]),
        (
            "EXISTS (SELECT 1 FROM acquisitions n WHERE n.id = ? "
            "AND n.watch = a.watch AND n.path = a.path)",
            [drop.acquisition_id],
        ),
    ):
        sql = f"""
            SELECT c.content_key FROM corrections c JOIN acquisitions a ON a.id = c.acquisition_id
            WHERE c.content_key IS NOT NULL AND {where} ORDER BY c.id LIMIT 1
        """
        if row := db.execute(sql, values).fetchone():
            return str(row[0])
    return pixels


def _withdrawn_before(db: Database, drop: Drop, read: CorrectionRead) -> list[str]:
    sql = """
        SELECT id FROM corrections WHERE sha256 = ? AND acquisition_id = ? AND state = 'withdrawn'
        ORDER BY id DESC LIMIT 1
    """
    row = db.execute(sql, [read.sha256, drop.acquisition_id]).fetchone()
    if not row:
        return []
    return [f"the same file was withdrawn before (correction {row[0]}); dropped again it is used"]


def _minutes(db: Database, drop: Drop, now: datetime) -> float | None:
    # Until the file was saved, also where it is read late, or once more: its own time tells. One
    # that says it is older than the checkout, or not yet saved, has the time of another clock.
    if drop.checkout_id is None:
        return None
    since = datetime.fromisoformat(db.table("checkouts").get(drop.checkout_id)["checked_out_at"])
    saved = drop.mtime_ns / 1e9
    end = saved if since.timestamp() <= saved <= now.timestamp() else now.timestamp()
    return round((end - since.timestamp()) / 60, 2)


def _insert(db: Database, facts: Columns) -> int:
    table = db.table("corrections").insert(facts)
    return int(table.last_pk)  # type: ignore[arg-type]  # None only before an insert


def _test_then_train(db: Database, key: int, read: CorrectionRead, now: datetime) -> None:
    """Score the model that made the prediction, unless it was trained on this very image."""
    row = db.table("corrections").get(key)
    if not row["model_sha256"]:
        return
    sql = "SELECT 1 FROM trained_on WHERE model_sha256 = ? AND content_key = ? LIMIT 1"
    if db.execute(sql, [row["model_sha256"], row["content_key"]]).fetchone():
        return
    db.table("scores").insert(
        {
            "kind": "test_then_train",
            "model_id": row["model_id"],
            "model_sha256": row["model_sha256"],
            "correction_id": key,
            "content_key": row["content_key"],
            "ap50": round(read.average_precision, 6),
            "true_positives": read.true_positives,
            "false_positives": read.false_positives,
            "false_negatives": read.false_negatives,
            "scored_at": iso(now),
        }
    )


def _set_state(db: Database, key: int, state: CorrectionState, now: datetime) -> None:
    db.table("corrections").update(key, {"state": state, "state_since": iso(now)})
