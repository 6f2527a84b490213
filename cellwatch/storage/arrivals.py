"""What arrives: files become rows, waiting or queued, each content once under each name.

Each function is one short transaction.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from cellwatch.records import AcquisitionId, AcquisitionState, ImageInfo
from cellwatch.storage.ledger import transaction
from cellwatch.storage.stems import stem_of


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
    """

    watch: str
    path: str
    relative_path: str
    experiment: str
    fingerprint: str
    size: int
    mtime_ns: int
    info: ImageInfo


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
        elif (row["state"], row["reason"]) != (state, reason):
            set_state(db, row["id"], state, reason, now)


def enqueue(
    db: Database, arrival: Arrival, store: str, targets: Sequence[str], now: datetime
) -> AcquisitionId | None:
    """Put a finished file into the queue.

    Returns
    -------
    AcquisitionId or None
        None: this content is known under this name already.
    """
    with transaction(db):
        if _find(db, arrival.watch, arrival.path, arrival.fingerprint):
            return None
        row = _unfinished(db, arrival)
        if row is None:
            acquisition = _insert(db, arrival, AcquisitionState.QUEUED, None, now)
        else:
            acquisition = AcquisitionId(row["id"])
            db.table("acquisitions").update(acquisition, _facts(arrival))
            set_state(db, acquisition, AcquisitionState.QUEUED, None, now)
        db.table("acquisitions").update(acquisition, {"queued_at": iso(now), "store": store})
        for name in targets:
            db.table("targets").insert(
                {"acquisition_id": acquisition, "name": name, "state": AcquisitionState.QUEUED}
            )
        _supersede_older(db, arrival, acquisition)
        return acquisition


def place_is_free(db: Database, store: str, path: str) -> bool:
    """Say whether no other file's masks lie, or will lie, at a place; case does not count.

    Two images whose names differ in the extension alone would share the TIFF of their masks: the
    second is not free either.
    """
    folder, _, name = store.lower().rpartition("/")
    stem = stem_of(name.removesuffix(".zarr"))
    start = f"{folder}/{stem}"
    rows = db.execute(
        "SELECT lower(store) FROM acquisitions "
        "WHERE lower(store) >= ? AND lower(store) < ? AND path != ?",
        [start, f"{start}\U0010ffff", path],
    )
    others = (other.rpartition("/") for (other,) in rows)
    return not any(
        where == folder and stem_of(other.removesuffix(".zarr")) == stem
        for where, _, other in others
    )


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


def _find(db: Database, watch: str, path: str, fingerprint: str) -> bool:
    sql = "SELECT 1 FROM acquisitions WHERE watch = ? AND path = ? AND fingerprint = ?"
    return db.execute(sql, [watch, path, fingerprint]).fetchone() is not None


def _unfinished(db: Database, arrival: Arrival) -> dict[str, Any] | None:
    # A file that is still being written has no fingerprint; one row per path stands for it.
    rows = db.table("acquisitions").rows_where(
        "watch = ? AND path = ? AND fingerprint = ''", [arrival.watch, arrival.path]
    )
    return next(iter(rows), None)


def _insert(
    db: Database, arrival: Arrival, state: AcquisitionState, reason: str | None, now: datetime
) -> AcquisitionId:
    fingerprint = arrival.fingerprint if state == AcquisitionState.QUEUED else ""
    table = db.table("acquisitions").insert(
        {
            **_facts(arrival),
            "fingerprint": fingerprint,
            "state": state,
            "state_since": iso(now),
            "reason": reason,
            "arrived_at": iso(now),
        }
    )
    return AcquisitionId(int(table.last_pk))  # type: ignore[arg-type]


def _facts(arrival: Arrival) -> dict[str, Any]:
    info = arrival.info
    return {
        "watch": arrival.watch,
        "path": arrival.path,
        "relative_path": arrival.relative_path,
        "experiment": arrival.experiment,
        "fingerprint": arrival.fingerprint,
        "size": arrival.size,
        "mtime_ns": arrival.mtime_ns,
        "format": info.format or None,
        "axes": info.axes or None,
        "shape": json.dumps(list(info.shape)) if info.shape else None,
        "dtype": info.dtype or None,
        "pixel_size_um": info.pixel_size_um,
        "channels": json.dumps(list(info.channels)),
    }


def _supersede_older(db: Database, arrival: Arrival, newer: AcquisitionId) -> None:
    db.execute(
        """
        UPDATE acquisitions SET superseded_by = ?
        WHERE watch = ? AND path = ? AND id != ? AND superseded_by IS NULL
        """,
        [newer, arrival.watch, arrival.path, newer],
    )
    db.execute(
        """
        UPDATE acquisitions SET state = 'skipped', state_since = queued_at, retry_at = NULL,
               reason = 'the file was overwritten before its turn'
        WHERE superseded_by = ? AND state NOT IN ('done', 'running')
        """,
        [newer],
    )
