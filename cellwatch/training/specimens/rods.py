"""Label images of bacteria: scattered, in loose micro-colonies, or side by side in dense ones.

Arguments and results are as in `cellwatch.training.specimens.shapes`.
"""

import math

import numpy as np
from scipy.spatial import cKDTree

from cellwatch.core.arrays import Bool, Float64, Int32
from cellwatch.training.specimens.noise import smooth
from cellwatch.training.specimens.shapes import Outline, place

Rng = np.random.Generator
LEAST_LENGTH = 0.35  # of a cell's typical length


def rods(rng: Rng, size: int, diameter: float) -> Int32:
    """Draw rods that touch and bend: in micro-colonies side by side, or scattered."""
    aspect = rng.uniform(2, 5)
    width = max(3.0, diameter * math.sqrt(math.pi / 4 / aspect))  # of equal area as the disc
    is_colony = rng.random() < 0.7
    labels = np.zeros((size, size), np.int32)
    placed: list[tuple[float, float, float, float]] = []  # y, x, angle, half length
    wanted = int((size / diameter) ** 2 * rng.uniform(0.2, 0.9)) + 3
    heads = max(1, wanted // int(rng.integers(8, 60)))
    for _ in range(wanted * 4):
        if len(placed) >= wanted:
            break
        half = width * aspect / 2 * rng.uniform(0.6, 1.2)
        if is_colony and len(placed) >= heads:
            y, x, angle = _beside(rng, placed[rng.integers(len(placed))], width, half)
        else:
            y, x, angle = *rng.uniform(0, size, 2), rng.uniform(0, math.pi)
        if not (0 <= y < size and 0 <= x < size):
            continue
        shape = half + width, _rod(rng, width / 2 * rng.uniform(0.9, 1.1), half, angle)
        if place(labels, shape, (y, x), len(placed) + 1, 0.12):
            placed.append((y, x, angle, half))
    return labels


def _beside(
    rng: Rng, rod: tuple[float, float, float, float], width: float, half: float
) -> tuple[float, float, float]:
    y, x, angle, other = rod
    across, along = width * rng.uniform(0.95, 1.25) * rng.choice([-1, 1]), rng.normal(0, 0.4) * half
    if rng.random() < 0.3:  # end to end
        across, along = (
            rng.normal(0, 0.3) * width,
            (half + other + width * 0.2) * rng.choice([-1, 1]),
        )
    y += along * math.sin(angle) + across * math.cos(angle)
    x += along * math.cos(angle) - across * math.sin(angle)
    return y, x, angle + rng.normal(0, 0.15)


def _rod(rng: Rng, radius: float, half: float, angle: float) -> Outline:
    bend = rng.normal(0, 0.12) / half
    straight = max(0.0, half - radius)

    def outline(dy: Float64, dx: Float64) -> Float64:
        along = dx * math.cos(angle) + dy * math.sin(angle)
        across = dy * math.cos(angle) - dx * math.sin(angle) - bend * along * along
        return np.hypot(np.maximum(np.abs(along) - straight, 0), across) - radius

    return outline


def colony(rng: Rng, size: int, diameter: float) -> Int32:
    """Draw rods side by side in rows that bend, as colonies grow: patches, each with its own way.

    Every pixel is given coordinates along and across its patch. Across, they are cut into rows as
    wide as a cell; along, each row into cells of chance length, and of each cell its capsule stays.
    """
    aspect = rng.uniform(2, 5.5)
    width = max(3.0, diameter * math.sqrt(math.pi / 4 / aspect))
    along, across, patch = _patches(rng, size, diameter, width)
    row = np.rint(across / width).astype(np.int64)
    cells, at, length = _cut(rng, row + 4096 * patch, along, width * aspect)
    side = across - row * width
    radius = width / 2 * rng.uniform(0.84, 1.0)
    straight = np.maximum(0, length / 2 - width / 2)
    capsule = np.hypot(np.maximum(np.abs(at) - straight, 0), side) < radius
    total = np.bincount(cells.ravel())
    covered = np.bincount(cells.ravel(), _islands(rng, size, diameter).ravel())
    kept = covered > 0.5 * np.maximum(total, 1)  # whole cells stay, or go
    kept &= rng.random(len(total)) < rng.choice([1.0, 1.0, 0.97, 0.9])
    return np.where(capsule & kept[cells], cells + 1, 0).astype(np.int32)


def _patches(rng: Rng, size: int, diameter: float, width: float) -> tuple[Float64, Float64, Int32]:
    # Coordinates along and across the rows of each pixel's patch, in px, and the patch's number.
    y, x = np.mgrid[:size, :size].astype(np.float64)
    reach = diameter * rng.uniform(1.5, 8)
    centres = rng.uniform(0, size, (math.ceil((size / reach) ** 2) + 1, 2))
    patch = np.asarray(cKDTree(centres).query(np.stack([y, x], -1).reshape(-1, 2))[1])
    patch = patch.reshape(size, size)
    way = rng.uniform(0, math.pi) + rng.normal(0, rng.choice([0.15, 0.4, 1.0]), len(centres))
    shift = rng.uniform(-9999, 9999, len(centres))
    bend = rng.uniform(0, 0.5) * width
    y += bend * smooth(rng, size, diameter * rng.uniform(1.5, 4)) * 2
    x += bend * smooth(rng, size, diameter * rng.uniform(1.5, 4)) * 2
    cos, sin = np.cos(way)[patch], np.sin(way)[patch]
    return x * cos + y * sin + shift[patch], y * cos - x * sin, patch.astype(np.int32)


def _cut(rng: Rng, row: Int32, along: Float64, length: float) -> tuple[Int32, Float64, Float64]:
    # Number the cells along every row; where a pixel lies from its cell's middle; how long it is.
    cells = np.zeros(row.shape, np.int32)
    at, lengths = np.zeros(row.shape), np.ones(row.shape)
    names, inverse = np.unique(row, return_inverse=True)
    order = np.argsort(inverse, axis=None, kind="stable")
    starts = np.searchsorted(inverse.ravel()[order], np.arange(len(names) + 1))
    spread, filaments, count = rng.uniform(0.1, 0.35), rng.choice([0.0, 0.0, 0.05, 0.2]), 0
    for number in range(len(names)):
        pixels = order[starts[number] : starts[number + 1]]
        there = along.ravel()[pixels]
        n = math.ceil(np.ptp(there) / length / LEAST_LENGTH) + 2
        sizes = length * np.exp(rng.normal(0, spread, n))
        sizes = np.maximum(
            np.where(rng.random(n) < filaments, 4 * sizes, sizes), length * LEAST_LENGTH
        )
        ends = there.min() - rng.uniform(0, 1) * sizes[0] + np.cumsum(sizes)
        cell = np.searchsorted(ends, there)
        cells.ravel()[pixels] = count + cell
        at.ravel()[pixels] = there - (ends[cell] - sizes[cell] / 2)
        lengths.ravel()[pixels] = sizes[cell]
        count += n
    return cells, at, lengths


def _islands(rng: Rng, size: int, diameter: float) -> Bool:
    # Where colonies are: everywhere, in islands, or around lakes.
    field = smooth(rng, size, diameter * rng.uniform(1, 5))
    return np.asarray(field > rng.choice([-9.0, rng.uniform(-1.2, 0.8)]), bool)
