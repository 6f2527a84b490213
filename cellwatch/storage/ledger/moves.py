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


def with_content_of(db: Ledger, arrival: Arrival) -> list[Acquisition]:
    """Return the images of a watched folder that have a file's content, under other names.

    Files that were left alone without being opened are known by size and time.
    """
    sql = """
        SELECT * FROM acquisitions WHERE watch = ?1 AND path != ?2 AND superseded_by IS NULL
        AND (fingerprint = ?3 OR (fingerprint = '' AND size = ?4 AND mtime_ns = ?5
                                  AND state = 'skipped'))
        ORDER BY id
    """
    mtime_ns = min(arrival.mtime_ns, LATEST_NS)
    of = [arrival.watch, path_text(arrival.path), arrival.fingerprint, arrival.size, mtime_ns]
    return records(db, Acquisition, sql, of)


def follow(
    db: Database, arrival: Arrival, known: Acquisition, store: str, now: datetime
) -> AcquisitionId:
    """Give an image the path at which its file lies now, and its masks their new place.

    Masks, flags, corrections and the model of its experiment stay what they are. One that is being
    segmented has to be waited for.
    """
    key = AcquisitionId(known.id)
    with transaction(db):
        drop_unfinished(db, arrival.watch, arrival.path)
        facts = {**facts_of_file(arrival), "moved_from": known.path}
        if known.fingerprint:
            facts |= {**facts_of_place(store), **_state_after(known, now)}
        db.table("acquisitions").update(key, facts)
        supersede_older(db, arrival, key)
        _take_pins_along(db, known, arrival)
    return key


def store_with_content(db: Ledger, claim: Claim) -> str:
    """Return where masks of the same content lie, of a file of another name; "": nowhere."""
    sql = """
        SELECT store FROM acquisitions
        WHERE fingerprint = ? AND id != ? AND state = 'done' AND superseded_by IS NULL
              AND output_mark IS NULL AND store IS NOT NULL
        ORDER BY watch != ?, id DESC LIMIT 1
    """
    found = db.execute(sql, [claim.fingerprint, claim.acquisition_id, claim.watch]).fetchone()
    return str(found[0]) if found else ""


def _state_after(known: Acquisition, now: datetime) -> dict[str, Any]:  # Any: columns
    if known.state in AS_THEY_ARE and not known.finished_at:
        return {}
    fresh = {"attempts": 0, "worker_deaths": 0, "daemon_deaths": 0, "retry_at": None}
    queued: dict[str, Any] = {
        "state": AcquisitionState.QUEUED,
        "state_since": iso(now),
        "reason": None,
        **fresh,
    }
    if not known.finished_at or known.store is None:
        return queued
    before = known.former_store or known.store
    # A worker compares the whole content: it is segmented again only if it is another.
    content = known.compared_with or known.content_sha256
    return {**queued, "former_store": before, "compared_with": content}


def _take_pins_along(db: Database, known: Acquisition, arrival: Arrival) -> None:
    # A folder that was renamed is the experiment it was, and keeps its model.
    for before, after in (
        (known.experiment, arrival.experiment),
        (known.path, arrival.path),
    ):
        db.execute(
            """
            INSERT OR IGNORE INTO pins
            SELECT watch, ?, target, model_id, model_sha256, pinned_by, pinned_at
            FROM pins WHERE watch = ? AND experiment = ?
            """,
            [path_text(after), known.watch, before],
        )
