"""Choose channels, normalise and resize: from an image as read to what a network sees.

References
----------
Stringer et al. 2021, Nat Methods 18:100, Methods "Model training": intensities are scaled so that
the 1st percentile becomes 0 and the 99th becomes 1.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from cellwatch.core.arrays import Float32, Float64
from cellwatch.core.parameters import Normalisation

# A channel whose percentiles are closer than this part of their size is constant: float32 cannot
# tell such values apart. (Cellpose's normalize99 has 1e-3 grey levels, which
# calls an image whose values lie between 0 and 0.001 constant.)
FLAT = 1e-6
# What instruments and programs write where there is no data, in images of signed numbers.
NO_DATA = (-9999.0, -32768.0, -99999.0, -999.0)
LEAST_NO_DATA = 16  # px; fewer may be pixels that failed
MOST_NO_DATA = 0.5  # of a plane, where the value is none of those
FAR = 3.0  # times as far below all others as those differ

BLOCK = 4  # px; side of the blocks whose means tell noise from objects
BLANK_SIGMAS = 6.5  # pure noise stays within 5.5 in a million blocks
LIGHT_DEGREE = 4  # of the polynomial that describes the light, along y and along x


def cleaned(plane: Float32) -> tuple[Float32, tuple[str, ...]]:
    """Return a plane whose pixels without data are NaN, and what was found.

    Infinite pixels are what overflowed: they become brighter (or darker) than all others by as much
    as those differ. A negative number far below all others, in many pixels, means no data.

    Parameters
    ----------
    plane : (C, Y, X) float32

    Returns
    -------
    plane : (C, Y, X) float32
        The same array where there was nothing to do.
    notes : tuple of str
    """
    notes: list[str] = []
    changed = plane
    for index, channel in enumerate(plane):
        told = f" of channel {index}" if len(plane) > 1 else ""
        mended = channel
        if np.isinf(channel).any():
            mended = _finite(channel)
            for limit, which in ((np.inf, "brightest"), (-np.inf, "darkest")):
                if n_px := int((channel == limit).sum()):
                    notes.append(f"{n_px} px{told} are infinite: taken as {which}")
        value = _no_data(channel)
        if value is not None:
            mended = np.where(mended == value, np.float32(np.nan), mended)
            n_px = int((channel == value).sum())
            notes.append(f"{n_px} px{told} hold {value:g}: taken for no data, and left out")
        if mended is not channel:
            changed = changed.copy() if changed is plane else changed
            changed[index] = mended
    return changed, tuple(notes)


def is_flat(low: float, high: float) -> bool:
    """Say whether two intensities are the same but for rounding.

    Examples
    --------
    >>> is_flat(0.0, 0.001), is_flat(1000.0, 1000.0001), is_flat(0.0, 0.0)
    (False, True, True)
    """
    return not high - low > FLAT * max(abs(low), abs(high))


def _finite(channel: Float32) -> Float32:
    finite = channel[np.isfinite(channel)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    apart = (high - low) or max(abs(high), 1.0)
    return np.nan_to_num(channel, copy=True, nan=np.nan, posinf=high + apart, neginf=low - apart)


def _no_data(channel: Float32) -> float | None:
    known = channel if np.isfinite(channel).all() else channel[np.isfinite(channel)]
    least = float(known.min(initial=0))
    if least >= 0:
        return None
    rest = known[known > least]
    n_px = known.size - rest.size
    if n_px < LEAST_NO_DATA or not rest.size:
        return None
    following, most = float(rest.min()), float(rest.max())
    is_named = following >= 0 and (least in NO_DATA or least < -1e30)
    # What fills most of a plane is its background, however dark it is.
    is_far = following - least > FAR * (most - following) and n_px <= MOST_NO_DATA * known.size
    return least if is_named or is_far else None


def percentiles(plane: Float32, normalisation: Normalisation) -> list[tuple[float, float]]:
    """Return the two intensities of each channel that become 0 and 1.

    Parameters
    ----------
    plane : (C, ...) float32
        One plane, or all planes of an acquisition stacked behind the channel axis.
    normalisation : Normalisation
        Which percentiles.

    Returns
    -------
    list of (float, float)
        One pair per channel; NaN pixels are left out.
    """
    asked = (normalisation.low, normalisation.high)
    limits = []
    for channel in plane:
        finite = channel if np.isfinite(channel).all() else channel[np.isfinite(channel)]
        pair = np.percentile(finite, asked) if finite.size else (0.0, 0.0)
        limits.append((float(pair[0]), float(pair[1])))
    return limits


def normalise(plane: Float32, limits: Sequence[tuple[float, float]]) -> Float32:
    """Scale each channel so that its two limits become 0 and 1.

    Parameters
    ----------
    plane : (C, Y, X) float32
    limits : sequence of (float, float)
        One pair per channel.

    Returns
    -------
    (C, Y, X) float32
        Not clipped. A channel whose limits are the same becomes 0 everywhere, and so do pixels that
        are not finite.
    """
    scaled = np.zeros(plane.shape, np.float32)
    for channel, (low, high), out in zip(plane, limits, scaled, strict=True):
        if not is_flat(low, high):
            np.subtract(channel, np.float32(low), out=out)
            out /= np.float32(high - low)
            if not np.isfinite(out).all():
                out[~np.isfinite(out)] = 0
    return scaled


def contrast(limits: Sequence[tuple[float, float]]) -> float:
    """Return the distance between the percentiles of the first channel, in grey levels."""
    return limits[0][1] - limits[0][0]


def is_blank(channel: Float32) -> bool:
    """Say whether a channel holds nothing but uncorrelated noise under smooth light.

    Camera noise, stretched to the full range, would look like texture to the network. The means of
    small blocks tell noise from objects: of *n* independent pixels they scatter by σ/√n about the
    light, a polynomial over the field, with σ from the differences of neighbouring pixels. One
    block further out means an object, or anything else that the network should judge.

    Parameters
    ----------
    channel : (Y, X) float32

    Notes
    -----
    Even one dim cell of 8 px across and two σ in height makes several blocks stand out by 8.
    A channel of fewer than 16 blocks a side is never called blank.
    """
    rows, columns = channel.shape[0] // BLOCK, channel.shape[1] // BLOCK
    if min(rows, columns) < 16:
        return False
    whole = np.asarray(channel[: rows * BLOCK, : columns * BLOCK], np.float64)
    blocks = whole.reshape(rows, BLOCK, columns, BLOCK)
    means = blocks.mean(axis=(1, 3))
    variances = np.square(np.diff(blocks, axis=3)).mean(axis=(1, 3)) / 2
    typical = float(np.median(variances))
    if not np.isfinite(means).all() or typical <= 0:
        return False
    # Edges of objects are no noise: what they add to a block's variance is held down.
    noise = _smooth(np.clip(variances, typical / 4, typical * 4)).clip(typical / 4)
    furthest = np.max(np.abs(means - _smooth(means)) / np.sqrt(noise))
    return bool(furthest * BLOCK < BLANK_SIGMAS)


def _smooth(grid: Float64) -> Float64:
    y, x = (np.linspace(-1, 1, n) for n in grid.shape)
    along_y, along_x = (np.polynomial.chebyshev.chebvander(a, LIGHT_DEGREE) for a in (y, x))
    # The least squares of a product grid are those along one axis, then along the other.
    coefficients = np.linalg.pinv(along_y) @ grid @ np.linalg.pinv(along_x).T
    return np.asarray(along_y @ coefficients @ along_x.T)


def with_channels(plane: Float32, n_channels: int) -> Float32:
    """Append channels of zeros until there are `n_channels`, as networks with two inputs expect."""
    missing = n_channels - plane.shape[0]
    if missing <= 0:
        return plane
    return np.concatenate([plane, np.zeros((missing, *plane.shape[1:]), plane.dtype)])


def resize(maps: Float32, shape: tuple[int, int]) -> Float32:
    """Resize maps bilinearly, without anti-aliasing, as Cellpose does.

    Parameters
    ----------
    maps : (C, Y, X) float32
    shape : (int, int), px

    Returns
    -------
    (C, *shape) float32
        Pixel centres lie at half-integer positions, as in OpenCV's INTER_LINEAR.
    """
    if maps.shape[1:] == shape:
        return maps
    batch = torch.from_numpy(np.ascontiguousarray(maps))[None]
    return functional.interpolate(batch, size=shape, mode="bilinear")[0].numpy()  # type: ignore[no-any-return]


def scaled_shape(shape: tuple[int, ...], zoom: float) -> tuple[int, int]:
    """Return the size of an image of `shape` after scaling by `zoom`, truncated, at least 1 px."""
    return max(1, int(shape[-2] * zoom)), max(1, int(shape[-1] * zoom))
