"""Whose turn it is: the next acquisition, by urgency, fairly between the watched folders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cellwatch.records import Acquisition
from cellwatch.storage.ledger.acquisitions import iso
from cellwatch.storage.ledger.attempts import MAX_DAEMON_DEATHS
from cellwatch.storage.ledger.rows import Ledger, first
from cellwatch.storage.reports.pauses import pauses

# As the index acquisitions_to_do has it: images to compare last, what the daemon died over too.
URGENCY = f"compared_with IS NOT NULL, priority DESC, daemon_deaths >= {MAX_DAEMON_DEATHS}"
QUEUED = "SELECT * FROM acquisitions WHERE watch = ? AND superseded_by IS NULL AND state = 'queued'"


@dataclass(frozen=True, slots=True)
class Turn:
    """When the images of a watched folder take their turn.

    Attributes
    ----------
    watch : str
    priority : int
        Those of a folder with a higher one go first.
    is_newest_first : bool
    served : int
        When an image of it was taken last: of equals, the one that waited longest is next.
    """

    watch: str
    priority: int = 0
    is_newest_first: bool = False
    served: int = 0


def turns_of(db: Ledger, folders: Sequence[Turn] | None) -> list[Turn]:
    """Return the folders that are not paused; None: all that the ledger knows."""
    if folders is None:
        rows = db.execute("SELECT DISTINCT watch FROM acquisitions ORDER BY watch").fetchall()
        folders = [Turn(name) for (name,) in rows]
    paused = {pause.watch for pause in pauses(db)}
    return [turn for turn in folders if not paused & {"", turn.watch}]


def next_ready(
    db: Ledger, turns: Sequence[Turn], now: datetime, *, is_newest: bool
) -> Acquisition | None:
    """Return the acquisition whose turn it is; None: nothing is ready.

    Parameters
    ----------
    db : Ledger
    turns : sequence of Turn
    now : datetime
    is_newest : bool
        Whether, of equally urgent ones, the one that came last is meant in every folder.
    """
    by_watch = {turn.watch: turn for turn in turns}
    found = []
    for turn in turns:
        is_last = is_newest or turn.is_newest_first
        found += [_queued(db, turn.watch, is_newest=is_last), _due(db, turn.watch, now)]
    ready = [each for each in found if each is not None]
    return min(ready, key=lambda each: _rank(each, by_watch), default=None)


def has_queued(db: Ledger, watch: str) -> bool:
    """Say whether an image of a folder is queued, or is looked at again by itself."""
    sql = f"""
        SELECT EXISTS ({QUEUED.replace("*", "1", 1)})
            OR EXISTS (SELECT 1 FROM acquisitions WHERE watch = ? AND superseded_by IS NULL
                       AND state = 'waiting' AND retry_at IS NOT NULL)
    """
    return bool(db.execute(sql, [watch, watch]).fetchone()[0])


def _queued(db: Ledger, watch: str, *, is_newest: bool) -> Acquisition | None:
    oldest = first(db, Acquisition, f"{QUEUED} ORDER BY {URGENCY}, id LIMIT 1", [watch])
    if oldest is None or not is_newest:
        return oldest
    sql = f"""
        {QUEUED} AND (compared_with IS NOT NULL) = ? AND priority = ?
        AND (daemon_deaths >= {MAX_DAEMON_DEATHS}) = ? ORDER BY id DESC LIMIT 1
    """
    compared, _, deaths = _urgency(oldest)
    return first(db, Acquisition, sql, [watch, compared, oldest.priority, deaths])


def _due(db: Ledger, watch: str, now: datetime) -> Acquisition | None:
    sql = f"""
        SELECT * FROM acquisitions INDEXED BY acquisitions_to_retry
        WHERE watch = ? AND superseded_by IS NULL AND state IN ('failed', 'blocked', 'waiting')
              AND retry_at IS NOT NULL AND retry_at <= ? ORDER BY {URGENCY}, id LIMIT 1
    """
    return first(db, Acquisition, sql, [watch, iso(now)])


def _urgency(row: Acquisition) -> tuple[int, int, int]:
    is_compared, is_deadly = row.compared_with is not None, row.daemon_deaths >= MAX_DAEMON_DEATHS
    return int(is_compared), -row.priority, int(is_deadly)


def _rank(row: Acquisition, turns: Mapping[str, Turn]) -> tuple[int, ...]:
    turn = turns[row.watch]
    compared, urgency, deaths = _urgency(row)
    is_again = int(row.state != "queued")
    return compared, urgency, -turn.priority, is_again, deaths, turn.served, row.id
