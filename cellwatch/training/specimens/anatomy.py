"""What a label image says about its cells: how deep a pixel lies, and where the nucleus is."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, maximum_position

from cellwatch.core.arrays import Bool, Float32, Int32
from cellwatch.training.specimens.noise import smooth


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Fields that appearances are made of; all (size, size) float32 but where said.

    Attributes
    ----------
    labels : (size, size) int32
    diameter : float, px
        Of a typical cell.
    inside : bool
    depth : px
        Distance to the nearest border of the own cell; 0 outside.
    rise : 0 to 1
        Depth as a part of the greatest in the own cell.
    outer : px
        Distance to the nearest cell; 0 inside.
    nuclei : 0 to 1
        One soft, oval nucleus in each cell.
    trap : 0 to 1
        How thick posts and walls are, which are no cells.
    """

    labels: Int32
    diameter: float
    inside: Bool
    depth: Float32
    rise: Float32
    outer: Float32
    nuclei: Float32
    trap: Float32

    @property
    def size(self) -> int:
        """Return the side of the field, in px."""
        return int(self.labels.shape[0])

    def each(self, rng: np.random.Generator, spread: float) -> Float32:
        """Give each cell a number around 1; `spread` is the deviation of its logarithm."""
        values = np.exp(rng.normal(0, spread, int(self.labels.max()) + 1))
        return np.asarray(values[self.labels], np.float32)

    def border(self, width: float) -> Float32:
        """Return 1 at the borders of cells, inside, falling off over a width in px."""
        field = np.exp(-(((self.depth - 1) / width) ** 2)) * self.inside
        return np.asarray(field, np.float32)

    def height(self, flatness: float) -> Float32:
        """Return how thick each pixel's cell is there, 0 to 1: 0 a dome, 1 a plate."""
        dome = np.sqrt(np.clip(self.rise * (2 - self.rise), 0, 1))
        field = dome ** (1 - 0.85 * flatness) * self.inside
        return np.asarray(field, np.float32)


def anatomy_of(
    labels: Int32, diameter: float, rng: np.random.Generator, trap: Float32 | None = None
) -> Anatomy:
    """Measure a label image.

    Parameters
    ----------
    labels : (size, size) int32
        1 to n without gaps.
    diameter : float, px
    rng : numpy.random.Generator
        For the nuclei: where in its cell each lies, its size and its shape.
    trap : (size, size) float32, or None
        Posts and walls, if there are any.
    """
    inside = labels > 0
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        differs = np.diff(labels, axis=axis) != 0
        before, after = [slice(None)] * 2, [slice(None)] * 2
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        edge[tuple(before)] |= differs
        edge[tuple(after)] |= differs
    depth = (distance_transform_edt(~(edge & inside)) + 1).astype(np.float32) * inside
    n = int(labels.max())
    deepest = np.zeros(n + 1, np.float32)
    np.maximum.at(deepest, labels.ravel(), depth.ravel())
    rise = np.clip(depth / np.maximum(deepest, 1)[labels], 0, 1) * inside
    outer = distance_transform_edt(~inside).astype(np.float32) if not inside.all() else 0 * depth
    centres = np.array(maximum_position(depth, labels, range(1, n + 1)), float)
    nuclei = _nuclei(labels, centres, deepest, rng)
    trap = np.zeros(labels.shape, np.float32) if trap is None else trap
    return Anatomy(labels, diameter, inside, depth, rise.astype(np.float32), outer, nuclei, trap)


def _nuclei(labels: Int32, centres: object, deepest: Float32, rng: np.random.Generator) -> Float32:
    n = len(deepest) - 1
    radius = np.r_[1, deepest[1:] * rng.uniform(0.4, 0.75) * np.exp(rng.normal(0, 0.12, n))]
    at = np.vstack([[0, 0], np.asarray(centres).reshape(n, 2)])
    at[1:] += rng.normal(0, 0.25, (n, 2)) * (deepest[1:] - radius[1:])[:, None]
    turn, stretch = rng.uniform(0, math.pi, n + 1), rng.uniform(1, 1.6, n + 1)
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]]
    dy, dx = y - at[labels, 0], x - at[labels, 1]
    cos, sin = np.cos(turn)[labels], np.sin(turn)[labels]
    root = np.sqrt(stretch)[labels]
    distance = np.hypot((dx * cos + dy * sin) / root, (dy * cos - dx * sin) * root)
    wobble = 1 + 0.08 * smooth(rng, labels.shape[0], max(2.0, float(np.median(radius)) * 0.5))
    soft = np.clip((radius[labels] * wobble - distance) / 1.5 + 0.5, 0, 1) * (labels > 0)
    return gaussian_filter(soft.astype(np.float32), 0.5)
