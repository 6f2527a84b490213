"""Read the planes of a set, from the files in which they lie."""

import contextlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from cellwatch.errors import UnreadableImage
from cellwatch.images import tiff
from cellwatch.images.calibration import pixel_side
from cellwatch.images.planes import Array, Pages
from cellwatch.images.sets.planes import Place, Plane, SetImage
from cellwatch.records import ImageInfo

OPEN_FILES = 8  # of a set that are kept open: a plane's channels lie in several
PICTURES = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}  # and the modules that read them


def described(path: Path, kind: str, images: Sequence[SetImage]) -> ImageInfo:
    """Tell what images of one shape hold: they are the positions of an acquisition."""
    first = images[0]
    page, dtype = _kind_of(next(iter(first.planes.values())))
    samples = page[2:]
    lengths = {"P": len(images), **first.lengths}
    kept = {axis: n for axis, n in lengths.items() if n > 1}
    axes = "".join(kept) + ("YXS" if samples else "YX")
    size, notes = pixel_side(*first.sides_um)
    channels = tuple(first.channels.get(n, "") for n in first.grid[2])
    if samples:
        channels = ("red", "green", "blue", "alpha")[: samples[0]]
    if len(images) > 1:
        named = ", ".join(image.name for image in images[:4]) + (", …" if images[4:] else "")
        notes += (f"its {len(images)} images are its positions: {named}",)
    shape = (*kept.values(), *page)
    return ImageInfo(
        str(path),
        kind,
        axes,
        shape,
        dtype,
        size,
        channels,
        notes=(*notes, *first.notes),
        well=first.well,
        field=first.field,
    )


def _kind_of(plane: Plane) -> tuple[tuple[int, ...], str]:
    # Shape and type of a plane, without its pixels.
    if plane.raw is not None:
        return plane.raw[1], str(np.dtype(plane.raw[2]).newbyteorder("="))
    if plane.file.suffix.lower() in PICTURES:
        info = _picture(plane.file).describe(plane.file)
        return info.shape, info.dtype
    return tiff.kind_of_page(plane.file, plane.page)


def opened(path: Path, images: Sequence[SetImage]) -> Pages:
    """Open images of one shape, a page for each plane of each channel."""
    places = [list(product(*image.grid)) for image in images]
    files = _Files()
    first = files.read(next(iter(images[0].planes.values())))
    return _SetPages(path, images, places, files, first.shape, first.dtype)


class _SetPages:
    """Planes of a set, read one at a time."""

    def __init__(
        self,
        path: Path,
        images: Sequence[SetImage],
        places: Sequence[Sequence[Place]],
        files: "_Files",
        shape: tuple[int, ...],
        dtype: np.dtype[np.generic],
    ) -> None:
        self._path, self._images, self._places = path, images, places
        self._files, self._shape = files, shape
        self.dtype = dtype
        self.n_pages = sum(len(each) for each in places)

    def page(self, index: int) -> Array:
        """Return one plane."""
        which, at = divmod(index, len(self._places[0]))
        plane = self._images[which].planes[self._places[which][at]]
        page = self._files.read(plane)
        if page.shape != self._shape or page.dtype != self.dtype:
            raise UnreadableImage(
                self._path,
                f"{plane.file.name} has {page.shape} {page.dtype}, and the first of the set "
                f"{self._shape} {self.dtype}",
            )
        return page

    def close(self) -> None:
        """Close its files."""
        self._files.close()


class _Files:
    """The files of a set that were read last, open."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, Pages] = OrderedDict()

    def read(self, plane: Plane) -> Array:
        """Return a plane, (Y, X) or (Y, X, samples)."""
        if plane.raw is not None:
            return _raw(plane.file, *plane.raw)
        if plane.file not in self._open:
            while len(self._open) >= OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            self._open[plane.file] = _single(plane.file)
        pages = self._open[plane.file]
        if plane.page >= pages.n_pages:
            raise UnreadableImage(plane.file, f"it has no page {plane.page + 1}")
        return pages.page(plane.page)

    def close(self) -> None:
        """Close all."""
        while self._open:
            self._open.popitem()[1].close()


def n_pages(file: Path) -> int:
    """Return how many planes a TIFF file holds."""
    with contextlib.closing(_single(file)) as pages:
        return pages.n_pages


def _single(file: Path) -> Pages:
    if file.suffix.lower() in PICTURES:
        pages: Pages = _picture(file).open_pages(file)
        return pages
    return tiff.open_every_page(file)


def _picture(file: Path) -> Any:  # Any: a module
    return import_module(f"cellwatch.images.{PICTURES[file.suffix.lower()]}")


def _raw(file: Path, start: int, shape: tuple[int, ...], dtype: str) -> Array:
    count = math.prod(shape)
    with file.open("rb") as opened:
        opened.seek(start)
        data = opened.read(count * np.dtype(dtype).itemsize)
    if len(data) < count * np.dtype(dtype).itemsize:
        raise UnreadableImage(file, "it ends within a plane")
    return np.frombuffer(data, dtype).reshape(shape)
