"""Attempts at a job: how many there may be, how one ends, and how a job gets one back."""

from datetime import datetime

from sqlite_utils import Database

from cellwatch.records import AcquisitionState
from cellwatch.storage.ledger.acquisitions import iso, set_state

MAX_ATTEMPTS = 3  # of a job that fails without killing its worker
MAX_DAEMON_DEATHS = 3  # one more, and the job is quarantined
MAX_WORKER_DEATHS = 3
FAILED_WITH_CONTENT = (
    "SELECT id FROM acquisitions WHERE fingerprint != '' AND superseded_by IS NULL "
    "AND (state IN ('failed', 'blocked') OR (state = 'quarantined' AND worker_deaths < ? "
    "AND daemon_deaths <= ?))"
)


def end_attempt(db: Database, key: int, outcome: str, reason: str | None, now: datetime) -> None:
    """Record how the attempt under way ended."""
    db.execute(
        """
        UPDATE attempts SET ended_at = ?, outcome = ?, reason = ?
        WHERE acquisition_id = ? AND ended_at IS NULL
        """,
        [iso(now), outcome, reason, key],
    )


def release(
    db: Database,
    key: int,
    state: AcquisitionState,
    reason: str | None,
    again: datetime | None,
    now: datetime,
) -> None:
    """Give a claimed job back to the queue."""
    if db.table("acquisitions").get(key)["superseded_by"] is not None:
        state, reason, again = AcquisitionState.SKIPPED, "the file was overwritten", None
    set_state(db, key, state, reason, now)
    db.execute(
        "UPDATE targets SET state = ? WHERE acquisition_id = ? AND state != 'done'", [state, key]
    )
    db.table("acquisitions").update(
        key,
        {"lease_until": None, "claimed_by": None, "retry_at": iso(again) if again else None},
    )


def give_attempt_back(db: Database, key: int) -> None:
    """Take the last attempt off a job: it was not the job's fault."""
    db.execute("UPDATE acquisitions SET attempts = max(0, attempts - 1) WHERE id = ?", [key])
