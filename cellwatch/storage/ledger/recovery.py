"""What brings jobs back: a daemon that starts, a worker that died, a lease that ran out."""

from datetime import datetime

from sqlite_utils import Database

from cellwatch.records import AcquisitionState
from cellwatch.storage.ledger.attempts import (
    FAILED_WITH_CONTENT,
    MAX_DAEMON_DEATHS,
    MAX_WORKER_DEATHS,
    end_attempt,
    give_attempt_back,
    release,
)
from cellwatch.storage.ledger.database import transaction


def retry_failed(db: Database, now: datetime) -> int:
    """Queue again what failed: the configuration may be another now. Return how many.

    What is quarantined because a worker or the daemon died over it stays so until its file changes;
    what merely failed several times may have been the fault of a disk or a folder.
    """
    with transaction(db):
        deaths = [MAX_WORKER_DEATHS, MAX_DAEMON_DEATHS]
        keys = [key for (key,) in db.execute(FAILED_WITH_CONTENT, deaths).fetchall()]
        for key in keys:
            release(db, key, AcquisitionState.QUEUED, None, None, now)
            db.table("acquisitions").update(key, {"attempts": 0})
    return len(keys)


def worker_died(db: Database, acquisition_id: int, how: str, now: datetime) -> AcquisitionState:
    """Record that the worker died over an acquisition; quarantine it at the third time."""
    with transaction(db):
        deaths = db.table("acquisitions").get(acquisition_id)["worker_deaths"] + 1
        db.table("acquisitions").update(acquisition_id, {"worker_deaths": deaths})
        is_over = deaths >= MAX_WORKER_DEATHS
        state = AcquisitionState.QUARANTINED if is_over else AcquisitionState.QUEUED
        reason = f"the worker died over it {deaths} times ({how})" if is_over else None
        release(db, acquisition_id, state, reason, None, now)
        end_attempt(db, acquisition_id, "worker_died", how, now)
    return state


def hand_back(db: Database, acquisition_id: int, now: datetime) -> None:
    """Put an acquisition back into the queue as if it had not been claimed."""
    with transaction(db):
        give_attempt_back(db, acquisition_id)
        release(db, acquisition_id, AcquisitionState.QUEUED, None, None, now)
        end_attempt(db, acquisition_id, "handed_back", None, now)


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
            give_attempt_back(db, row["id"])
            release(db, row["id"], state, reason, None, now)
            end_attempt(db, row["id"], "daemon_died", None, now)
    return [row["store"] for row in rows]
