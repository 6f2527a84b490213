"""What the ledger knows of the path of a file that arrives: where its masks lie, what it was."""

import json
from collections.abc import Sequence

from sqlite_utils import Database

from cellwatch.records import Acquisition
from cellwatch.storage.ledger.acquisitions import Arrival
from cellwatch.storage.ledger.path_text import path_text, text_path
from cellwatch.storage.ledger.rows import records
from cellwatch.storage.masks.paths import place_key


def place_is_free(db: Database, store: str, path: str) -> bool:
    """Say whether no other file's masks lie, or will lie, at a place; case does not matter.

    Two images whose names differ in the extension alone would share the TIFF of their masks: the
    second is not free either.
    """
    sql = "SELECT 1 FROM acquisitions WHERE place_key = ? AND path != ? LIMIT 1"
    return db.execute(sql, [place_key(store), path_text(path)]).fetchone() is None


def place_of(db: Database, watch: str, path: str) -> str | None:
    """Return where the masks of a file that was taken in before lie; None: it is new."""
    sql = """
        SELECT store FROM acquisitions
        WHERE watch = ? AND path = ? AND store IS NOT NULL ORDER BY id DESC LIMIT 1
    """
    row = db.execute(sql, [watch, path_text(path)]).fetchone()
    return str(row[0]) if row else None


def beside(db: Database, watch: str, file: str) -> list[Acquisition]:
    """Return the images in the folder of a file, and below it, that are none of the file's own."""
    folder = file.rpartition("/")[0]
    sql = """
        SELECT * FROM acquisitions WHERE watch = ? AND superseded_by IS NULL AND fingerprint != ''
        AND state NOT IN ('skipped', 'running')
    """
    rows = ((row, text_path(row.relative_path)) for row in records(db, Acquisition, sql, [watch]))
    start = f"{folder}/" if folder else ""
    return [row for row, path in rows if path.startswith(start) and not path.startswith(f"{file}/")]


def experiment_before(db: Database, arrival: Arrival) -> str | None:
    """Return the experiment of what a file held before it grew; None: it is new, or another image.

    A time-lapse that is written through midnight stays what it was; a name that is used again for
    another picture of the same size is a new image of its day.
    """
    sql = """
        SELECT experiment, axes, shape FROM acquisitions
        WHERE watch = ? AND path = ? AND fingerprint != '' ORDER BY id DESC LIMIT 1
    """
    row = db.execute(sql, [arrival.watch, path_text(arrival.path)]).fetchone()
    if row is None or not row[2]:
        return None
    now = extent(arrival.info.axes, arrival.info.shape)
    before = extent(row[1], json.loads(row[2]))
    has_grown = any(now[axis] > before[axis] for axis in "PTZ")
    is_shrunk = any(now[axis] < before[axis] for axis in "PTZ")
    is_like = all(now[axis] == before[axis] for axis in "CYXS")
    return text_path(str(row[0])) if has_grown and is_like and not is_shrunk else None


def extent(axes: str, shape: Sequence[int]) -> dict[str, int]:
    """Return the length along every axis that an image may have; 1 where it has none."""
    return {**dict.fromkeys("PTZCYXS", 1), **dict(zip(axes, shape, strict=True))}
