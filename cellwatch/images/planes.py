"""An acquisition as planes: all of them in memory, or read from an open file one at a time."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cellwatch.errors import ReadInterrupted, UnreadableImage
from cellwatch.files.digests import status_of
from cellwatch.files.members import file_of
from cellwatch.records import ImageInfo

Array = NDArray[np.generic]  # any real dtype
AXES = "PTZCYX"


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes in a file that belong to an image.

    Attributes
    ----------
    name : str
        Within the image: two images with the same bytes under the same names are the same.
    file : Path
    start, size : int, bytes
    """

    name: str
    file: Path
    start: int
    size: int


class Pages(Protocol):
    """An open file: its pixels page by page, in the order of its axes.

    Attributes
    ----------
    n_pages : int
    dtype : numpy dtype
    """

    n_pages: int
    dtype: np.dtype[np.generic]

    def page(self, index: int) -> Array:
        """Return one page as it is meant to be seen; its axes are the last ones of the file."""

    def close(self) -> None:
        """Let the file go."""


class Planes(Protocol):
    """An acquisition whose planes can be asked for.

    Attributes
    ----------
    info : ImageInfo
    is_rgb : bool
        Whether C holds the samples of a colour picture.
    shape : (P, T, Z, C, Y, X)
    dtype : numpy dtype
    """

    @property
    def info(self) -> ImageInfo:
        """Return what the file says of itself."""

    @property
    def is_rgb(self) -> bool:
        """Say whether C holds the samples of a colour picture."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return P, T, Z, C, Y, X."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Return the type of the pixels."""

    def plane(self, position: int, t: int, z: int) -> Array:
        """Return one plane, (C, Y, X)."""


@dataclass(frozen=True, slots=True)
class Image:
    """An acquisition whose pixels are all in memory.

    Attributes
    ----------
    info : ImageInfo
    pixels : (P, T, Z, C, Y, X), any real dtype
    is_rgb : bool
        Whether C holds the samples of a colour picture.
    """

    info: ImageInfo
    pixels: Array
    is_rgb: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Return P, T, Z, C, Y, X."""
        return self.pixels.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Return the type of the pixels."""
        return self.pixels.dtype

    def plane(self, position: int, t: int, z: int) -> Array:
        """Return one plane, (C, Y, X)."""
        plane: Array = self.pixels[position, t, z]
        return plane

    def close(self) -> None:
        """Do nothing: no file is open."""


@dataclass(slots=True)
class OpenImage:
    """An acquisition in an open file, of which one plane is read at a time.

    Attributes
    ----------
    path : Path
    info : ImageInfo
    pages : Pages
    dtype : numpy dtype
        Of the planes, which may be narrower than that of the pages.
    stamp : tuple of int
        What `stamp_of` said before anything was read.
    """

    path: Path
    info: ImageInfo
    pages: Pages
    dtype: np.dtype[np.generic]
    stamp: tuple[int, ...]
    _last: tuple[int, Array] | None = field(default=None, repr=False)

    @property
    def is_rgb(self) -> bool:
        """Say whether C holds the samples of a colour picture."""
        return "S" in self.info.axes

    @property
    def shape(self) -> tuple[int, ...]:
        """Return P, T, Z, C, Y, X."""
        lengths = dict(zip(self._names, self.info.shape, strict=True))
        return tuple(lengths.get(axis, 1) for axis in AXES)

    @property
    def _names(self) -> str:
        names = self.info.axes
        return names.replace("S", "C") if "S" in names and "C" not in names else names

    def plane(self, position: int, t: int, z: int) -> Array:
        """Return one plane, (C, Y, X).

        Raises
        ------
        UnreadableImage
            When it cannot be decoded, or the file was written to since it was opened.
        """
        try:
            plane = self._read({"P": position, "T": t, "Z": z})
        except UnreadableImage as error:
            self._refuse_changed(error)
            raise
        except OSError as error:  # the file is not at fault, nor is where its masks are written
            told = f"it cannot be read now: {error.strerror or error}"
            raise ReadInterrupted(self.path, told) from error
        self._refuse_changed()
        return plane

    def _read(self, at: Mapping[str, int]) -> Array:
        n_ahead = self._axes_ahead()
        names, lengths = self._names, self.info.shape
        channels = lengths[names.index("C")] if "C" in names[:n_ahead] else 1
        parts = []
        for channel in range(channels):
            where = [{**at, "C": channel}[axis] for axis in names[:n_ahead]]
            index = int(np.ravel_multi_index(where, lengths[:n_ahead])) if n_ahead else 0
            page = self._page(index)
            if page.size != math.prod(lengths[n_ahead:]):
                raise UnreadableImage(
                    self.path, f"{lengths} was declared, and a page of {page.shape} was found"
                )
            page = page.reshape(lengths[n_ahead:])
            parts.append(_arranged(page, names[n_ahead:], at))
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return whole.astype(self.dtype, copy=False)

    def _refuse_changed(self, error: UnreadableImage | None = None) -> None:
        if stamp_of(self.path) != self.stamp:
            raise UnreadableImage(self.path, "the file was changed while it was read") from error

    def _axes_ahead(self) -> int:
        # Along which pages follow each other; the others lie within a page.
        count = 1
        for n, length in enumerate(self.info.shape):
            if count == self.pages.n_pages:
                return n
            count *= length
        raise UnreadableImage(
            self.path, f"{self.info.shape} was declared and {self.pages.n_pages} pages were found"
        )

    def _page(self, index: int) -> Array:
        # The last one is kept: a page may hold several planes.
        if self._last is None or self._last[0] != index:
            self._last = None
            self._last = (index, self.pages.page(index))
        return self._last[1]

    def close(self) -> None:
        """Let the file go."""
        self._last = None
        self.pages.close()

    def __enter__(self) -> "OpenImage":
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the file go."""
        self.close()


@dataclass(slots=True)
class WholePage:
    """A file that is read as a whole, as the single page that it is."""

    pixels: Array
    n_pages: int = 1
    dtype: np.dtype[np.generic] = field(init=False)

    def __post_init__(self) -> None:
        self.dtype = self.pixels.dtype

    def page(self, index: int) -> Array:
        """Return all of it."""
        if index:
            raise IndexError(index)
        return self.pixels

    def close(self) -> None:
        """Do nothing: the file is closed already."""


@dataclass(slots=True)
class CalledPages:
    """Pages that a function reads, and another lets go."""

    n_pages: int
    dtype: np.dtype[np.generic]
    read: Callable[[int], Array]
    let_go: Callable[[], None]

    def page(self, index: int) -> Array:
        """Return one page."""
        return self.read(index)

    def close(self) -> None:
        """Let the file go."""
        self.let_go()


def planes_of(image: Planes) -> Iterator[Array]:
    """Yield all planes of an acquisition, (C, Y, X) each: by position, time and z."""
    for position, t, z in np.ndindex(*image.shape[:3]):
        yield image.plane(position, t, z)


def n_planes(image: Planes) -> int:
    """Return the number of planes: positions times time points times z."""
    return math.prod(image.shape[:3])


def plane_digest(plane: Array) -> str:
    """Return a sha256 over one plane of all channels, (C, Y, X)."""
    digest = hashlib.sha256(str((plane.shape, plane.dtype.str[1:])).encode())
    digest.update(np.ascontiguousarray(plane).tobytes())
    return digest.hexdigest()


def pixels_digest(image: Planes) -> str:
    """Return a sha256 over all pixels of an acquisition: the same under any name or format."""
    digest = hashlib.sha256(str((image.shape, image.dtype.str[1:])).encode())
    for plane in planes_of(image):
        digest.update(np.ascontiguousarray(plane).tobytes())
    return digest.hexdigest()


def _arranged(page: Array, names: str, at: Mapping[str, int]) -> Array:
    # The plane in a page, (C, Y, X).
    index = tuple(at[axis] if axis in at else slice(None) for axis in names)
    plane, left = page[index], [axis for axis in names if axis not in at]
    if "C" not in left:
        plane, left = plane[None], ["C", *left]
    return plane.transpose([left.index(axis) for axis in "CYX"])


def stamp_of(path: Path) -> tuple[int, ...]:
    """Return what changes when an image's file is written to or replaced.

    Of a folder, what changes when files are added to it directly.

    Raises
    ------
    UnreadableImage
        When it is not there.
    """
    status = status_of(file_of(path))
    return status.st_size, status.st_mtime_ns, status.st_ino
