"""One small picture of an acquisition and its masks: contrast stretched, ROIs outlined, a caption.

It shows what the network was given, not what a figure needs: a plane for an image, a few planes
side by side for a stack, a time-lapse or several positions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cellwatch.files.publish import written_aside
from cellwatch.files.stems import stem_of
from cellwatch.images import Planes, n_planes

SIDE = 512  # px of the longer side
MOST_PLANES = 4  # of an acquisition that are shown
SLACK = 0.75  # a picture may be a quarter larger, so that fewer are halved
BAND = 32  # rows of a picture that are made small at a time
LARGEST = 6000  # px of the longer side of an overlay
CAPTION = 18  # px, below the picture
PERCENTILES = (1.0, 99.7)  # of the intensities that become black and white
SAMPLE = 1 << 18  # pixels that these are taken from
OUTLINES = ((255, 214, 10), (0, 220, 255), (255, 90, 160))  # of the first, second, third target
TINTS = ((1.0, 1.0, 1.0), (0.25, 0.45, 1.0))  # of the channel with the ROIs, and of the nuclei
QUALITY = 80

Rgb = NDArray[np.uint8]  # (Y, X, 3)
Plane = NDArray[np.generic]  # (C, Y, X)


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of a target.

    Attributes
    ----------
    labels : (P, T, Z, Y, X) int32
    channels : tuple of int
        Indices of the channels that its network was given; negative: the grey of a colour picture.
    caption : str
        As `31 cells · general · 0.86`.
    """

    labels: NDArray[np.int32]
    channels: tuple[int, ...]
    caption: str


def preview_beside(store: Path) -> Path:
    """Return where the preview of a mask store lies."""
    return store.with_name(f"{stem_of(store.name.removesuffix('.zarr'))}_preview.webp")


def write_preview(path: Path, image: Planes, targets: Sequence[Shown], superseded: Path) -> None:
    """Write the preview of an acquisition, whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in `.webp`.
    image : Planes
    targets : sequence of Shown
    superseded : Path
        The folder for a preview that stood there before.

    Raises
    ------
    OutputError
        When the place cannot be written.
    """
    picture = Image.fromarray(render(image, targets))
    with written_aside(path, superseded) as aside:
        picture.save(aside, format="WEBP", quality=QUALITY, method=1)


def render(image: Planes, targets: Sequence[Shown]) -> Rgb:
    """Return the preview of an acquisition, (Y, X, 3) uint8."""
    shown = planes_shown(image.shape)
    columns = math.ceil(math.sqrt(len(shown)))
    rows = math.ceil(len(shown) / columns)
    side = SIDE // columns
    tiles = [_tile(image, targets, at, side) for at in shown]
    height, width = tiles[0].shape[:2]
    gap = 2 if len(tiles) > 1 else 0
    canvas = np.zeros((rows * (height + gap), columns * (width + gap), 3), np.uint8)
    for n, tile in enumerate(tiles):
        y, x = n // columns * (height + gap), n % columns * (width + gap)
        canvas[y : y + height, x : x + width] = tile
    parts = [target.caption for target in targets]
    if len(shown) < n_planes(image):
        parts.append(f"{len(shown)} of {n_planes(image)} planes")
    return _captioned(canvas, "   ".join(parts))


def overlaid(image: Planes, targets: Sequence[Shown], at: tuple[int, int, int]) -> Rgb:
    """Return one plane with outlines, (Y, X, 3) uint8: as large as it is, up to 6,000 px."""
    return _tile(image, targets, at, min(LARGEST, max(image.shape[-2:])))


def planes_shown(shape: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return which planes of (P, T, Z, C, Y, X) are shown: the middle slices, evenly over the rest.

    Examples
    --------
    >>> planes_shown((1, 1, 5, 1, 64, 64)), len(planes_shown((1, 100, 3, 1, 64, 64)))
    ([(0, 0, 2)], 4)
    """
    n_positions, n_t, n_z = shape[:3]
    others = [(p, t) for p in range(n_positions) for t in range(n_t)]
    most = min(MOST_PLANES, len(others))
    chosen = [others[int((n + 0.5) * len(others) / most)] for n in range(most)]
    return [(p, t, n_z // 2) for p, t in chosen]


def _tile(image: Planes, targets: Sequence[Shown], at: tuple[int, int, int], side: int) -> Rgb:
    plane = np.asarray(image.plane(*at))
    step = max(1, int(max(plane.shape[1:]) / side + SLACK))
    rgb = _coloured(plane, step, targets, is_rgb=image.is_rgb)
    scale = max(1, side // max(rgb.shape[:2])) if max(plane.shape[1:]) < side // 2 else 1
    if scale > 1:
        rgb = rgb.repeat(scale, 0).repeat(scale, 1)
    for target, colour in zip(targets, OUTLINES, strict=False):
        labels = target.labels[at][::step, ::step]
        if scale > 1:
            labels = labels.repeat(scale, 0).repeat(scale, 1)
        rgb[outlines(labels)] = colour
    return rgb


def outlines(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return the pixels of ROIs, (Y, X) bool, whose right or lower neighbour is of another.

    Examples
    --------
    >>> outlines(np.array([[1, 1, 2, 0]], np.int32))
    array([[False,  True,  True, False]])
    """
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, 1:] |= (labels[:, 1:] != labels[:, :-1]) & (labels[:, :-1] == 0)
    edge[1:] |= (labels[1:] != labels[:-1]) & (labels[:-1] == 0)
    inside: NDArray[np.bool_] = edge & (labels > 0)
    return inside


def _coloured(plane: Plane, step: int, targets: Sequence[Shown], *, is_rgb: bool) -> Rgb:
    if is_rgb and plane.shape[0] >= 3:
        colours = np.stack([_shrunk(channel, step) for channel in plane[:3]], axis=-1)
        most = max(255.0, float(colours.max(initial=0)))
        return np.ascontiguousarray((colours * (255.0 / most)).clip(0, 255).astype(np.uint8))
    given = [c for target in targets for c in target.channels if 0 <= c < plane.shape[0]]
    chosen = list(dict.fromkeys(given))[: len(TINTS)] or [0]
    light = np.zeros(0, np.float32)
    for channel, tint in zip(chosen, TINTS, strict=False):
        shown = _stretched(_shrunk(plane[channel], step))[..., None]
        light = shown * np.asarray(tint, np.float32) + (light if light.size else 0)
    rgb: Rgb = (light.clip(0, 1) * 255).astype(np.uint8)
    return rgb


def _shrunk(channel: NDArray[np.generic], step: int) -> NDArray[np.float32]:
    # The mean of squares of pixels, a band of rows at a time; what does not fill a square at the
    # edge is left out, and the last row and column stand for it.
    height, width = channel.shape
    if step == 1 or min(height, width) < step:
        return channel[::step, ::step].astype(np.float32)
    rows, columns = height // step, width // step
    small = np.empty((rows, columns), np.float32)
    for row in range(0, rows, BAND):
        last = min(rows, row + BAND)
        cut = channel[row * step : last * step, : columns * step].astype(np.float32)
        small[row:last] = cut.reshape(last - row, step, columns, step).mean(axis=(1, 3))
    pad = (-(-height // step) - rows, -(-width // step) - columns)
    return np.pad(small, ((0, pad[0]), (0, pad[1])), mode="edge")


def _stretched(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = pixels.ravel()
    sample = flat[:: max(1, flat.size // SAMPLE)]
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return np.zeros(pixels.shape, np.float32)
    low, high = (float(v) for v in np.percentile(sample, PERCENTILES))
    if high <= low:
        return np.zeros(pixels.shape, np.float32)
    scaled = (np.nan_to_num(pixels, nan=low, posinf=high, neginf=low) - low) / (high - low)
    bounded: NDArray[np.float32] = scaled.clip(0, 1).astype(np.float32)
    return bounded


def _captioned(canvas: Rgb, text: str) -> Rgb:
    height, width = canvas.shape[:2]
    whole = np.zeros((height + CAPTION, max(width, 160), 3), np.uint8)
    whole[:height, :width] = canvas
    picture = Image.fromarray(whole)
    font = ImageFont.load_default(11)
    ImageDraw.Draw(picture).text((3, height + 2), text, fill=(235, 235, 235), font=font)
    return np.asarray(picture)


def caption(name: str, rois: int, model: str, confidence: float | None) -> str:
    """Return what stands below a preview of one target.

    Examples
    --------
    >>> caption("cells", 31, "general", 0.861)
    '31 cells · general · 0.86'
    """
    parts = [f"{rois} {name}", model]
    if confidence is not None:
        parts.append(f"{confidence:.2f}")
    return " · ".join(parts)
