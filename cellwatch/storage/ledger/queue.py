"""The queue: what happens to an acquisition between its arrival and its masks.

Each function is one short transaction. Attempts are counted before the work, so that a job which
kills its worker cannot be tried for ever.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlite_utils import Database

from cellwatch.records import Acquisition, AcquisitionId, AcquisitionState, Outcome, Trouble
from cellwatch.storage.ledger.acquisitions import facts_of_image, iso, set_state
from cellwatch.storage.ledger.attempts import (
    MAX_ATTEMPTS,
    end_attempt,
    give_attempt_back,
    release,
)
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.path_text import text_path
from cellwatch.storage.ledger.rows import first
from cellwatch.storage.ledger.turns import Turn, has_queued, next_ready, turns_of

RETRY_AFTER = timedelta(minutes=1)  # doubled at each further attempt
BLOCKED_AGAIN_AFTER = timedelta(minutes=1)  # doubled each time
BLOCKED_AT_MOST = timedelta(minutes=10)  # or an image would lie long after its disk is back
UNWRITTEN_AGAIN_AFTER = timedelta(seconds=3)


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold on an acquisition.

    Attributes
    ----------
    acquisition_id : int
    watch, path, experiment, fingerprint, store : str
    targets : tuple of str
    worker_deaths, daemon_deaths : int
        How often a worker died over it, and the daemon while it was in hand.
    shape : tuple of int
        Of the image's array; empty where it is not known.
    axes : str
    queued_at : str
    compared_with : str
        The sha256 of the content whose masks stand: with the same content nothing is to be done.
    former_store : str
        Where the masks lie of an image that was renamed or moved.
    """

    acquisition_id: AcquisitionId
    watch: str
    path: str
    experiment: str
    fingerprint: str
    store: str
    targets: tuple[str, ...]
    worker_deaths: int
    daemon_deaths: int = 0
    shape: tuple[int, ...] = ()
    axes: str = ""
    queued_at: str = ""
    compared_with: str = ""
    former_store: str = ""


def claim(
    db: Database,
    *,
    device: str,
    worker_pid: int,
    now: datetime,
    lease: timedelta,
    is_newest: bool = False,
    folders: Sequence[Turn] | None = None,
) -> Claim | None:
    """Take the next acquisition, counting the attempt before the work.

    Parameters
    ----------
    is_newest : bool
        Whether it is the one that came last, of those that are as urgent as any.
    folders : sequence of Turn, or None
        Of which folders; None: of all that there are.

    Returns
    -------
    Claim or None
        None: nothing is ready.
    """
    with transaction(db):
        ready = _next_ready(db, folders, now, is_newest=is_newest)
        if ready is None:
            return None
        _begin(db, ready, (device, worker_pid), now, now + lease)
        rows = db.execute(
            "SELECT name FROM targets WHERE acquisition_id = ? ORDER BY id", [ready.id]
        )
        names = tuple(name for (name,) in rows)
    return Claim(
        AcquisitionId(ready.id),
        ready.watch,
        text_path(ready.path),
        ready.experiment,
        ready.fingerprint,
        ready.store or "",
        names,
        ready.worker_deaths,
        ready.daemon_deaths,
        ready.shape or (),
        ready.axes or "",
        ready.queued_at or "",
        ready.compared_with or "",
        ready.former_store or "",
    )


def _next_ready(
    db: Database, folders: Sequence[Turn] | None, now: datetime, *, is_newest: bool
) -> Acquisition | None:
    turns = turns_of(db, folders)
    ready = next_ready(db, turns, now, is_newest=is_newest)
    if ready is None or ready.store is None:
        return ready
    # Masks that are to be moved from where its own will lie go first.
    sql = """
        SELECT * FROM acquisitions INDEXED BY acquisitions_by_former_store
        WHERE former_store = ? AND id != ? AND state = 'queued'
    """
    leaving = first(db, Acquisition, sql, [ready.store, ready.id])
    may_go = leaving is not None and any(turn.watch == leaving.watch for turn in turns)
    return leaving if may_go else ready


def _begin(
    db: Database,
    ready: Acquisition,
    worker: tuple[str, int],  # device and pid
    now: datetime,
    lease_until: datetime,
) -> None:
    key, number, (device, pid) = ready.id, ready.attempts + 1, worker
    set_state(db, key, AcquisitionState.RUNNING, None, now)
    db.table("acquisitions").update(
        key,
        {
            "started_at": iso(now),
            "attempts": number,
            "lease_until": iso(lease_until),
            "claimed_by": device,
            "retry_at": None,
        },
    )
    attempt = {"acquisition_id": key, "number": number, "device": device}
    db.table("attempts").insert({**attempt, "worker_pid": pid, "started_at": iso(now)})


def finish(
    db: Database,
    outcome: Outcome,
    facts: Mapping[str, Mapping[str, Any]],  # Any: columns
    now: datetime,
) -> None:
    """Record the masks of an acquisition; they lie in their place already.

    Parameters
    ----------
    db : Database
    outcome : Outcome
    facts : dict
        Per target what the job fixed: `params` (JSON).
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
                    **_computed(facts[result.name], result.precision),
                    "model_id": result.model_id,
                    "model_sha256": result.model_sha256,
                    "state": AcquisitionState.DONE,
                    "rois": result.rois,
                    "planes_apart": result.planes_apart,
                    "labels_sha256": result.labels_sha256 or None,
                    "diameter": result.diameter,
                    "channels": json.dumps(list(result.channels)),
                    "notes": json.dumps(list(result.notes)),
                    "novelty": result.novelty,
                    "choice": json.dumps(asdict(result.choice)) if result.choice else None,
                    "confidence": result.confidence,
                    "sharpness": result.sharpness,
                    "background": result.background,
                    "median_area": result.median_area,
                    "covered": result.covered,
                    "intensity": result.intensity,
                    "pixel_size_um": result.pixel_size_um,
                    "finished_at": iso(now),
                },
            )
        set_state(db, key, AcquisitionState.DONE, None, now)
        db.table("acquisitions").update(
            key,
            {
                "finished_at": iso(now),
                "seconds": outcome.seconds,
                "planes": outcome.planes,
                "content_sha256": outcome.content_sha256,
                "lease_until": None,
                "claimed_by": None,
                "priority": 0,
                "output_mark": None,
                "compared_with": None,
                "former_store": None,
                **(facts_of_image(outcome.info) if outcome.info is not None else {}),
            },
        )
        copied = f"the same content as {outcome.copied_from}: its masks were copied"
        end_attempt(db, key, "done", copied if outcome.copied_from else None, now)


def keep_result(db: Database, acquisition_id: int, now: datetime) -> None:
    """Record that an image holds what its masks were made of: they stay as they are."""
    with transaction(db):
        set_state(db, acquisition_id, AcquisitionState.DONE, None, now)
        columns = ("lease_until", "claimed_by", "compared_with", "former_store")
        facts = dict.fromkeys(columns)
        db.table("acquisitions").update(acquisition_id, facts)
        end_attempt(db, acquisition_id, "unchanged", None, now)


def _computed(facts: Mapping[str, Any], precision: str) -> dict[str, Any]:  # Any: columns
    # The job may ask for whatever suits the device; what it was is recorded.
    if not precision:
        return dict(facts)
    params = {**json.loads(facts["params"]), "precision": precision}
    return {**facts, "params": json.dumps(params)}


def fail(db: Database, outcome: Outcome, now: datetime) -> AcquisitionState:
    """Record why an acquisition has no masks; return the state it is in now.

    A file that is itself at fault is not tried again until it changes. A hindrance around it (a
    full or read-only disk, memory that another program took) is waited out without counting the
    attempt; after a lack of memory the next one is lighter. Anything else is tried again, a little
    later each time, and is quarantined after `MAX_ATTEMPTS`.
    """
    key = outcome.acquisition_id
    with transaction(db):
        attempts = db.table("acquisitions").get(key)["attempts"]
        state, again = _after(outcome.trouble, attempts, _times_blocked(db, key), now)
        if state in (AcquisitionState.BLOCKED, AcquisitionState.WAITING):
            give_attempt_back(db, key)
        if outcome.trouble == Trouble.MEMORY:
            lighter = "UPDATE acquisitions SET worker_deaths = max(1, worker_deaths) WHERE id = ?"
            db.execute(lighter, [key])
        release(db, key, state, outcome.reason, again, now)
        end_attempt(db, key, state, outcome.reason, now)
    return state


def _times_blocked(db: Database, key: int) -> int:
    sql = "SELECT count(*) FROM attempts WHERE acquisition_id = ? AND outcome = 'blocked'"
    return int(db.execute(sql, [key]).fetchone()[0])


def _after(
    trouble: Trouble, attempts: int, n_blocked: int, now: datetime
) -> tuple[AcquisitionState, datetime | None]:
    if trouble == Trouble.FILE:
        return AcquisitionState.FAILED, None
    if trouble == Trouble.MISSING:
        return AcquisitionState.MISSING, None
    if trouble in (Trouble.SURROUNDINGS, Trouble.DEVICE, Trouble.MEMORY):
        later = BLOCKED_AGAIN_AFTER * 2 ** min(n_blocked, 10)
        return AcquisitionState.BLOCKED, now + min(later, BLOCKED_AT_MOST)
    if trouble == Trouble.UNWRITTEN:
        return AcquisitionState.WAITING, now + UNWRITTEN_AGAIN_AFTER
    if attempts >= MAX_ATTEMPTS:
        return AcquisitionState.QUARANTINED, None
    return AcquisitionState.FAILED, now + RETRY_AFTER * 2 ** (attempts - 1)


def set_aside(db: Database, acquisition_id: int, reason: str, now: datetime) -> None:
    """Block an acquisition that the configuration has no place for; it rests until a new start."""
    with transaction(db):
        give_attempt_back(db, acquisition_id)
        release(db, acquisition_id, AcquisitionState.BLOCKED, reason, None, now)
        end_attempt(db, acquisition_id, "blocked", reason, now)


def renew(db: Database, acquisition_id: int, until: datetime) -> None:
    """Prolong the lease of an acquisition whose worker lives."""
    with transaction(db):
        db.table("acquisitions").update(acquisition_id, {"lease_until": iso(until)})


def has_work(db: Database, folders: Sequence[Turn] | None = None) -> bool:
    """Say whether an acquisition is queued or in flight; what is paused is not."""
    is_running = db.execute("SELECT 1 FROM acquisitions WHERE state = 'running' LIMIT 1").fetchone()
    return bool(is_running) or any(has_queued(db, turn.watch) for turn in turns_of(db, folders))


def set_aside_unwatched(db: Database, watches: Sequence[str], now: datetime) -> int:
    """Block what is queued of folders that the configuration has no more; return how many."""
    marks = ",".join("?" * len(watches))
    sql = f"""
        UPDATE acquisitions SET state = 'blocked', state_since = ?, retry_at = NULL,
               reason = 'watched folder ''' || watch || ''' is not in the configuration any more'
        WHERE state = 'queued' AND watch NOT IN ({marks})
    """
    with transaction(db):
        return int(db.execute(sql, [iso(now), *watches]).rowcount)
