"""Random rotation, scale, flip and crop of training images that turn the flows along.

References
----------
Stringer et al. 2021, Nat Methods 18:100, Methods "Model training"; the ranges and the order of
operations are those of Cellpose (random_rotate_and_resize).
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.ndimage import gaussian_filter

from cellwatch.core.arrays import Bool, Float32, Float64, Int32

SCALE_RANGE = 0.5  # sizes vary within 1 ± half of this (Cellpose, training with rescale)


@dataclass(frozen=True, slots=True)
class Warp:
    """One drawn transformation, from an image to a square crop.

    Attributes
    ----------
    is_flipped : bool
        Whether x is mirrored first.
    angle : float, radians
        Rotation about the crop's centre.
    scale : float
        Output pixels per input pixel.
    shift : (float, float), output px
        Where the image's centre lies relative to the crop's, as x and y.
    """

    is_flipped: bool
    angle: float
    scale: float
    shift: tuple[float, float]


def draw_warp(
    shape: tuple[int, int],
    crop: int,
    zoom: float,
    rng: np.random.Generator,
    scale_range: float = SCALE_RANGE,
) -> Warp:
    """Draw a random transformation for one image.

    Parameters
    ----------
    shape : (int, int), px
        Y and X of the image.
    crop : int, px
        Side of the crop.
    zoom : float
        The factor that brings the image's ROIs to the network's diameter.
    rng : numpy.random.Generator
    scale_range : float
        Width of the interval around 1 from which the additional scale is drawn.
    """
    is_flipped = bool(rng.random() > 0.5)
    angle = 2 * math.pi * rng.random()
    scale = (1 - scale_range / 2 + scale_range * rng.random()) * zoom
    room_x = max(0.0, shape[1] * scale - crop)
    room_y = max(0.0, shape[0] * scale - crop)
    shift = (room_x * (rng.random() - 0.5), room_y * (rng.random() - 0.5))
    return Warp(is_flipped, angle, scale, shift)


def vary_intensities(tile: Float32, rng: np.random.Generator) -> None:
    """Vary gain, offset, gamma, blur and noise of a normalised crop in place, each channel apart.

    Parameters
    ----------
    tile : (C, S, S) float32
        About 0 to 1. Pixels of exactly 0, those beyond the image, stay 0.
    rng : numpy.random.Generator
    """
    for channel in tile:
        seen = channel != 0
        if not seen.any():
            continue
        values = channel
        if rng.random() < 0.25:
            values = gaussian_filter(values, rng.uniform(0.3, 1.2))
        values = np.sign(values) * np.abs(values) ** math.exp(rng.normal(0, 0.25))
        values = values * math.exp(rng.normal(0, 0.2)) + rng.normal(0, 0.08)
        if rng.random() < 0.5:
            noise = rng.standard_normal(channel.shape, np.float32)
            values = values + np.float32(rng.uniform(0, 0.12)) * noise
        np.copyto(channel, np.where(seen, values, 0), casting="same_kind")


def warp_plane(plane: Float32, warp: Warp, out: Float32) -> None:
    """Write the crop of an image that a warp describes into `out`.

    Parameters
    ----------
    plane : (C, Y, X) float32
    warp : Warp
    out : (C, S, S) float32
        Filled; what lies outside the image becomes 0. Bilinear, without anti-aliasing.
    """
    _warp_bilinear(plane, _inverse(plane.shape[1:], warp, out.shape[-1]), out)


def warp_targets(labels: Int32, flows: Float32, warp: Warp, out: Float32) -> None:
    """Write the crop of a label image and its flows, the flows turned with the image, into `out`.

    Parameters
    ----------
    labels : (Y, X) int32
    flows : (2, Y, X) float32
        Unit vectors in y and x, as `flows_of` returns them.
    warp : Warp
    out : (3, S, S) float32
        Filled with flow in y, flow in x and 1 inside ROIs (nearest neighbour). Vectors are turned
        and mirrored but not scaled: interpolation shortens them at borders, as in Cellpose.
    """
    inverse = _inverse(labels.shape, warp, out.shape[-1])
    _warp_bilinear(flows, inverse, out[:2])
    _warp_nearest(labels, inverse, out[2])
    mirrored = -1.0 if warp.is_flipped else 1.0
    sine, cosine = math.sin(warp.angle), math.cos(warp.angle)
    flow_y, flow_x = out[0].copy(), out[1] * mirrored
    out[0] = flow_x * sine + flow_y * cosine
    out[1] = flow_x * cosine - flow_y * sine


def warp_checked(checked: Bool | None, shape: tuple[int, ...], warp: Warp, out: Float32) -> None:
    """Write which pixels of a crop a person vouches for into `out`.

    Parameters
    ----------
    checked : (Y, X) bool, or None
        None: all of the image; what lies beyond its border is background then, as in
        Cellpose.
    shape : (int, int), px
        Of the image.
    warp : Warp
    out : (S, S) float32
        Filled with 1 where the targets count, else 0 (nearest neighbour).
    """
    if checked is None:
        out[:] = 1
    else:
        _warp_nearest(checked.astype(np.int32), _inverse(shape, warp, out.shape[-1]), out)


def _inverse(shape: tuple[int, ...], warp: Warp, crop: int) -> Float64:
    # Rows give the input's y and x of an output pixel: a0 + a1 * y + a2 * x.
    height, width = shape[-2], shape[-1]
    cosine, sine = math.cos(warp.angle) / warp.scale, math.sin(warp.angle) / warp.scale
    # Cellpose places the image's centre at crop / 2 + shift.
    to_x, to_y = crop / 2 + warp.shift[0], crop / 2 + warp.shift[1]
    row_x = np.array([width / 2 - cosine * to_x - sine * to_y, sine, cosine])
    row_y = np.array([height / 2 + sine * to_x - cosine * to_y, cosine, -sine])
    if warp.is_flipped:
        row_x = np.array([width - 1.0, 0.0, 0.0]) - row_x
    return np.stack([row_y, row_x])


@njit(cache=True, nogil=True)
def _warp_bilinear(image: Float32, inverse: Float64, out: Float32) -> None:
    # One thread: batches are made beside the network, which wants the other cores.
    height, width = image.shape[1], image.shape[2]
    for row in range(out.shape[1]):
        for column in range(out.shape[2]):
            y = inverse[0, 0] + inverse[0, 1] * row + inverse[0, 2] * column
            x = inverse[1, 0] + inverse[1, 1] * row + inverse[1, 2] * column
            y0, x0 = int(np.floor(y)), int(np.floor(x))
            fy, fx = y - y0, x - x0
            for c in range(image.shape[0]):
                value = 0.0
                for dy in range(2):
                    if 0 <= y0 + dy < height:
                        weight_y = fy if dy else 1 - fy
                        for dx in range(2):
                            if 0 <= x0 + dx < width:
                                weight = weight_y * (fx if dx else 1 - fx)
                                value += weight * image[c, y0 + dy, x0 + dx]
                out[c, row, column] = value


@njit(cache=True, nogil=True)
def _warp_nearest(labels: Int32, inverse: Float64, out: Float32) -> None:
    height, width = labels.shape
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            y = int(np.floor(inverse[0, 0] + inverse[0, 1] * row + inverse[0, 2] * column + 0.5))
            x = int(np.floor(inverse[1, 0] + inverse[1, 1] * row + inverse[1, 2] * column + 0.5))
            inside = 0 <= y < height and 0 <= x < width
            out[row, column] = 1.0 if inside and labels[y, x] > 0 else 0.0
