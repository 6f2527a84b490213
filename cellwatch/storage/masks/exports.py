"""Masks in the formats of other programs, under names that corrections are known by.

A file holds one plane; only a label TIFF holds all of them, as its pages.
"""

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellwatch.errors import UsageError
from cellwatch.files.publish import sweep, written_aside
from cellwatch.files.stems import stem_of
from cellwatch.images import Planes
from cellwatch.records import PlaneIndex
from cellwatch.storage.corrections.export import write_geojson, write_rois, write_seg
from cellwatch.storage.corrections.names import CorrectionName, correction_name
from cellwatch.storage.masks.label_tiff import LARGEST_UINT16, write_label_tiff
from cellwatch.storage.previews.preview import Shown, overlaid

ENDINGS = {
    "tif": "_masks.tif",
    "png": "_masks.png",
    "rois": "_rois.zip",
    "geojson": "_rois.geojson",
    "cellpose": "_seg.npy",
    "overlay": "_overlay.png",
}
BESIDE = ("rois", "geojson", "overlay")  # kinds that `output: also:` may ask for, beside tif
_PLANE = r"(__[ptz]\d+(_[ptz]\d+)*)?"  # of a name


@dataclass(frozen=True, slots=True)
class Exported:
    """One target of an acquisition, to be exported.

    Attributes
    ----------
    stem : str
        Of the image's name.
    target : str
        "": the image has no other.
    labels : (P, T, Z, Y, X) int32
    channels : tuple of int
        That its network was given.
    pixel_size_um : float or None
    """

    stem: str
    target: str
    labels: NDArray[np.int32]
    channels: tuple[int, ...] = (0,)
    pixel_size_um: float | None = None


def export(
    target: Exported, kind: str, folder: Path, superseded: Path, image: Planes | None = None
) -> list[Path]:
    """Write a target's masks in a format; return the files, each of which appears whole.

    Parameters
    ----------
    target : Exported
    kind : str
        A name in `ENDINGS`.
    folder : Path
        In which they lie.
    superseded : Path
        The folder for files that are replaced.
    image : Planes or None
        What `overlay` is drawn on.

    Raises
    ------
    UsageError
        When the format cannot hold so many ROIs, or lacks the image.
    OutputError
        When a file cannot be written.
    """
    if kind == "tif":
        name = CorrectionName(target.stem, target=target.target)
        path = folder / correction_name(name, ENDINGS[kind])
        sweep(path, superseded)
        write_label_tiff(path, target.labels, superseded, target.pixel_size_um)
        return [path]
    written = []
    for at, name in _planes(target):
        path = folder / correction_name(name, ENDINGS[kind])
        sweep(path, superseded)
        with written_aside(path, superseded) as aside:
            _write(target, kind, at, (aside, path), image)
        written.append(path)
    return written


def exported_beside(store: Path, targets: Sequence[str]) -> list[Path]:
    """Return the exported files of these targets that lie beside a mask store, but label TIFFs."""
    stem = re.escape(stem_of(store.name.removesuffix(".zarr")))
    endings = "|".join(re.escape(ENDINGS[kind]) for kind in BESIDE)
    named = "|".join(re.escape(target) for target in targets)
    pattern = re.compile(f"{stem}{_PLANE}(__({named}))?({endings})")
    return [path for path in store.parent.glob("*") if pattern.fullmatch(path.name)]


def _planes(target: Exported) -> Iterator[tuple[tuple[int, int, int], CorrectionName]]:
    shape = target.labels.shape[:3]
    for position, t, z in np.ndindex(*shape):
        plane = PlaneIndex(position, t, z) if shape != (1, 1, 1) else None
        yield (position, t, z), CorrectionName(target.stem, plane, target.target)


def _write(
    target: Exported,
    kind: str,
    at: tuple[int, int, int],
    places: tuple[Path, Path],
    image: Planes | None,
) -> None:
    labels, (aside, path) = np.ascontiguousarray(target.labels[at]), places
    if kind == "png":
        if labels.max(initial=0) > LARGEST_UINT16:
            told = f"{path.name}: a PNG holds at most {LARGEST_UINT16} ROIs; write tif"
            raise UsageError(told)
        Image.fromarray(labels.astype(np.uint16)).save(aside, format="PNG")
    elif kind == "rois":
        write_rois(aside, labels)
        if not aside.exists():  # there are none, and the library writes no empty zip
            zipfile.ZipFile(aside, "w").close()
    elif kind == "geojson":
        write_geojson(aside, labels)
    elif kind == "cellpose":
        with aside.open("wb") as file:
            write_seg(file, labels, Path(f"{target.stem}.tif"))
    elif image is None:
        raise UsageError(f"{path.name}: an overlay needs the image, which cannot be read")
    else:
        shown = Shown(target.labels, target.channels, "")
        picture = overlaid(image, [shown], at)
        Image.fromarray(picture).save(aside, format="PNG")
