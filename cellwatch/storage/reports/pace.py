"""How fast the station is, with which models, and how much waits."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta

from cellwatch.storage.ledger.rows import records
from cellwatch.storage.reports.pauses import pauses
from cellwatch.storage.reports.station import has_marks

MANY = 5_000  # attempts that are looked through for a number
# The acquisitions that were done last, also those that were done again.
LATEST = """
    SELECT DISTINCT acquisition_id AS id FROM (
        SELECT acquisition_id FROM attempts WHERE outcome = 'done' ORDER BY id DESC LIMIT ?)
"""


@dataclass(frozen=True, slots=True)
class Speed:
    """What the latest acquisitions took.

    Attributes
    ----------
    acquisitions : int
        How many these are.
    seconds : float or None
        Their mean.
    rois : int or None
        In all of them.
    last_hour : int
        How many were finished within the last hour, at most `MANY`.
    """

    acquisitions: int
    seconds: float | None
    rois: int | None
    last_hour: int


def speed(db: sqlite3.Connection, now: datetime, last: int = 100) -> Speed:
    """Return how many ROIs and seconds the latest acquisitions took."""
    sql = f"""
        WITH latest AS ({LATEST})
        SELECT count(*) AS acquisitions, avg(seconds) AS seconds,
               (SELECT sum(rois) FROM targets
                WHERE acquisition_id IN (SELECT id FROM latest)) AS rois,
               (SELECT count(DISTINCT acquisition_id) FROM (
                    SELECT acquisition_id, ended_at FROM attempts
                    WHERE outcome = 'done' ORDER BY id DESC LIMIT ?
                ) WHERE ended_at >= ?) AS last_hour
        FROM acquisitions WHERE id IN (SELECT id FROM latest)
    """
    hour_ago = (now - timedelta(hours=1)).isoformat(timespec="milliseconds")
    (found,) = records(db, Speed, sql, [last, MANY, hour_ago])
    return found


def models_of_latest(db: sqlite3.Connection, last: int = 100) -> dict[str, int]:
    """Return which models segmented the latest acquisitions, and how many each, most first."""
    sql = f"""
        SELECT model_id, count(DISTINCT acquisition_id) AS n FROM targets
        WHERE state = 'done' AND acquisition_id IN ({LATEST})
        GROUP BY model_id ORDER BY n DESC, model_id
    """
    return dict(db.execute(sql, [last]).fetchall())


def n_to_do(db: sqlite3.Connection) -> int:
    """Count the acquisitions that wait for their turn, and whose turn will come: none is paused."""
    sql = """
        SELECT watch, count(*) FROM acquisitions
        WHERE state = 'queued' AND superseded_by IS NULL GROUP BY watch
    """
    waiting = dict(db.execute(sql).fetchall())
    paused = {each.watch for each in pauses(db)} if has_marks(db) else set()
    return sum(n for watch, n in waiting.items() if not paused & {"", watch})
