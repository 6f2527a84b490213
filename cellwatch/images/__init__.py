"""Read microscope images: one module per format behind `describe`, `open_image` and `load`.

`describe` tells what a file holds without decoding pixels. `open_image` reads one plane at a time;
`load` gives all of them as one array with the axes P, T, Z, C, Y, X. What a header claims is
checked against the size of the file before memory is taken.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cellwatch.errors import UnreadableImage
from cellwatch.files.members import WITH_MEMBERS, file_of, member_of
from cellwatch.images import aborted
from cellwatch.images.identity import size_of
from cellwatch.images.planes import (
    Array,
    Image,
    OpenImage,
    Pages,
    Planes,
    n_planes,
    pixels_digest,
    plane_digest,
    planes_of,
    stamp_of,
)
from cellwatch.images.suffixes import (
    INDICES,
    JPEGS,
    LISTING,
    SUFFIXES,
    ZARRS,
    suffix_of,
    why_unread,
)
from cellwatch.records import ImageInfo

# Which module of this package reads a suffix; it is loaded with the first file of its kind.
MODULES = {
    ".png": "png",
    **dict.fromkeys(JPEGS, "jpeg"),
    **dict.fromkeys(ZARRS, "ome_zarr"),
    **dict.fromkeys(INDICES, "sets"),
    ".nd2": "nd2",
    ".czi": "czi",
    ".lif": "lif",
    ".oib": "oib",
    **dict.fromkeys((".svs", ".ndpi", ".vsi"), "slides"),
}
MAX_BYTES = 16 << 30  # decoded; a larger plane is refused with its size
UNSUSPICIOUS_BYTES = 256 << 20  # a dark image may be packed into next to nothing
UNKNOWN_AXES = "QI"  # tifffile's letters for axes without a meaning
DECLARE = "say what they are: axes: for the folder, or --axes"
MAX_RATIO = 1100  # decoded bytes per byte of file: what zlib reaches on zeros, and a little

__all__ = [
    "Image",
    "OpenImage",
    "Planes",
    "describe",
    "images_in",
    "is_image",
    "load",
    "n_planes",
    "open_image",
    "pixels_digest",
    "plane_digest",
    "planes_of",
]


class Format(Protocol):
    """A module that reads one image format; whether a file is whole `whole` says.

    One of which a file may hold several images also has `members(file)`, their names.
    """

    def describe(self, path: Path) -> ImageInfo:
        """Tell what a file holds, without decoding pixels."""

    def open_pages(self, path: Path, *, is_labels: bool) -> Pages:
        """Open a file, to read its pages one at a time."""


def is_image(path: Path) -> bool:
    """Say whether a name has the suffix of a format that can be read."""
    return suffix_of(file_of(path).name) in SUFFIXES


def images_in(path: Path, *, is_given_up: bool = False) -> list[Path]:
    """Return the images of a file, as paths below it; the file itself where it is one image.

    Parameters
    ----------
    path : Path
    is_given_up : bool
        Whether a set that is not whole will not become so: then images that are read as far as they
        are whole are among them.

    Raises
    ------
    UnreadableImage
        When it cannot be told.
    """
    suffix = suffix_of(path.name)
    if suffix not in WITH_MEMBERS or suffix not in SUFFIXES or member_of(path) or path.is_dir():
        return [path]
    more = {"is_given_up": True} if is_given_up and suffix in INDICES else {}
    return [path / name for name in _module(suffix).members(path, **more)] or [path]


def _format(path: Path) -> Format:
    suffix = suffix_of(file_of(path).name)
    module: Format = _module(INDICES[0] if _lists_a_set(path) else suffix)
    return module


def _lists_a_set(path: Path) -> bool:
    # It may list the planes of a set that is complete; else it is read for its own planes.
    return suffix_of(path.name) in LISTING and bool(_module(INDICES[0]).lists_a_set(path))


def _module(suffix: str) -> Any:  # Any: a module, of which mypy does not know the functions
    return import_module(f"cellwatch.images.{MODULES.get(suffix, 'tiff')}")


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
        When the file is not an image of a known format, or its header cannot be true.
    """
    return _as_far_as_whole(path, _described(path, axes))


def _as_far_as_whole(path: Path, info: ImageInfo) -> ImageInfo:
    return info if _lists_a_set(path) else aborted.cut(path, info)


def _described(path: Path, axes: str) -> ImageInfo:
    if not is_image(path):
        raise UnreadableImage(path, why_unread(suffix_of(file_of(path).name)))
    size = size_of(path)
    if size == 0:
        raise UnreadableImage(path, "the file is empty (0 bytes)")
    info: ImageInfo = _format(path).describe(path)
    info = _declared(path, axes.upper(), info) if axes else _known(path, info)
    _refuse_bomb(path, info, size)
    return info


def open_image(path: Path, axes: str = "", *, is_labels: bool = False) -> OpenImage:
    """Open a file, to read its planes one at a time; close it, or use it in a `with`.

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
        When it cannot be read.
    """
    stamp = stamp_of(path)
    declared = _described(path, axes)
    info = _as_far_as_whole(path, declared)
    pages = _format(path).open_pages(path, is_labels=is_labels)
    pages = aborted.cut_pages(pages, info.shape[0], declared.shape[0])
    try:
        dtype = _plain_type(path, info, pages, is_labels=is_labels)
        return OpenImage(path, info, pages, dtype, stamp)
    except BaseException:
        pages.close()
        raise


def load(path: Path, axes: str = "", *, is_labels: bool = False) -> Image:
    """Read all planes of a file, with the arguments and errors of `open_image`."""
    with open_image(path, axes, is_labels=is_labels) as opened:
        if (decoded := _decoded(opened.info)) > MAX_BYTES:
            raise UnreadableImage(path, f"its planes are {_gib(decoded)}, too many to read at once")
        pixels = np.empty(opened.shape, opened.dtype)
        for at in np.ndindex(*opened.shape[:3]):
            pixels[at] = opened.plane(*at)
        return Image(opened.info, pixels, opened.is_rgb)


def _plain_type(
    path: Path, info: ImageInfo, pages: Pages, *, is_labels: bool
) -> np.dtype[np.generic]:
    # The types that every later step and every other program knows: black and white is 0 and 1, and
    # numbers of 64 bits are kept in 32 where they fit.
    dtype = pages.dtype
    if dtype.kind not in "uifb":
        raise UnreadableImage(path, f"pixels of type {dtype} are not intensities")
    if dtype.kind == "b":
        return dtype if is_labels else np.dtype(np.uint8)  # labels of one bit are no labels
    if dtype.kind == "f" or dtype.itemsize < 8:
        return dtype.newbyteorder("=")
    ends = [(int(page.min()), int(page.max())) for page in _each(pages) if page.size]
    least, most = min((end[0] for end in ends), default=0), max((end[1] for end in ends), default=0)
    for kind in (np.uint16, np.int32, np.uint32):
        if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.float64)


def _each(pages: Pages) -> Iterator[Array]:
    for index in range(pages.n_pages):
        yield pages.page(index)


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
    decoded = _decoded(info)
    plane = decoded // max(1, _n_planes(info))
    if plane > MAX_BYTES:
        raise UnreadableImage(
            path, f"declares {_gib(plane)} of pixels; more than {_gib(MAX_BYTES)} is not read"
        )
    if decoded > max(MAX_RATIO * size, UNSUSPICIOUS_BYTES):
        raise UnreadableImage(path, f"declares {_gib(decoded)} of pixels, the file is {size} B")


def _decoded(info: ImageInfo) -> int:
    return math.prod(info.shape) * np.dtype(info.dtype).itemsize


def _n_planes(info: ImageInfo) -> int:
    return math.prod(n for axis, n in zip(info.axes, info.shape, strict=True) if axis not in "CYXS")


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes > 2**29 else f"{n_bytes / 2**20:.1f} MiB"
