"""Read LIF, the projects of Leica's LAS X, with the library `liffile`; each image is a member."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import liffile
import numpy as np

from cellwatch.errors import UnreadableImage
from cellwatch.files.members import file_of, member_of
from cellwatch.images.calibration import pixel_side
from cellwatch.images.libraries import decoding, opening
from cellwatch.images.planes import Array, CalledPages, Pages, Span
from cellwatch.records import ImageInfo

POSITIONS = "M"  # liffile's letter for the tiles of a scan
READ = "MTZC"  # axes that planes are read along; of all others the first plane is
UNNAMED = "image"


def members(file: Path) -> tuple[str, ...]:
    """Return the names of the images of a project that were acquired, as paths below it."""
    with _opened(file) as project:
        return tuple(_images(project))


def spans(file: Path, member: str) -> list[Span]:
    """Return where the pixels of an image lie in a project's file."""
    with _opened(file) as project:
        image = _image(file, member, project)
        block = image.memory_block
        kind = f"{image.dtype} {image.sizes}"
        return [Span(kind, file, int(block.offset), int(block.size))]


def describe(path: Path) -> ImageInfo:
    """Tell what an image of a project holds: its axes are positions, time, z, channels, plane."""
    with _opened(file_of(path)) as project:
        return _described(path, _image(path, member_of(path), project))


def open_pages(path: Path, *, is_labels: bool = False) -> Pages:
    """Open an image of a project, a page for each plane of each channel."""
    del is_labels
    with contextlib.ExitStack() as stack:
        project = stack.enter_context(_opened(file_of(path)))
        image = _image(path, member_of(path), project)
        info = _described(path, image)
        axes = [axis for axis in READ if image.sizes.get(axis, 1) > 1]
        counts = [image.sizes[axis] for axis in axes]

        def page(index: int) -> Array:
            at = np.unravel_index(index, counts) if counts else ()
            chosen = {axis: int(n) for axis, n in zip(axes, at, strict=True)}
            with decoding(path, "LIF file"):
                return np.array(image.frame(**chosen))

        close = stack.pop_all().close
        return CalledPages(math.prod(counts), np.dtype(info.dtype), page, close)


def _described(path: Path, image: Any) -> ImageInfo:  # Any: liffile's image
    plane = "".join(axis for axis in image.frames.frame_sizes)
    if plane not in ("YX", "YXS"):
        along = " and ".join(plane.removesuffix("S"))
        raise UnreadableImage(path, f"its planes lie along {along}, and not along Y and X")
    sizes = {axis: int(n) for axis, n in image.sizes.items()}
    kept = [axis for axis in READ if sizes.get(axis, 1) > 1]
    axes = "".join(kept).replace(POSITIONS, "P") + plane
    shape = (*(sizes[axis] for axis in kept), *(sizes[axis] for axis in plane))
    more = [axis for axis in sizes if axis not in {*READ, *plane} and sizes[axis] > 1]
    notes = tuple(f"of its {sizes[axis]} planes along '{axis}' the first is read" for axis in more)
    size, why = _pixel_size(image)
    names = ("red", "green", "blue", "alpha")[: sizes["S"]] if "S" in plane else ()
    channels = names or ("",) * (sizes.get("C", 1))
    return ImageInfo(
        str(path), "lif", axes, shape, str(image.dtype), size, channels, notes=(*notes, *why)
    )


def _pixel_size(image: Any) -> tuple[float | None, tuple[str, ...]]:  # Any: liffile's image
    # Its coordinates are those of the first and the last pixel, in m.
    sides = []
    for axis in "XY":
        coordinates = image.coords.get(axis, ())
        if len(coordinates) < 2:
            return None, ()
        sides.append(abs(coordinates[-1] - coordinates[0]) / (len(coordinates) - 1) * 1e6)
    x, y = sides
    return pixel_side(x, y)


def _image(path: Path, member: str, project: Any) -> Any:  # Any: liffile's
    images = _images(project)
    if member not in images:
        raise UnreadableImage(path, f"the project has no image '{member}'")
    return images[member]


def _images(project: Any) -> dict[str, Any]:  # Any: liffile's
    # Names as paths below the project; an image that was planned and not acquired has no bytes.
    found: dict[str, Any] = {}
    for image in project.images:
        if image.is_flim or image.memory_block.size == 0:
            continue
        parts = [_plain(part) for part in image.path.split("/")]
        plain = name = "/".join(parts)
        count = 1
        while name in found:
            count += 1
            name = f"{plain} ({count})"
        found[name] = image
    return found


def _plain(part: str) -> str:
    kept = part.replace("\0", "").strip()
    return UNNAMED if kept in ("", ".", "..") else kept


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:  # Any: liffile's LifFile
    with opening(file, "LIF file"), liffile.LifFile(file) as project:
        yield project
