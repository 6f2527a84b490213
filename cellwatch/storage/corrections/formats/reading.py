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
from cellwatch.storage.corrections.formats import (
    cellposeseg,
    geojson,
    imagejrois,
    labelimages,
    zarrlabels,
)
from cellwatch.storage.corrections.formats.instances import BLACK_AND_WHITE, refuse_binary
from cellwatch.storage.corrections.formats.planes import PlaneWanted
from cellwatch.storage.corrections.names import SUFFIXES

MAX_FILE = 1 << 30  # bytes; a label image of 16k x 16k px fits
MAX_ENTRIES = 100_000  # of a zarr folder
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
ONE_ROI = "it is a single ROI; if it is several cells that touch, give each a number of its own"
NUMBERED = (labelimages, cellposeseg, zarrlabels)  # ROIs are told apart by numbers alone
POSITIONED = (imagejrois, geojson)  # each ROI may say its plane
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


def refuse_large(path: Path) -> None:
    """Refuse a file, or a folder with all it holds, that no label image needs; nothing is read.

    Raises
    ------
    RejectedCorrection
    """
    size = entries = 0
    try:
        for part in path.rglob("*") if path.is_dir() else [path]:
            entries += 1
            size += part.lstat().st_size
            if size > MAX_FILE or entries > MAX_ENTRIES:
                break
    except OSError as error:
        raise RejectedCorrection(
            f"it cannot be opened: {error.strerror}", "drop it again"
        ) from error
    if size == 0 and not path.is_dir():
        raise RejectedCorrection("the file is empty (0 bytes)", "save it again")
    if size > MAX_FILE or entries > MAX_ENTRIES:
        raise RejectedCorrection(
            f"it has more than {MAX_FILE >> 20} MiB or {MAX_ENTRIES} files, which no label image "
            "needs",
            "save a compressed label TIFF, or a crop",
        )


def read_labels(
    path: Path,
    shape: tuple[int, int],
    target: str = "",
    *,
    is_region: bool = False,
    plane: PlaneWanted | None = None,
) -> ReadLabels:
    """Read a dropped label image of any format.

    Parameters
    ----------
    path : Path
    shape : (int, int), px
        Of the plane, or of the crop that the name says.
    target : str
        Its name in files that hold several.
    is_region : bool
        Whether it marks what was checked: black and white is right then.
    plane : PlaneWanted or None
        Of which plane ROIs are wanted that say theirs; None: of all.

    Raises
    ------
    RejectedCorrection
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise RejectedCorrection(
            f"'{path.suffix}' is not a format of corrections", "save a label TIFF"
        )
    refuse_large(path)
    more = {"plane": plane} if reader in POSITIONED else {}
    labels, kind, notes = reader.read(path, shape, target, **more)
    said = [note for note in notes if note != BLACK_AND_WHITE]
    if reader in NUMBERED and not is_region:
        refuse_binary(labels, is_two_toned=BLACK_AND_WHITE in notes)
        said += [ONE_ROI] if labels.max(initial=0) == 1 else []
    return ReadLabels(labels, kind, tuple(said))
