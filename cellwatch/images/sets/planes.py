"""A set of files as images: which plane lies in which file, whatever program wrote them."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path, PureWindowsPath

import numpy as np

from cellwatch.errors import UnreadableImage
from cellwatch.files.digests import status_of
from cellwatch.images.aborted import ABORTED, note
from cellwatch.images.planes import Span
from cellwatch.images.structure import why_file_not_whole

NAMED = 3  # files that a reason names
LACKS_CHANNEL = "no file of channel"  # in what an image lacks

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
    well : str
        Of a plate, where a pattern of names tells it; "": of none.
    field : int or None
    """

    name: str
    planes: dict[Place, Plane]
    channels: dict[int, str]
    sides_um: tuple[float, float] = (0.0, 0.0)
    notes: tuple[str, ...] = ()
    lacks: str = ""
    well: str = ""
    field: int | None = None

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
        status = file.stat()
        if reason := _why_file_not_whole(file, status.st_size, status.st_mtime_ns):
            return f"{file.name}: {reason}"
    return ""


def as_far_as_whole(images: Sequence[SetImage], reason: str) -> list[SetImage]:
    """Return images as far as all of them are whole, with a note; empty: that cannot be told.

    That is the first time points of which every plane is there, or where there is one time point
    the first z planes. Where nothing is missing of those, so many are yet to come; with a single
    one it may be a channel that lacks.

    Parameters
    ----------
    images : sequence of SetImage
    reason : str
        Why they are not complete.
    """
    axis = 0 if any(len(image.grid[0]) > 1 for image in images) else 1
    n = min((_n_whole(image, axis) for image in images), default=0)
    if not n or any(_may_lack_a_channel(image, axis, n) for image in images):
        return []
    return [_cut(image, axis, n, reason) for image in images]


def _n_whole(image: SetImage, axis: int) -> int:
    times, depths, channels = image.grid
    values = image.grid[axis]
    for n, value in enumerate(values):
        row = [value] if axis == 0 else times, [value] if axis == 1 else depths, channels
        planes = [image.planes.get(place) for place in product(*row)]
        is_next = n == 0 or value == values[n - 1] + 1
        if not is_next or not all(plane is not None and _is_whole(plane) for plane in planes):
            return n
    return len(values)


def _is_whole(plane: Plane) -> bool:
    try:
        status = plane.file.stat()
    except OSError:
        return False
    if plane.raw is not None:
        start, shape, dtype = plane.raw
        return start + math.prod(shape) * np.dtype(dtype).itemsize <= status.st_size
    return not _why_file_not_whole(plane.file, status.st_size, status.st_mtime_ns)


def _may_lack_a_channel(image: SetImage, axis: int, n: int) -> bool:
    if LACKS_CHANNEL in image.lacks:
        return True
    return bool(image.lacks) and n == len(image.grid[axis]) == 1


def _cut(image: SetImage, axis: int, n: int, reason: str) -> SetImage:
    values = image.grid[axis]
    kept = {place: plane for place, plane in image.planes.items() if place[axis] in values[:n]}
    said = note(n, len(values), "TZ"[axis])
    if n == len(values):
        said = f"{ABORTED}: {reason}"
    return replace(image, planes=kept, notes=(*image.notes, said), lacks="")


@lru_cache(maxsize=100_000)
def _why_file_not_whole(file: Path, size: int, mtime_ns: int) -> str:
    del size, mtime_ns  # they tell that it is the same
    return why_file_not_whole(file)


def require_files(path: Path, image: SetImage) -> None:
    """Refuse an image some of whose files are not there.

    Raises
    ------
    UnreadableImage
    """
    if absent := [file for file in image.files if not file.is_file()]:
        told = f"{len(absent)} of {len(image.files)} files are not there: {_listed(absent)}"
        raise UnreadableImage(path, told)


def spans_of(image: SetImage) -> list[Span]:
    """Return the bytes of an image: all its files, each named by the first plane that it holds."""
    named: dict[Path, str] = {}
    for place, plane in sorted(image.planes.items()):
        named.setdefault(plane.file, "/".join(str(n) for n in place))
    return [Span(name, file, 0, status_of(file).st_size) for file, name in named.items()]


def are_alike(images: Sequence[SetImage]) -> bool:
    """Say whether images have the same time points, z and channels."""
    return len({tuple(image.lengths.items()) for image in images}) <= 1


def member_name(name: str, number: int, taken: Iterable[str]) -> str:
    """Return a name from an index as the name of an image: no path, and no other image's.

    Examples
    --------
    >>> member_name("../left", 1, []), member_name("", 2, []), member_name("a", 3, ["a"])
    ('.._left', 'position 2', 'a (3)')
    """
    plain = name.replace("/", "_").replace("\\", "_").replace("\0", "").strip()
    plain = f"position {number}" if plain in ("", ".", "..") else plain
    return f"{plain} ({number})" if plain in taken else plain


def base_name(listed: str) -> str:
    r"""Return the last part of a name in an index: no path out of its folder is followed.

    Examples
    --------
    >>> base_name(r"..\other\a.tif"), base_name("/etc/passwd")
    ('a.tif', 'passwd')
    """
    return PureWindowsPath(listed).name


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
