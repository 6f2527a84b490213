"""Read CZI, the files of Zeiss's ZEN, with the library `pylibCZIrw`."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pylibCZIrw import czi

from cellwatch.errors import UnreadableImage
from cellwatch.files.members import file_of, member_of
from cellwatch.images.calibration import pixel_side
from cellwatch.images.libraries import decoding, opening
from cellwatch.images.planes import Array, CalledPages, Pages
from cellwatch.records import ImageInfo

DTYPES = {"Gray8": "uint8", "Gray16": "uint16", "Gray32Float": "float32"}
COLOURS = {"Bgr24": "uint8", "Bgr48": "uint16"}
SCENE = "scene "  # and its number, from 1: the name of a member
READ = "TZC"  # axes that planes are read along
MORE = "HIRVB"  # phases, illuminations, rotations, views, blocks: one plane of them is read


def members(file: Path) -> tuple[str, ...]:
    """Return the names of the scenes where they differ in size; () where they are positions."""
    with _opened(file) as opened:
        scenes = opened.scenes_bounding_rectangle
        sides = {(r.h, r.w) for r in scenes.values()}
        return tuple(f"{SCENE}{key + 1}" for key in sorted(scenes)) if len(sides) > 1 else ()


def describe(path: Path) -> ImageInfo:
    """Tell what a CZI file holds: its axes are positions (scenes), time, z, channels, the plane."""
    with _opened(file_of(path)) as file:
        return _described(path, file)


def open_pages(path: Path, *, is_labels: bool = False) -> Pages:
    """Open a CZI file, a page for each plane of each channel; `is_labels` changes nothing."""
    del is_labels
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_opened(file_of(path)))
        info = _described(path, file)
        sizes = dict(zip(info.axes, info.shape, strict=True))
        counts = [sizes.get(axis, 1) for axis in "PTZC"]
        scenes: list[int | None] = [*_scenes(path, file)] or [None]

        def page(index: int) -> Array:
            p, t, z, c = (int(n) for n in np.unravel_index(index, counts))
            with decoding(path, "CZI file"):
                plane = file.read(plane={"T": t, "Z": z, "C": c}, scene=scenes[p])
            return np.asarray(plane[..., ::-1] if "S" in sizes else plane[..., 0])

        close = stack.pop_all().close
        return CalledPages(math.prod(counts), np.dtype(info.dtype), page, close)


def _described(path: Path, file: Any) -> ImageInfo:  # Any: pylibCZIrw's reader
    box, scenes = file.total_bounding_box, file.scenes_bounding_rectangle
    rectangles = [scenes[key] for key in _scenes(path, file)]
    sides = {(r.h, r.w) for r in rectangles} or {
        (box["Y"][1] - box["Y"][0], box["X"][1] - box["X"][0])
    }
    if len(sides) > 1:
        listed = ", ".join(f"{h} x {w}" for h, w in sorted(sides))
        told = f"its {len(rectangles)} scenes differ in size ({listed} px): each is an image"
        raise UnreadableImage(path, f"{told}, as {path.name}/{SCENE}1")
    kinds = {file.get_channel_pixel_type(c) for c in range(_count(box, "C"))}
    kind = kinds.pop()
    if kinds or kind not in {**DTYPES, **COLOURS}:
        raise UnreadableImage(path, f"channels of type {', '.join(sorted({kind, *kinds}))}")
    sizes = {"P": len(rectangles) or 1, **{axis: _count(box, axis) for axis in READ}}
    kept = {axis: n for axis, n in sizes.items() if n > 1}
    (height, width) = sides.pop()
    axes, shape = "".join(kept), tuple(kept.values())
    axes, shape = f"{axes}YX", (*shape, height, width)
    if kind in COLOURS:
        axes, shape = f"{axes}S", (*shape, 3)
    more = {axis: _count(box, axis) for axis in MORE if _count(box, axis) > 1}
    notes = tuple(f"of its {n} planes along '{axis}' the first is read" for axis, n in more.items())
    size, why = _pixel_size(file.metadata)
    names = ("red", "green", "blue") if kind in COLOURS else _names(file.metadata, sizes["C"])
    dtype = {**DTYPES, **COLOURS}[kind]
    return ImageInfo(str(path), "czi", axes, shape, dtype, size, names, notes=(*notes, *why))


def _scenes(path: Path, file: Any) -> list[int]:  # Any: pylibCZIrw's reader
    # All of a file, or the one that a member names.
    scenes, member = sorted(file.scenes_bounding_rectangle), member_of(path)
    if not member:
        return scenes
    chosen = [key for key in scenes if f"{SCENE}{key + 1}" == member]
    if not chosen:
        raise UnreadableImage(path, f"the CZI file has no scene '{member}'")
    return chosen


def _count(box: Mapping[str, tuple[int, int]], axis: str) -> int:
    start, end = box.get(axis, (0, 1))
    return max(1, end - start)


def _listed(value: Any) -> list[Any]:  # Any: XML as mappings, where one child is not a list
    return value if isinstance(value, list) else [] if value is None else [value]


def _below(tree: Any, *names: str) -> Any:  # Any: XML as mappings
    for name in names:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def _pixel_size(metadata: Any) -> tuple[float | None, tuple[str, ...]]:  # Any: XML as mappings
    scaling = _below(metadata, "ImageDocument", "Metadata", "Scaling", "Items", "Distance")
    metres = {item.get("@Id"): float(item.get("Value") or 0) for item in _listed(scaling)}
    x, y = metres.get("X", 0.0) * 1e6, metres.get("Y", 0.0) * 1e6
    return pixel_side(x, y)


def _names(metadata: Any, count: int) -> tuple[str, ...]:  # Any: XML as mappings
    image = _below(metadata, "ImageDocument", "Metadata", "Information", "Image", "Dimensions")
    found = [
        str(c.get("@Name") or c.get("@Id") or "")
        for c in _listed(_below(image, "Channels", "Channel"))
    ]
    return tuple(found) if len(found) == count else ("",) * count


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:  # Any: pylibCZIrw's reader
    with opening(path, "CZI file"), czi.open_czi(str(path)) as file:
        yield file
