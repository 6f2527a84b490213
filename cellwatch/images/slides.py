"""Read the files of slide scanners, SVS, NDPI and VSI, with the library `slideio`.

A slide is a pyramid of the same picture at several sizes. The largest level that fits into memory
is read, if cells are still to be seen in it.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slideio

from cellwatch.errors import UnreadableImage
from cellwatch.files.digests import status_of
from cellwatch.files.members import file_of, member_of
from cellwatch.images.calibration import pixel_side
from cellwatch.images.libraries import decoding
from cellwatch.images.planes import Array, CalledPages, Pages, Span
from cellwatch.images.suffixes import suffix_of
from cellwatch.records import ImageInfo

DRIVERS = {".svs": "SVS", ".ndpi": "NDPI", ".vsi": "VSI"}
LARGEST_PLANE = 2 << 30  # bytes of all channels of a level that is read
COARSEST_UM = 1.0  # µm a pixel; in a coarser level a nucleus has six pixels and less
COLOURS = 3
PLACE = re.compile(r"^\S+:\d+:\s*")  # of an error in slideio's source


@dataclass(frozen=True, slots=True)
class _Level:
    width: int
    height: int
    scale: float  # of its sides to those of the slide


def members(file: Path) -> tuple[str, ...]:
    """Return the names of the scenes of a slide; () when there is one."""
    with _opened(file) as slide:
        return tuple(_scenes(slide)) if slide.num_scenes > 1 else ()


def spans(file: Path, member: str) -> list[Span]:
    """Return the bytes of a slide: its file and, of a VSI, those that hold its pixels."""
    parts = [file, *pixel_files(file)]
    return [Span(f"{member}/{part.suffix}", part, 0, status_of(part).st_size) for part in parts]


def pixel_files(file: Path) -> list[Path]:
    """Return the files that hold the pixels of a VSI; it is itself no more than their index."""
    return sorted(file.with_name(f"_{file.stem}_").glob("*/*.ets")) if is_vsi(file) else []


def is_vsi(file: Path) -> bool:
    """Say whether a file is an index of others."""
    return file.suffix.lower() == ".vsi"


def describe(path: Path) -> ImageInfo:
    """Tell what a slide holds at the level that is read; axes are time, z, and the plane."""
    with _opened(file_of(path)) as slide:
        return _described(path, _scene(path, slide))


def open_pages(path: Path, *, is_labels: bool = False) -> Pages:
    """Open a slide at the level that is read, a page for each t and z, of all channels."""
    del is_labels
    with contextlib.ExitStack() as stack:
        slide = stack.enter_context(_opened(file_of(path)))
        scene = _scene(path, slide)
        info = _described(path, scene)
        level = _level(path, scene)
        n_t, n_z = max(1, scene.num_t_frames), max(1, scene.num_z_slices)

        def page(index: int) -> Array:
            t, z = divmod(index, n_z)
            with decoding(path, "slide"):
                pixels = scene.read_block(
                    (0, 0, *scene.size),
                    (level.width, level.height),
                    slices=(z, z + 1),
                    frames=(t, t + 1),
                )
            pixels = np.asarray(pixels).reshape(level.height, level.width, -1)
            return pixels if "S" in info.axes else np.ascontiguousarray(pixels.transpose(2, 0, 1))

        close = stack.pop_all().close
        return CalledPages(n_t * n_z, np.dtype(info.dtype), page, close)


def _described(path: Path, scene: Any) -> ImageInfo:  # Any: slideio's scene
    level = _level(path, scene)
    dtype = _dtype(path, scene)
    count = scene.num_channels
    names = tuple(scene.get_channel_name(n) for n in range(count))
    is_colour = count == COLOURS and dtype == np.uint8 and not any(names)
    stack = {"T": scene.num_t_frames, "Z": scene.num_z_slices}
    ahead = {axis: n for axis, n in stack.items() if n > 1}
    ahead |= {"C": count} if count > 1 and not is_colour else {}
    axes = "".join(ahead) + ("YXS" if is_colour else "YX")
    shape = (*ahead.values(), level.height, level.width, *((COLOURS,) if is_colour else ()))
    size, notes = _pixel_size(scene, level)
    if level.scale < 1:
        full = f"{scene.size[0]} x {scene.size[1]} px"
        notes += (f"read at 1/{1 / level.scale:g} of its size, which is {full}",)
    channels = ("red", "green", "blue") if is_colour else names
    kind = suffix_of(file_of(path).name).removeprefix(".")
    return ImageInfo(str(path), kind, axes, shape, str(dtype), size, channels, notes=notes)


def _level(path: Path, scene: Any) -> _Level:  # Any: slideio's scene
    # The largest that fits.
    a_pixel = scene.num_channels * _dtype(path, scene).itemsize
    width, height = scene.size
    levels = [_Level(width, height, 1.0)]
    for n in range(scene.num_zoom_levels):
        info = scene.get_zoom_level_info(n)
        levels.append(_Level(info.size.width, info.size.height, float(info.scale)))
    fitting = [each for each in levels if each.width * each.height * a_pixel <= LARGEST_PLANE]
    best = max(fitting, key=lambda each: each.scale, default=None)
    full = f"{scene.size[0]} x {scene.size[1]} px"
    if best is None:
        raise UnreadableImage(path, f"the slide has {full} and no smaller level that fits memory")
    um = _pixel_size(scene, best)[0]
    if best.scale < 1 and um is not None and um > COARSEST_UM:
        raise UnreadableImage(
            path,
            f"the slide has {full}; the largest level that fits memory has {um:.2f} µm a pixel, "
            "too coarse for cells. Export the regions of interest as TIFF",
        )
    return best


def _dtype(path: Path, scene: Any) -> np.dtype[np.generic]:  # Any: slideio's scene
    kinds: set[np.dtype[np.generic]] = {
        np.dtype(scene.get_channel_data_type(n)) for n in range(scene.num_channels)
    }
    if len(kinds) != 1:
        raise UnreadableImage(path, f"its channels are of several types: {kinds}")
    return kinds.pop()


def _pixel_size(
    scene: Any,
    level: _Level,  # Any: slideio's scene
) -> tuple[float | None, tuple[str, ...]]:
    x, y = (side * 1e6 / level.scale for side in scene.resolution)
    return pixel_side(x, y)


def _scene(path: Path, slide: Any) -> Any:  # Any: slideio's
    scenes, member = _scenes(slide), member_of(path)
    if not member and len(scenes) == 1:
        return next(iter(scenes.values()))
    if member not in scenes:
        named = f"'{member}'" if member else "of that name: it has several"
        raise UnreadableImage(path, f"the slide has no scene {named}")
    return scenes[member]


def _scenes(slide: Any) -> dict[str, Any]:  # Any: slideio's
    found: dict[str, Any] = {}
    for n in range(slide.num_scenes):
        scene = slide.get_scene(n)
        name = scene.name.replace("/", "_").replace("\0", "").strip(". ") or f"scene {n + 1}"
        found[name if name not in found else f"{name} ({n + 1})"] = scene
    return found


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:  # Any: slideio's
    if is_vsi(file) and not pixel_files(file):
        folder = f"_{file.stem}_"
        raise UnreadableImage(file, f"the folder {folder} with its pixels is not beside it")
    try:
        slide = slideio.open_slide(str(file), DRIVERS[file.suffix.lower()])
        yield slide
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:
        # A damaged file may make the library raise anything, with the place in its own source.
        told = PLACE.sub("", str(error)).replace(str(file), file.name)
        raise UnreadableImage(file, f"the slide cannot be read: {told}") from error
