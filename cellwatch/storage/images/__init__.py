"""Read microscope images: one reader per format behind `describe` and `load`.

`describe` tells what a file holds without decoding pixels. `load` gives all planes as one array
with the axes P, T, Z, C, Y, X. What a header claims is checked against the size of the file before
memory is taken.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from cellwatch.errors import UnreadableImage
from cellwatch.records import ImageInfo
from cellwatch.storage.images import png, tiff
from cellwatch.storage.suffixes import SUFFIXES

READERS: dict[str, ModuleType] = {suffix: png if suffix == ".png" else tiff for suffix in SUFFIXES}
AXES = "PTZCYX"
MAX_BYTES = 16 << 30  # decoded; a larger acquisition is refused with its size
UNSUSPICIOUS_BYTES = 256 << 20  # a dark image may be packed into next to nothing
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
    return path.suffix.lower() in READERS


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
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UnreadableImage(path, f"'{path.suffix}' is none of {', '.join(SUFFIXES)}")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UnreadableImage(path, f"cannot be opened: {error.strerror}") from error
    if size == 0:
        raise UnreadableImage(path, "the file is empty (0 bytes)")
    info: ImageInfo = reader.describe(path)
    if axes:
        info = _declared(path, axes, info)
    _refuse_bomb(path, info, size)
    return info


def load(path: Path, axes: str = "") -> Image:
    """Read all planes of a file.

    Raises
    ------
    UnreadableImage
        When the file cannot be read whole.
    """
    info = describe(path, axes)
    pixels = READERS[path.suffix.lower()].read(path)
    if pixels.shape != info.shape:
        raise UnreadableImage(path, f"{info.shape} was declared and {pixels.shape} was found")
    if pixels.dtype.kind not in "uifb":
        raise UnreadableImage(path, f"pixels of type {pixels.dtype} are not intensities")
    names = info.axes
    if "S" in names and "C" not in names:
        names = names.replace("S", "C")
    missing = [axis for axis in AXES if axis not in names]
    pixels = pixels.reshape((1,) * len(missing) + pixels.shape)
    order = [("".join(missing) + names).index(axis) for axis in AXES]
    return Image(info, pixels.transpose(order), is_rgb="S" in info.axes)


def _declared(path: Path, axes: str, info: ImageInfo) -> ImageInfo:
    axes = axes.upper()
    if len(axes) != len(info.shape):
        raise UnreadableImage(
            path, f"axes: {axes} names {len(axes)} axes, the file has shape {info.shape}"
        )
    count = info.shape[axes.index("C")] if "C" in axes else 1
    fits = len(info.channels) == count
    return replace(info, axes=axes, channels=info.channels if fits else ("",) * count)


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
