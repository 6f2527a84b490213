"""The levels of a mask store: axes, scales, chunks; each level half as large as the last."""

import math
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from cellwatch.storage.masks.content import NGFF_VERSION, Array, Json, StoreContent

MAX_LEVELS = 5  # a store of one 2-D target has at most 2 + 2 * 5 files
SMALLEST_LEVEL = 256  # px; levels stop when the longer side fits
CHUNK = 512  # px; a plane is one file (shard) of chunks that viewers can read alone


def write_levels(
    group: zarr.Group, pixels: Array, axes: str, content: StoreContent, *, is_label: bool
) -> Json:
    """Write an array and its smaller levels into a group; return the metadata."""
    datasets = []
    pixels = pixels.astype(np.uint8) if pixels.dtype == bool else pixels
    for level in range(_n_levels(pixels.shape)):
        if level:
            pixels = pixels[..., ::2, ::2] if is_label else _halved(pixels)
        array = group.create_array(
            str(level),
            shape=pixels.shape,
            dtype=pixels.dtype,
            dimension_names=list(axes),
            compressors=BloscCodec(cname="zstd", clevel=3),
            **_chunking(pixels.shape),
        )
        array[...] = pixels
        scale = [_scale(axis, level, content.pixel_size_um) for axis in axes]
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    described = [_axis(axis, content.pixel_size_um) for axis in axes]
    multiscale = {"name": group.name.strip("/") or "image", "axes": described, "datasets": datasets}
    return {"version": NGFF_VERSION, "multiscales": [multiscale]}


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
