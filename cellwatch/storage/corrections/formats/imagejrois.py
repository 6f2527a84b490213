"""ROIs of ImageJ and Fiji: one `.roi`, or a zip of them."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from cellwatch.core.arrays import Int32
from cellwatch.core.overlaps import RoiMask, flatten_rois
from cellwatch.core.polygons import fill
from cellwatch.errors import RejectedCorrection
from cellwatch.storage.corrections.formats.containers import without_containers
from cellwatch.storage.corrections.formats.planes import PlaneWanted, of_plane
from cellwatch.storage.corrections.names import is_hidden_companion

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

# Captions, pictures and arrows are drawn over an image; they outline nothing in it.
NO_OUTLINES = {ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE, ROI_SUBTYPE.ARROW}


def read(
    path: Path, shape: tuple[int, int], _target: str, plane: PlaneWanted | None = None
) -> tuple[Int32, str, list[str]]:
    """Read ROIs into a label image; see `formats.reading.read_labels`."""
    n_z = plane.n_z if plane is not None else 1
    read_rois = [_roi(name, data) for name, data in _members(path)]
    areas = [(name, roi) for name, roi in read_rois if _is_area(roi)]
    if not read_rois:
        raise RejectedCorrection("it holds no ROI", "an image without ROIs is named NAME_empty.tif")
    if not areas:
        name, roi = read_rois[0]
        raise RejectedCorrection(
            f"the ROI '{name}' is a {_kind(roi)}, which has no area",
            "outline each cell with the polygon, freehand or wand tool",
        )
    positioned = [(_position(roi, n_z), (name, roi)) for name, roi in areas]
    kept, notes = of_plane(positioned, plane)
    if n_left := len(read_rois) - len(areas):
        kinds = ", ".join(sorted({_kind(roi) for _, roi in read_rois if not _is_area(roi)}))
        notes.append(f"{n_left} shapes that outline nothing were left out ({kinds})")
    labels, told = flattened([_mask(name, roi, shape) for name, roi in kept], shape)
    return labels, "ImageJ ROIs", [*notes, *told]


def flattened(rois: list[RoiMask], shape: tuple[int, int]) -> tuple[Int32, list[str]]:
    """Bring ROIs that may overlap to one label image, and say what that took.

    Raises
    ------
    RejectedCorrection
        When ROIs lie outside the image, or most of them under others.
    """
    outside = sum(not roi.pixels.any() for roi in rois)
    if outside:
        raise RejectedCorrection(
            f"{outside} of {len(rois)} ROIs lie outside the image of {shape[0]} x {shape[1]} px",
            "look whether they belong to this image, or to a crop whose name says so",
        )
    rois, held = without_containers(rois)
    notes = [
        f"an ROI that holds {n} others wholly is taken for the region that was analysed: left out"
        for n in held
    ]
    flat = flatten_rois(rois, shape)
    gone = len(flat.removed) + len(flat.lost)
    if 2 * gone > len(rois):
        raise RejectedCorrection(
            f"{gone} of its {len(rois)} ROIs lie almost wholly under others",
            "save the cells alone, without the shapes that hold them or lie within them",
        )
    if flat.overlapping_pixels:
        notes.append(f"{flat.overlapping_pixels} px that ROIs shared went to the nearest")
    if gone:
        notes.append(f"{gone} ROIs that lay almost wholly under others were left out")
    return flat.labels, notes


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.suffix.lower() == ".roi":
        yield path.name, path.read_bytes()
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [
                e
                for e in archive.infolist()
                if e.filename.lower().endswith(".roi") and not is_hidden_companion(e.filename)
            ]
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
            f"it is not a zip that can be read: {error}", "save it again"
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
            f"its entries declare {total} B, the file has {size} B: that is not a zip of ROIs",
            "save it again from the ROI Manager",
        )


def _roi(name: str, data: bytes) -> tuple[str, ImagejRoi]:
    try:
        return name, ImagejRoi.frombytes(data)
    except Exception as error:
        # A damaged ROI may raise anything at all from its parser.
        raise RejectedCorrection(
            f"the ROI '{name}' cannot be read: {error}", "draw it again"
        ) from error


def _is_area(roi: ImagejRoi) -> bool:
    return roi.roitype in AREAS and roi.subtype not in NO_OUTLINES


def _kind(roi: ImagejRoi) -> str:
    if roi.subtype in NO_OUTLINES:
        return str(ROI_SUBTYPE(roi.subtype).name.lower())
    return str(ROI_TYPE(roi.roitype).name.lower())


def _position(roi: ImagejRoi, n_z: int) -> tuple[int, int] | None:
    # Counted from 1 in the file; 0 says none. A stack that is not a hyperstack counts its planes.
    if roi.t_position or roi.z_position:
        return max(0, roi.t_position - 1), max(0, roi.z_position - 1)
    if roi.position > 0 and not roi.c_position:
        return (roi.position - 1) // n_z, (roi.position - 1) % n_z
    return None


def _mask(name: str, roi: ImagejRoi, shape: tuple[int, int]) -> RoiMask:
    try:
        loops = [np.asarray(loop, np.float64) for loop in roi.coordinates(multi=True)]
    except Exception as error:
        raise RejectedCorrection(
            f"the ROI '{name}' cannot be read: {error}", "draw it again"
        ) from error
    loops = [loop for loop in loops if len(loop) >= 3 and np.isfinite(loop).all()]
    if not loops:
        raise RejectedCorrection(f"the ROI '{name}' has no outline", "draw it again")
    return fill(loops, shape)
