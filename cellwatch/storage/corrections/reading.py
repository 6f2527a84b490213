"""Read corrections: one reader per format behind `read_labels`.

Each reader gives a label image of the shape that was expected, or raises `RejectedCorrection` with
the reason and what to do. What a file claims is compared with what is expected before memory is
taken.
"""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from cellwatch.core.arrays import Int32
from cellwatch.errors import RejectedCorrection
from cellwatch.storage.corrections import cellposeseg, geojson, imagejrois, labelimages, zarrlabels
from cellwatch.storage.corrections.names import SUFFIXES

MAX_FILE = 1 << 30  # bytes; a label image of 16k x 16k px fits
READERS: dict[str, ModuleType] = {
    ".tif": labelimages,
    ".tiff": labelimages,
    ".png": labelimages,
    ".npy": cellposeseg,
    ".zip": imagejrois,
    ".roi": imagejrois,
    ".geojson": geojson,
    ".json": geojson,
    ".zarr": zarrlabels,
}
assert set(READERS) == set(SUFFIXES)


@dataclass(frozen=True, slots=True)
class ReadLabels:
    """A label image as it was dropped.

    Attributes
    ----------
    labels : (Y, X) int32
        1..n without gaps.
    format : str
        As people call it.
    notes : tuple of str
    """

    labels: Int32
    format: str
    notes: tuple[str, ...] = ()


def read_labels(path: Path, shape: tuple[int, int], target: str = "") -> ReadLabels:
    """Read a dropped label image of any format.

    Parameters
    ----------
    path : Path
    shape : (int, int), px
        Of the plane, or of the crop that the name says.
    target : str
        Its name in files that hold several.

    Raises
    ------
    RejectedCorrection
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise RejectedCorrection(
            f"'{path.suffix}' is no format of corrections", "save a label TIFF"
        )
    try:
        size = path.stat().st_size if path.is_file() else 0
    except OSError as error:
        raise RejectedCorrection(
            f"it cannot be opened: {error.strerror}", "drop it again"
        ) from error
    if path.is_file() and size == 0:
        raise RejectedCorrection("the file is empty (0 bytes)", "save it again")
    if size > MAX_FILE:
        raise RejectedCorrection(
            f"the file has {size >> 20} MiB; more than {MAX_FILE >> 20} are not read",
            "save a compressed label TIFF, or a crop",
        )
    labels, kind, notes = reader.read(path, shape, target)
    return ReadLabels(labels, kind, tuple(notes))
