"""A file in the corrections folder, and the part of an image that it covers."""

import json
import sqlite3
from dataclasses import asdict, dataclass, field
from typing import Any

from cellwatch.records import Crop, PlaneIndex


@dataclass(frozen=True, slots=True)
class Drop:
    """A file in the corrections folder and what its name was found to mean.

    Attributes
    ----------
    file : str
        Below the corrections folder.
    size : int, bytes
    mtime_ns : int
    kind : "labels" or "region"
    acquisition_id : int or None
        None: its image is not known, or the name means nothing.
    target, group : str
    plane : PlaneIndex
    crop : Crop or None
    annotator : str
    checkout_id : int or None
        Under which it was handed out.
    is_again : bool
        Whether it was handed out mirrored: a second look, not to be trained on.
    folder : str
        Where its arrays are kept.
    """

    file: str
    size: int
    mtime_ns: int
    kind: str = "labels"
    acquisition_id: int | None = None
    target: str = ""
    group: str = ""
    plane: PlaneIndex = field(default_factory=PlaneIndex)
    crop: Crop | None = None
    annotator: str = ""
    checkout_id: int | None = None
    is_again: bool = False
    folder: str = ""


def part_of(drop: Drop) -> tuple[Any, ...]:  # Any: values of a row
    """Return position, t, z, crop and annotator of a drop, as columns hold them."""
    plane = drop.plane
    return (plane.position, plane.t, plane.z, crop_text(drop.crop), drop.annotator)


def crop_text(crop: Crop | None) -> str | None:
    """Return a crop as a column holds it."""
    return json.dumps(asdict(crop)) if crop else None


def crop_of(text: str | None) -> Crop | None:
    """Return the crop that a column holds."""
    return Crop(**json.loads(text)) if text else None


def newest(db: sqlite3.Connection) -> int:
    """Return the id of the latest correction; 0: there is none."""
    return int(db.execute("SELECT coalesce(max(id), 0) FROM corrections").fetchone()[0])


def answer_since(db: sqlite3.Connection, key: int, acquisition_id: int) -> sqlite3.Row | None:
    """Return the latest answer after a correction: to labels of an image, or to a rejected file."""
    sql = """
        SELECT state, reason, remedy, id FROM corrections
        WHERE id > ? AND kind = 'labels' AND (acquisition_id = ? OR state = 'rejected')
        ORDER BY id DESC LIMIT 1
    """
    found: sqlite3.Row | None = db.execute(sql, [key, acquisition_id]).fetchone()
    return found
