"""Files that were renamed or moved: what is known of an image goes with its content.

A worker gives the masks their new place; until then `former_store` says where they lie.
"""

from datetime import datetime
from typing import Any

from sqlite_utils import Database

from cellwatch.records import Acquisition, AcquisitionId, AcquisitionState
from cellwatch.storage.ledger.acquisitions import (
    LATEST_NS,
    Arrival,
    drop_unfinished,
    facts_of_file,
    facts_of_place,
    iso,
    supersede_older,
)
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.ledger.queue import Claim
from cellwatch.storage.ledger.rows import Ledger, records

AS_THEY_ARE = (AcquisitionState.QUEUED, AcquisitionState.SKIPPED)


def with_content_of(db: Ledger, arrival: Arrival, most: int) -> list[Acquisition]:
    """Return images of a watched folder that have a file's content, under other names.

    Files that were left alone without being opened are known by size and time. Of a content that
    very many files have, only the first `most` are returned.
    """
    among = "SELECT * FROM acquisitions INDEXED BY acquisitions_by_content"
    others = "watch = ?1 AND path != ?2 AND superseded_by IS NULL"
    sql = f"""
        {among} WHERE fingerprint = ?3 AND fingerprint != '' AND {others}
        UNION ALL
        {among} WHERE fingerprint = '' AND size = ?4 AND {others} AND mtime_ns = ?5
                      AND state = 'skipped'
        LIMIT ?6
    """
    mtime_ns = min(arrival.mtime_ns, LATEST_NS)
    of = [arrival.watch, path_text(arrival.path), arrival.fingerprint, arrival.size, mtime_ns, most]
    return records(db, Acquisition, sql, of)


def follow(
    db: Database,
    arrival: Arrival,
    known: Acquisition,
    store: str,
    now: datetime,
    *,
    is_folder_gone: bool = False,
) -> AcquisitionId:
    """Give an image the path at which its file lies now, and its masks their new place.

    Masks, flags and corrections stay what they are, and so does the model where the whole folder
    was renamed (`is_folder_gone`). One that is being segmented has to be waited for.
    """
    key = AcquisitionId(known.id)
    with transaction(db):
        drop_unfinished(db, arrival.watch, arrival.path)
        facts = {**facts_of_file(arrival), "moved_from": known.path}
        if known.fingerprint and known.state != AcquisitionState.SKIPPED:
            facts |= {**facts_of_place(store), **_state_after(known, now)}
        _take_pins_along(db, known, arrival, is_folder_gone=is_folder_gone)
        db.table("acquisitions").update(key, facts)
        supersede_older(db, arrival, key)
    return key


def store_with_content(db: Ledger, claim: Claim) -> str:
    """Return where masks of the same content lie, of a file of another name; "": nowhere."""
    sql = """
        SELECT store FROM acquisitions INDEXED BY acquisitions_by_content
        WHERE fingerprint = ? AND id != ? AND state = 'done' AND superseded_by IS NULL
              AND output_mark IS NULL AND store IS NOT NULL
        ORDER BY watch != ?, id DESC LIMIT 1
    """
    found = db.execute(sql, [claim.fingerprint, claim.acquisition_id, claim.watch]).fetchone()
    return str(found[0]) if found else ""


def _state_after(known: Acquisition, now: datetime) -> dict[str, Any]:  # Any: columns
    # Its masks have another place now. Who is done is compared as a whole, since fingerprints look
    # at head and tail alone; what was to be done again stays so.
    has_masks = known.finished_at is not None and known.store is not None
    moved = {"former_store": known.former_store or known.store} if has_masks else {}
    if known.state in AS_THEY_ARE:
        return moved
    fresh = {"attempts": 0, "worker_deaths": 0, "daemon_deaths": 0, "retry_at": None}
    queued = {"state": AcquisitionState.QUEUED, "state_since": iso(now), "reason": None, **fresh}
    if known.state == AcquisitionState.DONE and has_masks:
        queued["compared_with"] = known.content_sha256
    return {**queued, **moved}


def _take_pins_along(
    db: Database, known: Acquisition, arrival: Arrival, *, is_folder_gone: bool
) -> None:
    # A folder that was renamed is the experiment it was, and keeps its model. One image that was
    # moved out of another takes no model along for those that come.
    experiment, path = path_text(arrival.experiment), path_text(arrival.path)
    pairs = [(known.path, path), (known.relative_path, path_text(arrival.relative_path))]
    if is_folder_gone and known.experiment != experiment:
        pairs.append((known.experiment, experiment))
    for before, after in pairs:
        db.execute(
            """
            INSERT OR IGNORE INTO pins
            SELECT watch, ?, target, model_id, model_sha256, pinned_by, pinned_at
            FROM pins WHERE watch = ? AND experiment = ?
            """,
            [after, known.watch, before],
        )
