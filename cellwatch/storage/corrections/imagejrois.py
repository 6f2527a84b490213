"""ROIs of ImageJ and Fiji: one `.roi`, or a zip of them."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from roifile import ROI_TYPE, ImagejRoi

from cellwatch.core.arrays import Int32
from cellwatch.core.overlaps import RoiMask, flatten_rois
from cellwatch.core.polygons import fill
from cellwatch.errors import RejectedCorrection

MAX_ENTRIES = 100_000
MAX_BYTES = 256 << 20  # of all ROIs together
MAX_RATIO = 200  # inflated bytes per byte of zip
AREAS = {
    ROI_TYPE.POLYGON,
    ROI_TYPE.FREEHAND,
    ROI_TYPE.TRACED,
    ROI_TYPE.RECT,
    ROI_TYPE.OVAL,
}


def read(path: Path, shape: tuple[int, int], _target: str) -> tuple[Int32, str, list[str]]:
    """Read ROIs into a label image; see `cellwatch.storage.corrections.reading.read_labels`."""
    rois = [_mask(name, data, shape) for name, data in _members(path)]
    if not rois:
        raise RejectedCorrection("it holds no ROI", "an image without ROIs is named NAME_empty.tif")
    labels, notes = flattened(rois, shape)
    return labels, "ImageJ ROIs", notes


def flattened(rois: list[RoiMask], shape: tuple[int, int]) -> tuple[Int32, list[str]]:
    """Bring ROIs that may overlap to one label image, and say what that took.

    Raises
    ------
    RejectedCorrection
        When ROIs lie outside the image.
    """
    outside = sum(not roi.pixels.any() for roi in rois)
    if outside:
        raise RejectedCorrection(
            f"{outside} of {len(rois)} ROIs lie outside the image of {shape[0]} x {shape[1]} px",
            "look whether they belong to this image, or to a crop whose name says so",
        )
    flat = flatten_rois(rois, shape)
    notes = []
    if flat.overlapping_pixels:
        notes.append(f"{flat.overlapping_pixels} px that ROIs shared went to the nearest")
    if flat.removed or flat.lost:
        gone = len(flat.removed) + len(flat.lost)
        notes.append(f"{gone} ROIs that lay almost wholly under others were left out")
    return flat.labels, notes


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.suffix.lower() == ".roi":
        yield path.name, path.read_bytes()
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [e for e in archive.infolist() if e.filename.lower().endswith(".roi")]
            _refuse_bomb(entries, path.stat().st_size)
            for entry in entries:
                # Nothing is unpacked to disk: names inside, also ../../x, lead nowhere.
                with archive.open(entry) as member:
                    data = member.read(entry.file_size + 1)
                if len(data) > entry.file_size:
                    raise RejectedCorrection("an entry is longer than it says", "save it again")
                yield entry.filename, data
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise RejectedCorrection(
            f"it is no zip that can be read: {error}", "save it again"
        ) from error
    except RuntimeError as error:  # a password
        raise RejectedCorrection(f"it cannot be opened: {error}", "save it plainly") from error


def _refuse_bomb(entries: list[zipfile.ZipInfo], size: int) -> None:
    total = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_ENTRIES:
        raise RejectedCorrection(
            f"it has {len(entries)} entries; more than {MAX_ENTRIES} are not read", "split it"
        )
    if total > MAX_BYTES or total > MAX_RATIO * size + (1 << 20):
        raise RejectedCorrection(
            f"its entries declare {total} B, the file has {size} B: that is no zip of ROIs",
            "save it again from the ROI Manager",
        )


def _mask(name: str, data: bytes, shape: tuple[int, int]) -> RoiMask:
    try:
        roi = ImagejRoi.frombytes(data)
        loops = [np.asarray(loop, np.float64) for loop in roi.coordinates(multi=True)]
    except Exception as error:
        # A damaged ROI may raise anything at all from its parser.
        raise RejectedCorrection(
            f"the ROI '{name}' cannot be read: {error}", "draw it again"
        ) from error
    if roi.roitype not in AREAS:
        kind = ROI_TYPE(roi.roitype).name.lower()
        raise RejectedCorrection(
            f"the ROI '{name}' is a {kind}, which has no area",
            "outline each cell with the polygon, freehand or wand tool",
        )
    loops = [loop for loop in loops if len(loop) >= 3 and np.isfinite(loop).all()]
    if not loops:
        raise RejectedCorrection(f"the ROI '{name}' has no outline", "draw it again")
    return fill(loops, shape)
