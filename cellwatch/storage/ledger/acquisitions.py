"""What arrives: files become rows, waiting or queued, each content once under each name.

Each function is one short transaction.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from cellwatch.files.members import PlateField, image_name, plate_field
from cellwatch.files.stems import stem_key
from cellwatch.records import Acquisition, AcquisitionId, AcquisitionState, ImageInfo
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.ledger.rows import Ledger, first
from cellwatch.storage.masks.paths import place_key

LATEST_NS = 2**63 - 1  # what SQLite's integers hold: the year 2262
TRIED_AGAIN = (
    AcquisitionState.FAILED,
    AcquisitionState.QUARANTINED,
    AcquisitionState.MISSING,
    AcquisitionState.BLOCKED,
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file that is there to be taken in.

    Attributes
    ----------
    watch : str
        Name of the watched folder.
    path, relative_path : str
    experiment : str
    fingerprint : str
    size : int, bytes
    mtime_ns : int
    info : ImageInfo
    ctime_ns : int or None
    """

    watch: str
    path: str
    relative_path: str
    experiment: str
    fingerprint: str
    size: int
    mtime_ns: int
    info: ImageInfo
    ctime_ns: int | None = None


def note_waiting(
    db: Database,
    arrival: Arrival,
    state: AcquisitionState,
    reason: str,
    now: datetime,
) -> None:
    """Record a file that is there but not to be segmented yet, and why."""
    with transaction(db):
        row = _unfinished(db, arrival)
        if row is None:
            _insert(db, arrival, state, reason, now)
        elif (row.state, row.reason) != (state, reason):
            set_state(db, row.id, state, reason, now)


def enqueue(
    db: Database, arrival: Arrival, store: str, targets: Sequence[str], now: datetime
) -> AcquisitionId | None:
    """Put a finished file into the queue.

    Returns
    -------
    AcquisitionId or None
        None: this content is known under this name already, and is done or on its way. One that
        failed is queued again: somebody touched the file.
    """
    with transaction(db):
        if known := _find(db, arrival):
            return _queue_again(db, known, arrival, now)
        row = _unfinished(db, arrival)
        if row is None:
            acquisition = _insert(db, arrival, AcquisitionState.QUEUED, None, now)
        elif row.state == AcquisitionState.SKIPPED and _is_same_file(row, arrival):
            return None
        else:
            acquisition = AcquisitionId(row.id)
            db.table("acquisitions").update(acquisition, _facts(arrival))
            set_state(db, acquisition, AcquisitionState.QUEUED, None, now)
        db.table("acquisitions").update(
            acquisition, {"queued_at": iso(now), **facts_of_place(store)}
        )
        for name in targets:
            db.table("targets").insert(
                {"acquisition_id": acquisition, "name": name, "state": AcquisitionState.QUEUED}
            )
        supersede_older(db, arrival, acquisition)
        return acquisition


def is_known(db: Ledger, arrival: Arrival) -> bool:
    """Say whether this content was taken in under this name before, whatever became of it."""
    return _find(db, arrival) is not None


def note_gone(db: Database, watch: str, path: str, now: datetime) -> None:
    """Record that a file that was not whole is there no more."""
    with transaction(db):
        rows = db.execute(
            "SELECT id FROM acquisitions WHERE watch = ? AND path = ? AND fingerprint = '' "
            "AND state IN ('waiting', 'interrupted')",
            [watch, path_text(path)],
        ).fetchall()
        for (key,) in rows:
            set_state(db, key, AcquisitionState.MISSING, "it vanished before it was whole", now)


def drop_unfinished(db: Database, watch: str, path: str) -> None:
    """Drop the row of a file that was not whole, and turned out to be no image itself."""
    with transaction(db):
        db.execute(
            "DELETE FROM acquisitions WHERE watch = ? AND path = ? AND fingerprint = '' "
            "AND state IN ('waiting', 'interrupted', 'failed')",
            [watch, path_text(path)],
        )


def now_a_part(db: Database, watch: str, path: str, reason: str, now: datetime) -> None:
    """Leave a file alone that was taken for an image, and belongs to a set that came after it."""
    with transaction(db):
        db.execute(
            "UPDATE acquisitions SET state = 'skipped', state_since = ?, reason = ?, "
            "retry_at = NULL WHERE watch = ? AND path = ? AND fingerprint != '' "
            "AND superseded_by IS NULL AND state NOT IN ('skipped', 'running')",
            [iso(now), reason, watch, path_text(path)],
        )


def why_left_alone(db: Database, arrival: Arrival) -> str:
    """Return why a file that did not change is not to be segmented; "": nothing says so."""
    row = _unfinished(db, arrival)
    is_left = row is not None and row.state == AcquisitionState.SKIPPED
    return (row.reason or "") if row and is_left and _is_same_file(row, arrival) else ""


def skip_all(db: Database, arrivals: Sequence[Arrival], reason: str, now: datetime) -> None:
    """Record files that are left alone, all in one transaction."""
    with transaction(db):
        rows = [
            _row(arrival, AcquisitionState.SKIPPED, reason, now)
            for arrival in arrivals
            if _unfinished(db, arrival) is None
        ]
        db.table("acquisitions").insert_all(rows)


def set_state(
    db: Database, key: int, state: AcquisitionState, reason: str | None, now: datetime
) -> None:
    """Write down a state with its reason and its time; inside a transaction."""
    db.table("acquisitions").update(
        key, {"state": state, "state_since": iso(now), "reason": reason}
    )


def iso(moment: datetime) -> str:
    """Return a moment as the ledger writes it."""
    return moment.isoformat(timespec="milliseconds")


def _find(db: Ledger, arrival: Arrival) -> Acquisition | None:
    return _at(db, arrival, arrival.fingerprint)


def _queue_again(
    db: Database, known: Acquisition, arrival: Arrival, now: datetime
) -> AcquisitionId | None:
    key = AcquisitionId(known.id)
    is_same_file = _is_same_file(known, arrival)
    facts = _facts(arrival)
    db.table("acquisitions").update(key, {k: facts[k] for k in ("size", "mtime_ns", "ctime_ns")})
    if growing := _unfinished(db, arrival):
        reason = "it was rewritten with what it had held before"
        set_state(db, growing.id, AcquisitionState.SKIPPED, reason, now)
    is_current = known.superseded_by is None
    is_done = known.state == AcquisitionState.DONE
    # A done file with a new time may differ where the fingerprint does not look: the worker
    # compares the whole content, and its masks stay as they are if it is the same.
    if is_current and known.state not in TRIED_AGAIN and (is_same_file or not is_done):
        return None
    looked_at = known.content_sha256 if is_current and is_done else None
    db.table("acquisitions").update(
        key,
        {
            "attempts": 0,
            "worker_deaths": 0,
            "daemon_deaths": 0,
            "retry_at": None,
            "compared_with": looked_at,
        },
    )
    if not is_current:  # the file was overwritten with what it had held before
        db.table("acquisitions").update(key, {"superseded_by": None})
        supersede_older(db, arrival, key)
    set_state(db, key, AcquisitionState.QUEUED, None, now)
    return key


def _unfinished(db: Database, arrival: Arrival) -> Acquisition | None:
    # A file that is still being written has no fingerprint; one row per path represents it.
    return _at(db, arrival, "")


def _at(db: Ledger, arrival: Arrival, fingerprint: str) -> Acquisition | None:
    sql = "SELECT * FROM acquisitions WHERE watch = ? AND path = ? AND fingerprint = ?"
    return first(db, Acquisition, sql, [arrival.watch, path_text(arrival.path), fingerprint])


def _is_same_file(row: Acquisition, arrival: Arrival) -> bool:
    facts = _facts(arrival)
    ctimes = (row.ctime_ns, facts["ctime_ns"])
    is_same_time = None in ctimes or ctimes[0] == ctimes[1]
    return (row.size, row.mtime_ns) == (facts["size"], facts["mtime_ns"]) and is_same_time


def facts_of_place(store: str) -> dict[str, str]:
    """Return the columns that tell where the masks of an image lie."""
    return {"store": store, "place_key": place_key(store)}


def _insert(
    db: Database, arrival: Arrival, state: AcquisitionState, reason: str | None, now: datetime
) -> AcquisitionId:
    table = db.table("acquisitions").insert(_row(arrival, state, reason, now))
    return AcquisitionId(int(table.last_pk))  # type: ignore[arg-type]  # None only before an insert


def _row(
    arrival: Arrival, state: AcquisitionState, reason: str | None, now: datetime
) -> dict[str, Any]:  # Any: columns
    return {
        **_facts(arrival),
        "fingerprint": arrival.fingerprint if state == AcquisitionState.QUEUED else "",
        "state": state,
        "state_since": iso(now),
        "reason": reason,
        "arrived_at": iso(now),
    }


def _facts(arrival: Arrival) -> dict[str, Any]:  # Any: columns
    info = arrival.info
    return {
        "watch": arrival.watch,
        **facts_of_file(arrival),
        "fingerprint": arrival.fingerprint,
        **facts_of_image(info),
    }


def facts_of_file(arrival: Arrival) -> dict[str, str | int | None]:
    """Return the columns that tell where an image lies, and when it was written."""
    place = plate_field(arrival.relative_path)
    if arrival.info.well:
        plate = arrival.relative_path.rpartition("/")[0] or arrival.watch
        place = PlateField(plate, arrival.info.well, arrival.info.field or 1)
    return {
        "path": path_text(arrival.path),
        "relative_path": path_text(arrival.relative_path),
        "stem": path_text(stem_key(image_name(arrival.relative_path))),
        "experiment": path_text(arrival.experiment),
        "size": arrival.size,
        "mtime_ns": min(arrival.mtime_ns, LATEST_NS),
        "ctime_ns": arrival.ctime_ns,
        "plate": path_text(place.plate) if place else None,
        "well": place.well if place else None,
        "field": place.field if place else None,
    }


def facts_of_image(info: ImageInfo) -> dict[str, Any]:  # Any: columns
    """Return the columns that tell what an image is made of."""
    return {
        "format": info.format or None,
        "axes": info.axes or None,
        "shape": json.dumps(list(info.shape)) if info.shape else None,
        "dtype": info.dtype or None,
        "pixel_size_um": info.pixel_size_um,
        "channels": json.dumps(list(info.channels)),
        "lacks": path_text(info.lacks) if info.lacks else None,
        "file_notes": json.dumps(list(info.notes)) if info.notes else None,
    }


def supersede_older(db: Database, arrival: Arrival, newer: AcquisitionId) -> None:
    """Record that a file holds something else than before; inside a transaction."""
    db.execute(
        """
        UPDATE acquisitions SET superseded_by = ?
        WHERE watch = ? AND path = ? AND id != ? AND superseded_by IS NULL
        """,
        [newer, arrival.watch, path_text(arrival.path), newer],
    )
    db.execute(
        """
        UPDATE acquisitions SET state = 'skipped', state_since = queued_at, retry_at = NULL,
               reason = 'the file was overwritten before its turn'
        WHERE superseded_by IS NOT NULL AND superseded_by = ? AND state NOT IN ('done', 'running')
        """,
        [newer],
    )
