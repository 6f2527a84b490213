"""Which alarms there are; light to import, since `status` tells them."""

import sqlite3
from dataclasses import dataclass

from cellwatch.storage.ledger.rows import records


@dataclass(frozen=True, slots=True, kw_only=True)
class RaisedAlarm:
    """An alarm as it was recorded."""

    id: int
    watch: str
    experiment: str
    target: str
    measure: str
    told: str
    acquisition_id: int
    raised_at: str
    ended_at: str | None


def active(db: sqlite3.Connection) -> list[RaisedAlarm]:
    """Return the alarms that there are now."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'alarms'").fetchone():
        return []  # of an earlier version
    return records(db, RaisedAlarm, "SELECT * FROM alarms WHERE ended_at IS NULL ORDER BY id")
