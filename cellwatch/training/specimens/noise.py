"""Random fields: smooth ones, textures of several scales, fibres, spots."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from cellwatch.core.arrays import Bool, Float32

COARSE = 3.0  # px; from this scale on a field is drawn on a coarser grid and enlarged


def smooth(rng: np.random.Generator, size: int, scale: float) -> Float32:
    """Draw a field of mean 0 and deviation 1 that varies over `scale` px.

    Returns
    -------
    (size, size) float32
    """
    if scale <= 0.3:
        return rng.standard_normal((size, size), np.float32)
    step = max(1.0, scale / COARSE)
    coarse = math.ceil(size / step) + 4
    field = gaussian_filter(rng.standard_normal((coarse, coarse), np.float32), scale / step)
    if step > 1:
        field = zoom(field, step, order=1)
        field = gaussian_filter(field, step / 2)
    start = int(rng.integers(0, max(1, field.shape[0] - size)))
    part = field[start : start + size, start : start + size]
    return np.asarray((part - part.mean()) / (part.std() + 1e-9), np.float32)


def texture(rng: np.random.Generator, size: int, least: float, most: float) -> Float32:
    """Draw a field of mean 0 and deviation 1 with structure at three scales, px, between two."""
    scales = np.exp(rng.uniform(math.log(least), math.log(max(most, least * 1.1)), 3))
    field = sum(smooth(rng, size, float(s)) * np.float32(rng.uniform(0.2, 1)) for s in scales)
    return np.asarray(field / (np.std(field) + 1e-9), np.float32)


def fibres(rng: np.random.Generator, size: int, width: float, length: float) -> Float32:
    """Draw a field of mean 0 and deviation 1 in wavy streaks of a width and a length, px."""
    angle = rng.uniform(0, math.pi)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    bent = angle + 0.7 * smooth(rng, size, 2 * length + 8)
    along = (x * np.cos(bent) + y * np.sin(bent)) / length
    across = (y * np.cos(bent) - x * np.sin(bent)) / width
    phase = smooth(rng, size, length) * 2
    field = np.sin(across + phase + along) + 0.7 * smooth(rng, size, width)
    return np.asarray((field - field.mean()) / (field.std() + 1e-9), np.float32)


def spots(
    rng: np.random.Generator,
    size: int,
    n: int,
    radius: tuple[float, float],
    mask: Bool | None = None,
) -> Float32:
    """Draw blurred points of random strength, 0 to 1, where a mask allows.

    Parameters
    ----------
    n : int
    radius : (float, float), px
        The least and the greatest.
    mask : (size, size) bool, or None
    """
    field = np.zeros((size, size), np.float32)
    if n <= 0:
        return field
    for part in range(3):  # three sizes of spots, each blurred at once
        points = np.zeros((size, size), np.float32)
        where = rng.integers(0, size, (2, math.ceil(n / 3)))
        points[where[0], where[1]] = rng.uniform(0.3, 1, where.shape[1])
        if mask is not None:
            points *= mask
        r = radius[0] + (radius[1] - radius[0]) * (part + rng.random()) / 3
        field += gaussian_filter(points, r) * np.float32(2 * math.pi * r * r)
    return np.minimum(field, 1.5)


def rings(rng: np.random.Generator, size: int, n: int, radius: tuple[float, float]) -> Float32:
    """Draw faint circles with bright or dark rims, as what lies out of focus looks, -1 to 1.5.

    Parameters
    ----------
    n : int
    radius : (float, float), px
        The least and the greatest.
    """
    field = np.zeros((size, size), np.float32)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    for _ in range(n):
        distance = np.hypot(y - rng.uniform(0, size), x - rng.uniform(0, size))
        r, width = rng.uniform(*radius), rng.uniform(0.8, 2.2)
        rim = np.exp(-(((distance - r) / width) ** 2))
        around = np.exp(-(((distance - r - 2 * width) / width) ** 2))
        heart = np.exp(-((distance / (0.5 * r + 0.5)) ** 2)) * rng.uniform(-0.6, 1)
        field += rng.uniform(0.2, 1) * (rim - rng.uniform(0, 0.7) * around + heart)
    return np.clip(field, -1, 1.5)
