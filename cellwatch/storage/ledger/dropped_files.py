"""A file in the corrections folder, and the part of an image that it covers."""

import json
import sqlite3
from dataclasses import asdict, dataclass, field

from cellwatch.records import Correction, CorrectionKind, Crop, PlaneIndex
from cellwatch.storage.ledger.rows import first


@dataclass(frozen=True, slots=True)
class Drop:
    """A file in the corrections folder and what its name was found to mean.

    Attributes
    ----------
    file : str
        Below the corrections folder.
    size : int, bytes
    mtime_ns : int
    kind : CorrectionKind
    acquisition_id : int or None
        None: its image is not known, or the name means nothing.
    target, group : str
    plane : PlaneIndex
    crop : Crop or None
    annotator : str
    checkout_id : int or None
        Under which it was handed out.
    folder : str
        Where its arrays are kept.
    """

    file: str
    size: int
    mtime_ns: int
    kind: CorrectionKind = CorrectionKind.LABELS
    acquisition_id: int | None = None
    target: str = ""
    group: str = ""
    plane: PlaneIndex = field(default_factory=PlaneIndex)
    crop: Crop | None = None
    annotator: str = ""
    checkout_id: int | None = None
    folder: str = ""

    @property
    def plane_key(self) -> str:
        """Return which plane of which acquisition and target it is of, as the column does."""
        plane = self.plane
        place = (self.acquisition_id, self.target, plane.position, plane.t, plane.z)
        return "/".join(map(str, place))

    @property
    def part_key(self) -> str:
        """Return which part of that plane it is of, and whose, as the column does."""
        return f"{self.plane_key}/{crop_text(self.crop) or ''}/{self.annotator}"


def crop_text(crop: Crop | None) -> str | None:
    """Return a crop as a column holds it."""
    return json.dumps(asdict(crop)) if crop else None


def newest(db: sqlite3.Connection) -> int:
    """Return the id of the latest correction; 0: there is none."""
    return int(db.execute("SELECT coalesce(max(id), 0) FROM corrections").fetchone()[0])


def answer_since(db: sqlite3.Connection, key: int, acquisition_id: int) -> Correction | None:
    """Return the latest answer after a correction: to labels of an image, or to a rejected file."""
    sql = """
        SELECT * FROM corrections
        WHERE id > ? AND kind = 'labels' AND (acquisition_id = ? OR state = 'rejected')
        ORDER BY id DESC LIMIT 1
    """
    return first(db, Correction, sql, [key, acquisition_id])
