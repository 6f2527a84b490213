"""A set of files as images: which plane lies in which file, whatever program wrote them."""

import contextlib
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PureWindowsPath

import numpy as np

from cellwatch.errors import UnreadableImage
from cellwatch.images import tiff
from cellwatch.images.calibration import pixel_side
from cellwatch.images.planes import Array, Pages, Span
from cellwatch.images.whole import why_file_not_whole
from cellwatch.records import ImageInfo

OPEN_FILES = 8  # of a set that are kept open: a plane's channels lie in several
NAMED = 3  # files that a reason names

Place = tuple[int, int, int]  # time point, z, channel; as the files number them


@dataclass(frozen=True, slots=True)
class Plane:
    """Where a plane lies.

    Attributes
    ----------
    file : Path
    page : int
        Of a TIFF, from 0.
    raw : tuple of (int, tuple of int, str), or None
        Where the plane's bytes begin, its shape and its dtype, in a file that is no plain TIFF.
    """

    file: Path
    page: int = 0
    raw: tuple[int, tuple[int, ...], str] | None = None


@dataclass(frozen=True, slots=True)
class SetImage:
    """One image of a set.

    Attributes
    ----------
    name : str
        As a path below the set: of a plate `B02/1`, the well and its field.
    planes : dict of (t, z, channel) to Plane
        As the files number them; there may be gaps in the numbers.
    channels : dict of int to str
        Names, by the numbers of the channels.
    sides_um : (float, float)
        Of a pixel, along x and y; (0, 0): not known.
    notes : tuple of str
    lacks : str
        What is not there yet and its planes do not tell; "": nothing.
    """

    name: str
    planes: dict[Place, Plane]
    channels: dict[int, str]
    sides_um: tuple[float, float] = (0.0, 0.0)
    notes: tuple[str, ...] = ()
    lacks: str = ""

    @property
    def grid(self) -> tuple[list[int], list[int], list[int]]:
        """Return the time points, z and channels that there are."""
        times, depths, channels = (sorted({place[n] for place in self.planes}) for n in range(3))
        return times, depths, channels

    @property
    def lengths(self) -> dict[str, int]:
        """Return how many time points, z and channels there are."""
        return dict(zip("TZC", (len(values) for values in self.grid), strict=True))

    @property
    def lacking(self) -> list[Place]:
        """Return the places of the grid that have no plane."""
        return [place for place in product(*self.grid) if place not in self.planes]

    @property
    def files(self) -> list[Path]:
        """Return the files that hold its planes, each once, in their order."""
        return list(dict.fromkeys(plane.file for _, plane in sorted(self.planes.items())))


@dataclass(frozen=True, slots=True)
class ImageSet:
    """The files that an index lists.

    Attributes
    ----------
    format : str
    images : tuple of SetImage
    is_plate : bool
        Whether its images are fields of wells.
    lacks : str
        What is not there yet, for people; "": nothing that the index names.
    """

    format: str
    images: tuple[SetImage, ...]
    is_plate: bool = False
    lacks: str = ""


def why_lacking(found: ImageSet) -> str:
    """Say which files or planes of a set are not there or not whole; "": none."""
    files = list(dict.fromkeys(file for image in found.images for file in image.files))
    if absent := [file for file in files if not file.is_file()]:
        return f"{len(absent)} of {len(files)} files are not there: {_listed(absent)}"
    if found.lacks:
        return found.lacks
    if not found.images:
        return "none of its files is there"
    return next((reason for image in found.images if (reason := why_image_lacks(image))), "")


def why_image_lacks(image: SetImage) -> str:
    """Say why one image of a set is not complete; "": it is."""
    if absent := [file for file in image.files if not file.is_file()]:
        return f"{len(absent)} of {len(image.files)} files are not there: {_listed(absent)}"
    if lacking := image.lacking:
        total = len(lacking) + len(image.planes)
        t, z, channel = lacking[0]
        return (
            f"{len(lacking)} of {total} planes are not there, the first at time point {t}, z {z}, "
            f"channel {channel}"
        )
    if image.lacks:
        return image.lacks
    checked = {plane.file for plane in image.planes.values() if plane.raw is None}
    for file in sorted(checked):
        if reason := why_file_not_whole(file):
            return f"{file.name}: {reason}"
    return ""


def described(path: Path, kind: str, images: Sequence[SetImage]) -> ImageInfo:
    """Tell what images of one shape hold: they are the positions of an acquisition."""
    first = images[0]
    plane = next(iter(first.planes.values()))
    with contextlib.closing(_Files()) as files:
        page = files.read(plane)
    samples = page.shape[2:]
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
    shape = (*kept.values(), *page.shape)
    return ImageInfo(
        str(path), kind, axes, shape, str(page.dtype), size, channels, notes=(*notes, *first.notes)
    )


def opened(path: Path, images: Sequence[SetImage]) -> Pages:
    """Open images of one shape, a page for each plane of each channel."""
    places = [list(product(*image.grid)) for image in images]
    files = _Files()
    first = files.read(next(iter(images[0].planes.values())))
    return _SetPages(path, images, places, files, first.shape, first.dtype)


def spans_of(image: SetImage) -> list[Span]:
    """Return the bytes of an image: all its files, each named by the first plane that it holds."""
    named: dict[Path, str] = {}
    for place, plane in sorted(image.planes.items()):
        named.setdefault(plane.file, "/".join(str(n) for n in place))
    return [Span(name, file, 0, file.stat().st_size) for file, name in named.items()]


def are_alike(images: Sequence[SetImage]) -> bool:
    """Say whether images have the same time points, z and channels."""
    return len({tuple(image.lengths.items()) for image in images}) <= 1


def base_name(listed: str) -> str:
    r"""Return the last part of a name in an index: no path out of its folder is followed.

    Examples
    --------
    >>> base_name(r"..\other\a.tif"), base_name("/etc/passwd")
    ('a.tif', 'passwd')
    """
    return PureWindowsPath(listed).name


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
    if file.suffix.lower() in (".jpg", ".jpeg", ".png"):
        from cellwatch.images import jpeg, png

        return png.open_pages(file) if file.suffix.lower() == ".png" else jpeg.open_pages(file)
    return tiff.open_every_page(file)


def _raw(file: Path, start: int, shape: tuple[int, ...], dtype: str) -> Array:
    count = math.prod(shape)
    with file.open("rb") as opened:
        opened.seek(start)
        data = opened.read(count * np.dtype(dtype).itemsize)
    if len(data) < count * np.dtype(dtype).itemsize:
        raise UnreadableImage(file, "it ends within a plane")
    return np.frombuffer(data, dtype).reshape(shape)


def _listed(files: Iterable[Path]) -> str:
    names = sorted(file.name for file in files)
    return ", ".join(names[:NAMED]) + (" and others" if len(names) > NAMED else "")


def letters(row: int) -> str:
    """Return the letters of a plate's row, from 1.

    Examples
    --------
    >>> letters(2), letters(27)
    ('B', 'AA')
    """
    text = ""
    while row > 0:
        row, rest = divmod(row - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def in_order(images: Mapping[str, SetImage]) -> Iterator[SetImage]:
    """Yield the images of a set by their names."""
    yield from (images[name] for name in sorted(images))
