"""What is paused, by whom and since when; light to import, since `status` tells it."""

import json
from dataclasses import dataclass

from cellwatch.storage.ledger.rows import Ledger

PAUSED = "paused:"  # keys of the table `station`; a watched folder's name follows, or none: all


@dataclass(frozen=True, slots=True)
class Pause:
    """Who paused what, and when.

    Attributes
    ----------
    watch : str
        A watched folder; "": all.
    by, since : str
    """

    watch: str
    by: str
    since: str


def pauses(db: Ledger) -> list[Pause]:
    """Return what is paused."""
    sql = "SELECT key, value FROM station WHERE key LIKE ? ORDER BY key"
    return [
        Pause(key.removeprefix(PAUSED), **json.loads(value))
        for key, value in db.execute(sql, [f"{PAUSED}%"]).fetchall()
    ]
