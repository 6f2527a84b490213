"""The levels of a mask store: axes, scales, chunks; each level half as large as the last."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from cellwatch.storage.masks.content import Array, Json, StoreContent
from cellwatch.storage.masks.ngff import array_options

MAX_LEVELS = 5  # a store of one 2-D target has at most 2 + 2 * 5 files
SMALLEST_LEVEL = 256  # px; levels stop when the longer side fits
CHUNK = 512  # px; a plane is one file (shard) of chunks that viewers can read alone


@dataclass(frozen=True, slots=True)
class Source:
    """What is written into an array.

    Attributes
    ----------
    shape : (..., Y, X)
    dtype : numpy dtype
    planes : iterable of (index, (Y, X))
        Each plane with its place among the axes in front.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    planes: Iterable[tuple[tuple[int, ...], Array]]

    @classmethod
    def of(cls, pixels: Array) -> "Source":
        """Return the planes of an array in memory, (..., Y, X)."""
        each = ((at, pixels[at]) for at in np.ndindex(*pixels.shape[:-2]))
        return cls(pixels.shape, pixels.dtype, each)


def write_levels(
    group: zarr.Group, source: Source, axes: str, content: StoreContent, *, is_label: bool
) -> Json:
    """Write an array and its smaller levels into a group, plane by plane; return the metadata."""
    datasets, arrays = [], []
    shape, dtype = source.shape, np.dtype(np.uint8) if source.dtype == bool else source.dtype
    for level in range(_n_levels(shape)):
        if level:
            shape = (*shape[:-2], *(-(-n // 2) for n in shape[-2:]))
        array = group.create_array(
            str(level),
            shape=shape,
            dtype=dtype,
            **array_options(content.version, axes, _chunking(shape)),
        )
        arrays.append(array)
        scale = [_scale(axis, level, content.pixel_size_um) for axis in axes]
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    for at, plane in source.planes:
        smaller = plane.astype(dtype, copy=False)
        for level, array in enumerate(arrays):
            if level:
                smaller = smaller[::2, ::2] if is_label else _halved(smaller)
            array[at] = smaller
    described = [_axis(axis, content.pixel_size_um) for axis in axes]
    multiscale = {"name": group.name.strip("/") or "image", "axes": described, "datasets": datasets}
    return {"multiscales": [multiscale]}


def axes_of(present: str, *, has_channels: bool) -> str:
    """Return the letters of the axes that are written."""
    kept = {"t": "T" in present, "c": has_channels, "z": "Z" in present, "y": True, "x": True}
    return "".join(axis for axis, is_kept in kept.items() if is_kept)


def _axis(axis: str, pixel_size_um: float | None) -> Json:
    if axis == "c":
        return {"name": "c", "type": "channel"}
    if axis == "t":
        return {"name": "t", "type": "time"}
    unit = {"unit": "micrometer"} if pixel_size_um and axis in "yx" else {}
    return {"name": axis, "type": "space", **unit}


def _scale(axis: str, level: int, pixel_size_um: float | None) -> float:
    return (pixel_size_um or 1.0) * 2.0**level if axis in "yx" else 1.0


def _n_levels(shape: tuple[int, ...]) -> int:
    longest = max(shape[-2:])
    needed = math.ceil(math.log2(max(1.0, longest / SMALLEST_LEVEL)))
    return min(MAX_LEVELS, 1 + needed)


def _chunking(shape: tuple[int, ...]) -> dict[str, Any]:  # Any: keywords of zarr
    ahead = (1,) * (len(shape) - 2)
    chunk = tuple(min(CHUNK, n) for n in shape[-2:])
    if chunk == shape[-2:]:
        return {"chunks": ahead + chunk}
    whole = tuple(math.ceil(n / c) * c for n, c in zip(shape[-2:], chunk, strict=True))
    return {"chunks": ahead + chunk, "shards": ahead + whole}


def _halved(pixels: Array) -> Array:
    pad = [(0, 0)] * (pixels.ndim - 2) + [(0, n % 2) for n in pixels.shape[-2:]]
    even = np.pad(pixels, pad, mode="edge").astype(np.float32)
    height, width = even.shape[-2:]
    mean = even.reshape(*even.shape[:-2], height // 2, 2, width // 2, 2).mean(axis=(-3, -1))
    if pixels.dtype.kind in "ui":
        mean = np.rint(mean)
    halved: Array = mean.astype(pixels.dtype)
    return halved
