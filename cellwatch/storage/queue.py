"""The queue: what happens to an acquisition between its arrival and its masks.

Each function is one short transaction. Attempts are counted before the work, so that a job which
kills its worker cannot be tried for ever.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlite_utils import Database

from cellwatch.records import AcquisitionId, AcquisitionState, ImageInfo, Outcome, Trouble
from cellwatch.storage.ledger import transaction
from cellwatch.storage.stems import stem_of

MAX_ATTEMPTS = 3  # of a job that fails without killing its worker
MAX_WORKER_DEATHS = 3
MAX_DAEMON_DEATHS = 3  # one more, and the job is quarantined
RETRY_AFTER = timedelta(minutes=1)  # doubled at each further attempt
BLOCKED_AGAIN_AFTER = timedelta(minutes=1)


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


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold on an acquisition.

    Attributes
    ----------
    acquisition_id : int
    watch, path, fingerprint, store : str
    targets : tuple of str
    worker_deaths, daemon_deaths : int
    """

    acquisition_id: AcquisitionId
    watch: str
    path: str
    fingerprint: str
    store: str
    targets: tuple[str, ...]
    worker_deaths: int
    daemon_deaths: int


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
            _set_state(db, row["id"], state, reason, now)


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
            _set_state(db, acquisition, AcquisitionState.QUEUED, None, now)
        db.table("acquisitions").update(acquisition, {"queued_at": _iso(now), "store": store})
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


def claim(
    db: Database, *, device: str, worker_pid: int, now: datetime, lease: timedelta
) -> Claim | None:
    """Take the next acquisition, counting the attempt before the work.

    Returns
    -------
    Claim or None
        None: nothing is ready.
    """
    with transaction(db):
        found = db.execute(
            """
            SELECT id, watch, path, fingerprint, store, attempts, worker_deaths, daemon_deaths
            FROM acquisitions
            WHERE state = 'queued' OR (state IN ('failed', 'blocked') AND retry_at <= ?)
            ORDER BY state != 'queued', daemon_deaths >= ?, id
            LIMIT 1
            """,
            [_iso(now), MAX_DAEMON_DEATHS],
        ).fetchone()
        if found is None:
            return None
        key, watch, path, fingerprint, store, attempts, worker_deaths, daemon_deaths = found
        _set_state(db, key, AcquisitionState.RUNNING, None, now)
        db.table("acquisitions").update(
            key,
            {
                "started_at": _iso(now),
                "attempts": attempts + 1,
                "lease_until": _iso(now + lease),
                "claimed_by": device,
                "retry_at": None,
            },
        )
        db.table("attempts").insert(
            {
                "acquisition_id": key,
                "number": attempts + 1,
                "device": device,
                "worker_pid": worker_pid,
                "started_at": _iso(now),
            }
        )
        rows = db.execute("SELECT name FROM targets WHERE acquisition_id = ? ORDER BY id", [key])
        names = tuple(name for (name,) in rows)
    return Claim(
        AcquisitionId(key), watch, path, fingerprint, store, names, worker_deaths, daemon_deaths
    )


def finish(db: Database, outcome: Outcome, facts: dict[str, dict[str, Any]], now: datetime) -> None:
    """Record the masks of an acquisition; they lie in their place already.

    Parameters
    ----------
    db : Database
    outcome : Outcome
    facts : dict
        Per target what the job fixed: `model_id`, `model_sha256`, `params` (JSON).
    now : datetime
    """
    key = outcome.acquisition_id
    with transaction(db):
        for result in outcome.targets:
            row = next(
                db.table("targets").rows_where(
                    "acquisition_id = ? AND name = ?", [key, result.name]
                )
            )
            db.table("targets").update(
                row["id"],
                {
                    **facts[result.name],
                    "state": AcquisitionState.DONE,
                    "rois": result.rois,
                    "diameter": result.diameter,
                    "channels": json.dumps(list(result.channels)),
                    "notes": json.dumps(list(result.notes)),
                    "finished_at": _iso(now),
                },
            )
        _set_state(db, key, AcquisitionState.DONE, None, now)
        db.table("acquisitions").update(
            key,
            {
                "finished_at": _iso(now),
                "seconds": outcome.seconds,
                "planes": outcome.planes,
                "content_sha256": outcome.content_sha256,
                "lease_until": None,
                "claimed_by": None,
            },
        )
        _end_attempt(db, key, "done", None, now)


def fail(db: Database, outcome: Outcome, now: datetime) -> AcquisitionState:
    """Record why an acquisition has no masks; return the state it is in now.

    A file that is itself at fault is not tried again until it changes. A hindrance around it (a
    full or read-only disk) is waited out without counting the attempt. Anything else is tried
    again, a little later each time, and is quarantined after `MAX_ATTEMPTS`.
    """
    key = outcome.acquisition_id
    with transaction(db):
        attempts = db.table("acquisitions").get(key)["attempts"]
        state, again = _after(outcome.trouble, attempts, now)
        if state == AcquisitionState.BLOCKED:
            _uncount(db, key)
        _release(db, key, state, outcome.reason, again, now)
        _end_attempt(db, key, state, outcome.reason, now)
    return state


def _after(
    trouble: Trouble, attempts: int, now: datetime
) -> tuple[AcquisitionState, datetime | None]:
    if trouble == Trouble.FILE:
        return AcquisitionState.FAILED, None
    if trouble == Trouble.MISSING:
        return AcquisitionState.MISSING, None
    if trouble == Trouble.SURROUNDINGS:
        return AcquisitionState.BLOCKED, now + BLOCKED_AGAIN_AFTER
    if attempts >= MAX_ATTEMPTS:
        return AcquisitionState.QUARANTINED, None
    return AcquisitionState.FAILED, now + RETRY_AFTER * 2 ** (attempts - 1)


def worker_died(db: Database, acquisition_id: int, how: str, now: datetime) -> AcquisitionState:
    """Record that the worker died over an acquisition; quarantine it at the third time."""
    with transaction(db):
        deaths = db.table("acquisitions").get(acquisition_id)["worker_deaths"] + 1
        db.table("acquisitions").update(acquisition_id, {"worker_deaths": deaths})
        is_over = deaths >= MAX_WORKER_DEATHS
        state = AcquisitionState.QUARANTINED if is_over else AcquisitionState.QUEUED
        reason = f"the worker died over it {deaths} times ({how})" if is_over else None
        _release(db, acquisition_id, state, reason, None, now)
        _end_attempt(db, acquisition_id, "worker_died", how, now)
    return state


def hand_back(db: Database, acquisition_id: int, now: datetime) -> None:
    """Put an acquisition back into the queue as if it had not been claimed."""
    with transaction(db):
        _uncount(db, acquisition_id)
        _release(db, acquisition_id, AcquisitionState.QUEUED, None, None, now)
        _end_attempt(db, acquisition_id, "handed_back", None, now)


def renew(db: Database, acquisition_id: int, until: datetime) -> None:
    """Prolong the lease of an acquisition whose worker lives."""
    with transaction(db):
        db.table("acquisitions").update(acquisition_id, {"lease_until": _iso(until)})


def recover(db: Database, now: datetime) -> list[str]:
    """Put back what was in flight when the daemon died; return the stores concerned."""
    with transaction(db):
        rows = list(db.table("acquisitions").rows_where("state = 'running'"))
        for row in rows:
            deaths = row["daemon_deaths"] + 1
            db.table("acquisitions").update(row["id"], {"daemon_deaths": deaths})
            is_over = deaths > MAX_DAEMON_DEATHS
            state = AcquisitionState.QUARANTINED if is_over else AcquisitionState.QUEUED
            reason = f"it was in flight at {deaths} deaths of the daemon" if is_over else None
            _uncount(db, row["id"])
            _release(db, row["id"], state, reason, None, now)
            _end_attempt(db, row["id"], "daemon_died", None, now)
    return [row["store"] for row in rows]


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
            "state_since": _iso(now),
            "reason": reason,
            "arrived_at": _iso(now),
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


def _set_state(
    db: Database, key: int, state: AcquisitionState, reason: str | None, now: datetime
) -> None:
    db.table("acquisitions").update(
        key, {"state": state, "state_since": _iso(now), "reason": reason}
    )


def _release(
    db: Database,
    key: int,
    state: AcquisitionState,
    reason: str | None,
    again: datetime | None,
    now: datetime,
) -> None:
    _set_state(db, key, state, reason, now)
    db.table("acquisitions").update(
        key,
        {"lease_until": None, "claimed_by": None, "retry_at": _iso(again) if again else None},
    )


def _uncount(db: Database, key: int) -> None:
    db.execute("UPDATE acquisitions SET attempts = max(0, attempts - 1) WHERE id = ?", [key])


def _end_attempt(db: Database, key: int, outcome: str, reason: str | None, now: datetime) -> None:
    db.execute(
        """
        UPDATE attempts SET ended_at = ?, outcome = ?, reason = ?
        WHERE acquisition_id = ? AND ended_at IS NULL
        """,
        [_iso(now), outcome, reason, key],
    )


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
