"""What microfluidic chips put among the cells: posts, traps and walls, which are no cells."""

import math

import numpy as np

from cellwatch.core.arrays import Float32, Float64

Rng = np.random.Generator


def trap(rng: Rng, size: int, diameter: float) -> Float32:
    """Draw posts in a lattice, or the walls of a channel, as thickness.

    Parameters
    ----------
    rng : numpy.random.Generator
    size : int, px
        Side of the field.
    diameter : float, px
        Of a typical cell; posts are as large or larger.

    Returns
    -------
    (size, size) float32
        0 where there is nothing, 1 in the middle of a post or wall.
    """
    draw = _walls if rng.random() < 0.3 else _posts
    depth = draw(rng, size, diameter) / rng.uniform(1, 0.15 * diameter + 1.5)
    return np.asarray(np.clip(depth, 0, 1), np.float32)


def _turned(rng: Rng, size: int) -> tuple[Float64, Float64]:
    y, x = np.mgrid[:size, :size].astype(np.float64)
    angle = rng.choice([0.0, rng.uniform(0, math.pi)])
    cos, sin = math.cos(angle), math.sin(angle)
    return y * cos - x * sin, x * cos + y * sin


def _posts(rng: Rng, size: int, diameter: float) -> Float64:
    # Depth in px within posts of one form: round, oval or square with round corners.
    half = diameter * rng.uniform(0.35, 1.2, 2) * rng.choice([1, 1, 0.6])
    if rng.random() < 0.6:
        half[1] = half[0]
    spacing = 2 * half + diameter * rng.uniform(0.8, 5, 2)
    v, u = _turned(rng, size)
    column, row = np.floor(u / spacing[1]), np.floor(v / spacing[0])
    if rng.random() < 0.5:
        v = v + 0.5 * spacing[0] * (column % 2)  # every other column is shifted
        row = np.floor(v / spacing[0])
    corner = half.min() * rng.uniform(0.2, 1)
    inner_v = np.abs(v - (row + 0.5) * spacing[0]) - half[0] + corner
    inner_u = np.abs(u - (column + 0.5) * spacing[1]) - half[1] + corner
    outside = np.hypot(np.maximum(inner_v, 0), np.maximum(inner_u, 0))
    depth = corner - outside - np.minimum(np.maximum(inner_v, inner_u), 0)
    names = np.unique(row * 100_003 + column, return_inverse=True)[1].reshape(v.shape)
    is_there = rng.random(names.max() + 1) < rng.uniform(0.4, 1)
    return np.where(is_there[names], depth, 0.0)


def _walls(rng: Rng, size: int, diameter: float) -> Float64:
    v, _ = _turned(rng, size)
    width = diameter * rng.uniform(0.15, 1)
    spacing = width + diameter * rng.uniform(1.2, 12)
    return width / 2 - np.abs((v + rng.uniform(0, spacing)) % spacing - spacing / 2)
