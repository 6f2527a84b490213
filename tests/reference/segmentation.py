"""The algorithm of Cellpose in plain loops, to hold the fast code against."""

import numpy as np
from scipy import ndimage


def flows(labels):
    """Heat diffusion, ROI by ROI, each step as a plain 3x3 mean."""
    result = np.zeros((2, *labels.shape))
    for label in np.unique(labels)[1:]:
        ys, xs = np.nonzero(labels == label)
        height, width = np.ptp(ys) + 1, np.ptp(xs) + 1
        inside = np.zeros((height + 2, width + 2), bool)
        inside[ys - ys.min() + 1, xs - xs.min() + 1] = True
        distance = (ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2
        centre = np.argmin(distance)
        heat = np.zeros(inside.shape)
        for _ in range(2 * (height + 2 + width + 2)):
            heat[ys[centre] - ys.min() + 1, xs[centre] - xs.min() + 1] += 1
            heat = ndimage.uniform_filter(heat, 3, mode="constant") * inside
        for y, x in zip(ys, xs, strict=True):
            i, j = y - ys.min() + 1, x - xs.min() + 1
            vector = np.array([heat[i + 1, j] - heat[i - 1, j], heat[i, j + 1] - heat[i, j - 1]])
            result[:, y, x] = vector / (1e-60 + np.hypot(*vector))
    return result


def follow(field, foreground, steps):
    """Euler steps of every pixel through a bilinear field."""
    height, width = foreground.shape
    held = np.where(foreground, field, 0)
    points = np.argwhere(foreground).astype(np.float32)
    for _ in range(steps):
        moves = [ndimage.map_coordinates(f, points.T, order=1, mode="nearest") for f in held]
        points += np.stack(moves, axis=1)
        points = np.clip(points, 0, [height - 1, width - 1]).astype(np.float32)
    return points.astype(np.int32)


def gather(endpoints, foreground):
    """Seeds, growth and look-up, with dilations of the whole picture."""
    counts = np.zeros([n + 40 for n in foreground.shape], int)
    np.add.at(counts, tuple((endpoints + 20).T), 1)
    peaks = (counts == ndimage.maximum_filter(counts, 5, mode="constant")) & (counts > 10)
    seeds = sorted(map(tuple, np.argwhere(peaks)), key=lambda seed: counts[seed])
    painted = np.zeros(counts.shape, int)
    for number, seed in enumerate(seeds, 1):
        grown = np.zeros(counts.shape, bool)
        grown[seed] = True
        for _ in range(5):
            grown = (ndimage.binary_dilation(grown, np.ones((3, 3))) & (counts > 2)) | (
                grown & (counts > 2)
            )
        painted[grown] = number
    labels = np.zeros(foreground.shape, int)
    labels[foreground] = painted[tuple((endpoints + 20).T)]
    numbers = {}
    for label in labels.ravel():
        if label and label not in numbers and (labels == label).sum() <= 0.4 * labels.size:
            numbers[label] = len(numbers) + 1
    return np.vectorize(lambda label: numbers.get(label, 0))(labels)


def fill_holes(labels):
    filled = labels.copy()
    for label in range(1, labels.max() + 1):
        filled[ndimage.binary_fill_holes(filled == label)] = label
    return filled


def iou(first, second):
    table = np.zeros((first.max(), second.max()))
    for i in range(first.max()):
        for j in range(second.max()):
            a, b = first == i + 1, second == j + 1
            table[i, j] = (a & b).sum() / max(1, (a | b).sum())
    return table
