"""Read microscope images: one reader per format behind `describe` and `load`.

`describe` tells what a file holds without decoding pixels. `load` gives all planes as one array
with the axes P, T, Z, C, Y, X. What a header claims is checked against the size of the file before
memory is taken.
"""

import hashlib
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from cellwatch.errors import UnreadableImage
from cellwatch.images.suffixes import SUFFIXES
from cellwatch.records import ImageInfo

# Which module of this package reads a suffix; it is loaded with the first file of its kind.
MODULES = {".png": "png", ".nd2": "nd2", ".czi": "czi"}
AXES = "PTZCYX"
MAX_BYTES = 16 << 30  # decoded; a larger acquisition is refused with its size
UNSUSPICIOUS_BYTES = 256 << 20  # a dark image may be packed into next to nothing
UNKNOWN_AXES = "QI"  # tifffile's letters for axes without a meaning
DECLARE = "say what they are: axes: for the folder, or --axes"
MAX_RATIO = 1100  # decoded bytes per byte of file: what zlib reaches on zeros, and a little


@dataclass(frozen=True, slots=True)
class Image:
    """An acquisition's pixels.

    Attributes
    ----------
    info : ImageInfo
    pixels : (P, T, Z, C, Y, X), any real dtype
    is_rgb : bool
        Whether C holds the samples of a colour picture.
    """

    info: ImageInfo
    pixels: NDArray[np.generic]
    is_rgb: bool

    @property
    def n_planes(self) -> int:
        """Return the number of planes: positions times time points times z."""
        return int(np.prod(self.pixels.shape[:3]))


def plane_digest(plane: NDArray[np.generic]) -> str:
    """Return a sha256 over one plane of all channels, (C, Y, X)."""
    digest = hashlib.sha256(str((plane.shape, plane.dtype.str[1:])).encode())
    digest.update(np.ascontiguousarray(plane).tobytes())
    return digest.hexdigest()


def is_image(path: Path) -> bool:
    """Say whether a name has the suffix of a format that can be read."""
    return path.suffix.lower() in SUFFIXES


def _reader(path: Path) -> ModuleType:
    module = MODULES.get(path.suffix.lower(), "tiff")
    return import_module(f"cellwatch.images.{module}")


def describe(path: Path, axes: str = "") -> ImageInfo:
    """Tell what a file holds, without decoding pixels.

    Parameters
    ----------
    path : Path
    axes : str
        What a person declared the axes to be; "": what the file says.

    Raises
    ------
    UnreadableImage
        When the file is no image of a known format, or its header cannot be true.
    """
    if not is_image(path):
        raise UnreadableImage(path, f"'{path.suffix}' is none of {', '.join(SUFFIXES)}")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UnreadableImage(path, f"cannot be opened: {error.strerror}") from error
    if size == 0:
        raise UnreadableImage(path, "the file is empty (0 bytes)")
    info: ImageInfo = _reader(path).describe(path)
    info = _declared(path, axes.upper(), info) if axes else _known(path, info)
    _refuse_bomb(path, info, size)
    return info


def load(path: Path, axes: str = "", *, is_labels: bool = False) -> Image:
    """Read all planes of a file.

    Parameters
    ----------
    path : Path
    axes : str
        As `describe` takes them.
    is_labels : bool
        Whether the values are numbers of ROIs: a palette's indices and a zero that is said to be
        white are taken as they are.

    Raises
    ------
    UnreadableImage
        When the file cannot be read whole.
    """
    info = describe(path, axes)
    pixels = _reader(path).read(path, is_labels=is_labels)
    if pixels.size != int(np.prod(info.shape)):
        raise UnreadableImage(path, f"{info.shape} was declared and {pixels.shape} was found")
    if pixels.dtype.kind not in "uifb":
        raise UnreadableImage(path, f"pixels of type {pixels.dtype} are not intensities")
    if not (is_labels and pixels.dtype.kind == "b"):  # labels of one bit are no labels
        pixels = _plain(pixels)
    pixels = pixels.reshape(info.shape)
    names = info.axes
    if "S" in names and "C" not in names:
        names = names.replace("S", "C")
    missing = [axis for axis in AXES if axis not in names]
    pixels = pixels.reshape((1,) * len(missing) + pixels.shape)
    order = [("".join(missing) + names).index(axis) for axis in AXES]
    return Image(info, pixels.transpose(order), is_rgb="S" in info.axes)


def _plain(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    # The types that every later step and every other program knows: black and white is 0 and 1, and
    # numbers of 64 bits are kept in 32 where they fit.
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8)
    if pixels.dtype.kind not in "iu" or pixels.dtype.itemsize < 8:
        return pixels
    least, most = (int(pixels.min()), int(pixels.max())) if pixels.size else (0, 0)
    for kind in (np.uint16, np.int32, np.uint32):
        if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max:
            return pixels.astype(kind)
    return pixels.astype(np.float64)


def _known(path: Path, info: ImageInfo) -> ImageInfo:
    # An axis of length one that nobody named says nothing; a single other one is time.
    kept = [
        at for at, axis in enumerate(info.axes) if axis not in UNKNOWN_AXES or info.shape[at] != 1
    ]
    axes, shape = "".join(info.axes[at] for at in kept), tuple(info.shape[at] for at in kept)
    unknown = [at for at, axis in enumerate(axes) if axis in UNKNOWN_AXES]
    if len(unknown) > 1:
        raise UnreadableImage(path, f"shape {shape} has axes without names; {DECLARE}")
    notes = info.notes
    if unknown:
        name, called = ("T", "time points") if "T" not in axes else ("Z", "z planes")
        axes = f"{axes[: unknown[0]]}{name}{axes[unknown[0] + 1 :]}"
        notes += (
            f"its {shape[unknown[0]]} pages are taken for {called}; if they are not, {DECLARE}",
        )
    if strange := set(axes) - set("PTZCYXS"):
        listed = ", ".join(sorted(strange))
        raise UnreadableImage(
            path, f"axis {listed} of shape {shape} has no meaning here; {DECLARE}"
        )
    return replace(info, axes=axes, shape=shape, notes=notes)


def _declared(path: Path, axes: str, info: ImageInfo) -> ImageInfo:
    # What a person says of a file goes before what it says itself.
    shape = info.shape
    if len(axes) != len(shape):
        kept = [at for at, n in enumerate(shape) if n != 1 or info.axes[at] in "YX"]
        info = replace(info, axes="".join(info.axes[at] for at in kept))
        shape = tuple(shape[at] for at in kept)
    if len(axes) != len(shape):
        raise UnreadableImage(
            path, f"axes: {axes} names {len(axes)} axes, the file has shape {info.shape}"
        )
    if info.axes.endswith("YXS") and axes.endswith("YX"):
        axes = f"{axes[:-3]}YX{axes[-3]}"  # planes that were saved as the colours of a picture
    count = shape[axes.index("C")] if "C" in axes else 1
    fits = len(info.channels) == count
    channels = info.channels if fits else ("",) * count
    return replace(info, axes=axes, shape=shape, channels=channels)


def _refuse_bomb(path: Path, info: ImageInfo, size: int) -> None:
    decoded = int(np.prod(info.shape, dtype=object)) * np.dtype(info.dtype).itemsize
    if decoded > MAX_BYTES:
        raise UnreadableImage(
            path, f"declares {_gib(decoded)} of pixels; more than {_gib(MAX_BYTES)} is not read"
        )
    if decoded > max(MAX_RATIO * size, UNSUSPICIOUS_BYTES):
        raise UnreadableImage(path, f"declares {_gib(decoded)} of pixels, the file is {size} B")


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes > 2**29 else f"{n_bytes / 2**20:.1f} MiB"
