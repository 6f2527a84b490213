"""Label images of cells that are not there: tissue, blobs, budding pairs, spindles.

Every function takes a generator of random numbers, the side of the field and the diameter of a
typical ROI, both in px, and returns a (size, size) int32 label image; `tidied` cleans it.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.ndimage import find_objects, label
from scipy.spatial import cKDTree

from cellwatch.core.arrays import Float64, Int32
from cellwatch.training.specimens.noise import smooth

Rng = np.random.Generator
Outline = Callable[[Float64, Float64], Float64]  # dy, dx -> below 0 inside
Shape = tuple[float, Outline]  # how far it reaches, px, and its outline
LEAST_AREA = 15  # px


def tissue(rng: Rng, size: int, diameter: float) -> Int32:
    """Draw cells that fill the field like tiles, with bent borders, gaps, holes and islands."""
    points = _relaxed(rng, size, diameter)
    y: Float64
    x: Float64
    y, x = np.mgrid[:size, :size].astype(np.float64)
    bend = rng.uniform(0, 0.22) * diameter
    for scale in (diameter * 0.2, diameter * 0.5):
        y += bend * smooth(rng, size, scale) * 0.6
        x += bend * smooth(rng, size, scale) * 0.6
    stretch = rng.choice([1.0, 1.0, 1.0, rng.uniform(1, 2.2)])  # tissue that is pulled one way
    there = np.stack([y * stretch, x], -1).reshape(-1, 2)
    found = cKDTree(points * [stretch, 1]).query(there, k=2)
    near, nearest = np.asarray(found[0]), np.asarray(found[1])
    labels = (nearest[:, 0] + 1).reshape(size, size).astype(np.int32)
    to_border = (near[:, 1] - near[:, 0]).reshape(size, size)
    gap = rng.choice([0.0, 0.0, 1.0, 2.0, rng.uniform(1, 0.2 * diameter + 1)])
    labels[to_border < gap] = 0
    if rng.random() < 0.5:  # cells that have shrunk away from their neighbours
        reach = rng.uniform(0.5, 0.85) * diameter * (1 + 0.15 * smooth(rng, size, diameter * 0.3))
        labels[near[:, 0].reshape(size, size) > reach] = 0
    kept = rng.random(len(points) + 1) < rng.choice([1.0, 1.0, 0.95, 0.8, 0.6])
    kept[0] = False
    labels[~kept[labels]] = 0
    if rng.random() < 0.35:  # islands
        labels[smooth(rng, size, diameter * rng.uniform(1.2, 3)) < rng.uniform(-0.8, 0.5)] = 0
    return labels


def _relaxed(rng: Rng, size: int, diameter: float) -> Float64:
    side = size + 4 * diameter
    n = int((side / diameter) ** 2 * rng.uniform(0.95, 1.3)) + 4
    points = rng.uniform(-2 * diameter, size + 2 * diameter, (n, 2))
    for _ in range(rng.integers(0, 4)):  # towards cells of one size (Lloyd)
        probes = rng.uniform(-2 * diameter, size + 2 * diameter, (40 * n, 2))
        nearest = np.asarray(cKDTree(points).query(probes)[1])
        count = np.bincount(nearest, minlength=n)[:, None]
        sums = np.stack([np.bincount(nearest, probes[:, i], n) for i in (0, 1)], 1)
        points = np.where(count > 0, sums / np.maximum(count, 1), points)
    return points


def blobs(rng: Rng, size: int, diameter: float) -> Int32:
    """Draw separate round, oval, irregular or lobed cells, scattered or in clumps."""
    oval, rough = rng.choice([1.0, 1.3, 1.8, 2.6]), rng.choice([0.02, 0.05, 0.1, 0.2])
    spread = rng.choice([0.1, 0.2, 0.35])  # of their sizes
    return _scattered(
        rng, size, diameter, lambda: _lobed(rng, diameter, oval, rough, spread), rng.uniform(0.1, 1)
    )


def ovals(rng: Rng, size: int, diameter: float) -> Int32:
    """Draw smooth round to long ROIs, as nuclei are, a few in the field or crowded."""
    oval, rough = rng.choice([1.15, 1.5, 2.2]), rng.choice([0.01, 0.03, 0.06])
    density = math.exp(rng.uniform(math.log(0.04), math.log(1.3)))
    spread = rng.choice([0.08, 0.15, 0.3])
    return _scattered(
        rng, size, diameter, lambda: _lobed(rng, diameter, oval, rough, spread), density
    )


def mixed_sizes(rng: Rng, size: int, diameter: float) -> Int32:
    """Draw cells of very different size in one field."""
    rough = rng.choice([0.03, 0.08])
    return _scattered(
        rng, size, diameter, lambda: _lobed(rng, diameter, 1.5, rough, 0.45), rng.uniform(0.3, 1.2)
    )


def _lobed(rng: Rng, diameter: float, oval: float, rough: float, spread: float) -> Shape:
    radius = max(2.0, diameter / 2 * rng.lognormal(0, spread))
    stretch, turn = rng.uniform(1, oval), rng.uniform(0, math.pi)
    orders = np.array([2, 3, 4, 5, 7])
    sizes = rng.normal(0, rough, 5) / np.sqrt(orders - 1)
    starts = rng.uniform(0, 2 * math.pi, 5)

    def outline(dy: Float64, dx: Float64) -> Float64:
        along = (dx * math.cos(turn) + dy * math.sin(turn)) / math.sqrt(stretch)
        across = (dy * math.cos(turn) - dx * math.sin(turn)) * math.sqrt(stretch)
        angle = np.arctan2(across, along)
        lobes = sum(
            s * np.cos(k * angle + p) for k, s, p in zip(orders, sizes, starts, strict=True)
        )
        border: Float64 = radius * np.maximum(0.4, 1 + lobes)
        return np.hypot(along, across) - border

    return radius * math.sqrt(stretch) * 1.5, outline


def spindles(rng: Rng, size: int, diameter: float) -> Int32:
    """Draw adherent cells: a body with up to three tapering, bent processes."""
    n_arms = rng.integers(1, 4)
    length = rng.uniform(0.6, 1.6)

    def shape() -> Shape:
        radius = diameter / 2 * rng.lognormal(0, 0.25) * 0.75
        start, balls = rng.uniform(0, 2 * math.pi), [(0.0, 0.0, radius)]
        if rng.random() < 0.6:  # the body itself is long
            balls += [
                (0.5 * radius * math.sin(start), 0.5 * radius * math.cos(start), radius * 0.9)
            ]
        for arm in range(n_arms):
            angle = start + arm * (math.pi if n_arms == 2 else 2 * math.pi / n_arms)
            angle += rng.normal(0, 0.3)
            balls += _arm(rng, radius, angle, diameter * length * rng.uniform(0.5, 1))
        cy, cx, r = np.array(balls).T

        def outline(dy: Float64, dx: Float64) -> Float64:
            distance = np.full(dy.shape, np.inf)
            for y, x, width in zip(cy, cx, r, strict=True):
                np.minimum(distance, np.hypot(dy - y, dx - x) - width, out=distance)
            return distance

        return float(np.hypot(cy, cx).max() + radius), outline

    return _scattered(rng, size, diameter, shape, rng.uniform(0.3, 1.1))


def _arm(rng: Rng, radius: float, angle: float, length: float) -> list[tuple[float, float, float]]:
    bend, y, x, balls = rng.normal(0, 0.08), 0.0, 0.0, []
    n = 12
    for step in range(n):
        y, x = y + length / n * math.sin(angle), x + length / n * math.cos(angle)
        angle += bend
        balls.append((y, x, max(0.9, radius * 0.85 * (1 - (step + 1) / n) ** 1.1)))
    return balls


def buds(rng: Rng, size: int, diameter: float) -> Int32:
    """Draw round cells with buds that touch them, as yeast grows: each bud is a ROI of its own."""
    labels = np.zeros((size, size), np.int32)
    wanted = int((size / diameter) ** 2 * rng.uniform(0.1, 0.9)) + 2
    centres = rng.uniform(0, size, (max(1, wanted // int(rng.integers(2, 25))), 2))
    count = 0
    for _ in range(wanted * 3):
        if count >= wanted:
            break
        spread = diameter * rng.uniform(0.3, 2.2)
        at = centres[rng.integers(len(centres))] + rng.normal(0, spread, 2)
        mother = diameter / 2 * rng.lognormal(0, 0.12)
        if not place(labels, _ellipse(rng, mother), at, count + 1, 0.06):
            continue
        count += 1
        if rng.random() < 0.4:
            bud, angle = mother * rng.uniform(0.35, 0.85), rng.uniform(0, 2 * math.pi)
            away = (mother + bud) * 0.97
            at = at + away * np.array([math.sin(angle), math.cos(angle)])
            count += place(labels, _ellipse(rng, bud), at, count + 1, 0.15)
    return labels


def _ellipse(rng: Rng, radius: float) -> Shape:
    stretch, turn = rng.uniform(1, 1.25), rng.uniform(0, math.pi)

    def outline(dy: Float64, dx: Float64) -> Float64:
        along = (dx * math.cos(turn) + dy * math.sin(turn)) / math.sqrt(stretch)
        across = (dy * math.cos(turn) - dx * math.sin(turn)) * math.sqrt(stretch)
        return np.hypot(along, across) - radius

    return radius * 1.3, outline


def _scattered(
    rng: Rng, size: int, diameter: float, shape: Callable[[], Shape], density: float
) -> Int32:
    labels = np.zeros((size, size), np.int32)
    wanted = int((size / diameter) ** 2 * density) + 3
    overlap = rng.choice([0.02, 0.1, 0.25])
    are_clumped = rng.random() < 0.5
    centres = rng.uniform(0, size, (max(1, wanted // int(rng.integers(3, 15))), 2))
    count = 0
    for _ in range(wanted * 2):
        if count >= wanted:
            break
        at = rng.uniform(0, size, 2)
        if are_clumped:
            at = centres[rng.integers(len(centres))] + rng.normal(0, diameter * 1.1, 2)
        count += place(labels, shape(), at, count + 1, overlap)
    return labels


def place(labels: Int32, shape: Shape, at: object, number: int, overlap: float) -> bool:
    """Draw a shape, unless more than a part of it is taken already; say whether it was drawn."""
    (cy, cx), (reach, outline) = np.asarray(at, float), shape
    size = labels.shape[0]
    y0, x0 = max(0, int(cy - reach) - 1), max(0, int(cx - reach) - 1)
    y1, x1 = min(size, int(cy + reach) + 2), min(size, int(cx + reach) + 2)
    if y1 - y0 < 3 or x1 - x0 < 3:
        return False
    y, x = np.mgrid[y0:y1, x0:x1]
    inside = outline(y - cy, x - cx) < 0
    part = labels[y0:y1, x0:x1]
    if inside.sum() < LEAST_AREA or (part[inside] > 0).mean() > overlap:
        return False
    part[inside & (part == 0)] = number
    return True


def tidied(labels: Int32, diameter: float) -> Int32:
    """Keep of each ROI its largest piece, drop specks, and number them without gaps."""
    kept, number = np.zeros_like(labels), 0
    least = max(LEAST_AREA, 0.05 * diameter * diameter)
    for index, place in enumerate(find_objects(labels), start=1):
        if place is None:
            continue
        mask = labels[place] == index
        pieces, n = label(mask)
        if n > 1:
            mask = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
        if mask.sum() >= least:
            number += 1
            kept[place][mask] = number
    return kept


def ragged(rng: Rng, labels: Int32, diameter: float) -> Int32:
    """Fray the edges of ROIs, as lamellae and sections are: each pixel from a few px beside it."""
    size = labels.shape[0]
    y, x = np.mgrid[:size, :size].astype(np.float64)
    scale, far = rng.uniform(0.04, 0.2) * diameter, rng.uniform(0.02, 0.06) * diameter
    y += far * smooth(rng, size, scale)
    x += far * smooth(rng, size, scale)
    rows, columns = (np.clip(np.rint(v), 0, size - 1).astype(np.intp) for v in (y, x))
    return np.asarray(labels[rows, columns], np.int32)
