"""Files that belong to sets: each is a part, and waits for the file that lists it."""

from datetime import datetime

from sqlite_utils import Database

from cellwatch.config.schema import Watch
from cellwatch.daemon.arrival_facts import arrival_of
from cellwatch.daemon.inspection import PartOf
from cellwatch.files.patience import is_gone
from cellwatch.images import sets
from cellwatch.images.suffixes import INDICES, suffix_of
from cellwatch.records import AcquisitionState, ImageInfo
from cellwatch.storage.ledger import acquisitions, places, set_files
from cellwatch.storage.ledger.path_text import text_path
from cellwatch.watching.settle import Sighting


def take_gone(db: Database, watched: Watch, relative: str, now: datetime) -> None:
    """Record that a file that was not whole is gone; a set whose parts are here waits for it."""
    parts = set_files.listed_by(db, watched.name, relative)
    left = [part for part in parts if part != relative and not is_gone(watched.folder / part)]
    if left and suffix_of(relative) in INDICES:
        _wait_for_index(db, watched, Sighting(relative, 0, 0), len(left), now)
        return
    if parts:
        set_files.forget_all(db, watched.name, relative)
    acquisitions.note_gone(db, watched.name, str(watched.folder / relative), now)


def take_part(db: Database, watched: Watch, event: PartOf, now: datetime) -> None:
    """Record a file of a set, and that the set waits for the file that lists it."""
    # Until its set is looked at again, that has grown: also if the daemon ends in between.
    set_files.forget(db, watched.name, event.index.path)
    set_files.note(db, watched.name, event.sighting, event.index.path)
    path = str(watched.folder / event.sighting.path)
    acquisitions.drop_unfinished(db, watched.name, path)
    told = f"it belongs to the set of {event.index.path}"
    acquisitions.now_a_part(db, watched.name, path, told, now)
    if event.index.size:
        return
    waiting = set_files.count(db, watched.name, event.index.path)
    _wait_for_index(db, watched, event.index, waiting, now)


def _wait_for_index(
    db: Database, watched: Watch, index: Sighting, waiting: int, now: datetime
) -> None:
    name = index.path.rpartition("/")[2]
    files = "1 file waits" if waiting == 1 else f"{waiting} files wait"
    arrival = arrival_of(watched, index, "", ImageInfo(index.path))
    reason = f"{name}, which lists the files of the set, is not here: {files} for it"
    acquisitions.note_waiting(db, arrival, AcquisitionState.WAITING, reason, now)


def take_parts(db: Database, watched: Watch, index: str, now: datetime) -> None:
    """Leave files alone that were taken for images before the file that lists them came."""
    if suffix_of(index) not in INDICES:
        return
    told = f"it belongs to the set of {index}"
    for row in places.beside(db, watched.name, index):
        path = watched.folder / text_path(row.relative_path)
        if sets.index_by_name(path) == watched.folder / index:
            acquisitions.now_a_part(db, watched.name, str(path), told, now)
