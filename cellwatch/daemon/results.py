"""Notice when a mask store that was written is deleted or edited: nothing else writes there.

A thread looks at some stores at a time, by their files' times; one that has changed is read whole
by the inspector and compared with the hashes that were written beside its labels.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cellwatch.daemon.inspector import Inspector
from cellwatch.storage.masks.paths import label_tiffs_of
from cellwatch.storage.reports.station import LEDGER, finished_stores, reader

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 30.0
AT_ONCE = 300  # stores
SLACK_S = 5.0  # between the last file of a store and the row that says that it is done
MISSING, EDITED = "missing", "edited"


@dataclass(frozen=True, slots=True)
class ResultChanged:
    """A mask store is not what was written.

    Attributes
    ----------
    acquisition_id : int
    mark : "missing", "edited" or ""
        "": it is again what was written.
    store : str
    """

    acquisition_id: int
    mark: str
    store: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A mask store as the ledger has it.

    Attributes
    ----------
    acquisition_id : int
    store : str
    finished_at : str
        ISO 8601.
    mark : str
        What the ledger says became of it.
    """

    acquisition_id: int
    store: str
    finished_at: str
    mark: str


def start_watching_results(
    state: Path, output: Path, stop: threading.Event, on_event: Callable[[ResultChanged], None]
) -> threading.Thread:
    """Look at all stores in turn, in a thread, until told to stop."""

    def run() -> None:
        inspector = Inspector()
        after = 0
        try:
            while not stop.wait(LOOK_EVERY_S):
                with reader(state / LEDGER) as db:
                    rows = finished_stores(db, after, AT_ONCE)
                listed = [Stored(*row) for row in rows]
                after = listed[-1].acquisition_id if len(listed) == AT_ONCE else 0
                for changed in changes(listed, output, inspector):
                    on_event(changed)
                inspector.close()
        finally:
            inspector.close()

    def guarded() -> None:
        while not stop.is_set():
            try:
                run()
            except Exception:
                logger.exception("the mask stores could not be looked at; it is tried again")
                stop.wait(LOOK_EVERY_S)

    thread = threading.Thread(target=guarded, daemon=True, name="results")
    thread.start()
    return thread


def changes(stores: Sequence[Stored], output: Path, inspector: Inspector) -> list[ResultChanged]:
    """Return which of some stores are not what the ledger says of them.

    Where the output folder itself cannot be reached nothing is said of what lies in it.
    """
    if not output.is_dir():
        return []
    found = []
    for stored in stores:
        mark = _mark_of(stored, inspector)
        if mark != stored.mark:
            found.append(ResultChanged(stored.acquisition_id, mark, stored.store))
    return found


def _mark_of(stored: Stored, inspector: Inspector) -> str:
    path = Path(stored.store)
    try:
        if not path.exists():
            return MISSING  # the output folder itself is there, or nothing was looked at
        # Folders too: theirs is the time at which something in them was deleted.
        parts = [path, *path.rglob("*"), *label_tiffs_of(path)]
        newest = max(part.stat().st_mtime for part in parts)
    except OSError:
        return stored.mark
    written = datetime.fromisoformat(stored.finished_at).timestamp()
    if newest <= written + SLACK_S and stored.mark != EDITED:
        return ""
    return EDITED if inspector.store_problems(path) else ""
