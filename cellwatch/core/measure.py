"""Measure the ROIs of one plane: size, place, shape and intensity, one value for each ROI.

References
----------
Names and definitions are those of scikit-image's `regionprops`; `tests/core/test_measure.py`
compares the values.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cellwatch.core.arrays import Bool, Float64, Int32, Int64
from cellwatch.core.flows import bounding_boxes
from cellwatch.core.hulls import hull_areas

Column = NDArray[np.generic]


def measure(
    labels: Int32, channels: Sequence[NDArray[np.generic]] = (), names: Sequence[str] = ()
) -> dict[str, Column]:
    """Measure every ROI of a label image.

    Parameters
    ----------
    labels : (Y, X) int32
        0 = background; numbers may have gaps.
    channels : sequence of (Y, X), any real dtype
        Intensities to measure.
    names : sequence of str
        Of the channels, for the columns; "" or none: their numbers from 0.

    Returns
    -------
    dict of str to (n,) arrays, in the order of the labels
        `label`; `area_px`; `diameter_px` (of the disc of equal area); `y_px`, `x_px` (centroid);
        `y0`, `x0`, `y1`, `x1` (bounding box, the ends exclusive); `eccentricity` (0: a disc,
        towards 1: a line); `solidity` (area over that of the convex hull); `touches_edge` (of the
        image); for each channel `mean_`, `min_`, `max_`, `sum_` with its name.
    """
    inside = labels > 0
    numbers, which = np.unique(labels[inside], return_inverse=True)
    rows, columns = np.nonzero(inside)
    area = np.bincount(which, minlength=len(numbers))
    y, x = (np.bincount(which, weights=v, minlength=len(numbers)) / area for v in (rows, columns))
    boxes = bounding_boxes(labels)[numbers - 1][:, [0, 2, 1, 3]]  # y0, x0, y1, x1
    table: dict[str, Column] = {
        "label": numbers.astype(np.int64),
        "area_px": area.astype(np.int64),
        "diameter_px": np.sqrt(4 * area / math.pi),
        "y_px": y,
        "x_px": x,
        **dict(zip(("y0", "x0", "y1", "x1"), boxes.T, strict=True)),
        "eccentricity": _eccentricity(rows - y[which], columns - x[which], which, area),
        "solidity": area / hull_areas(labels, numbers, boxes),
        "touches_edge": _touches(boxes, (labels.shape[0], labels.shape[1])),
    }
    order = np.argsort(which, kind="stable")
    starts = np.concatenate([[0], np.cumsum(area)[:-1]]).astype(np.int64)
    for index, channel in enumerate(channels):
        name = (names[index] if index < len(names) else "") or str(index)
        values = np.asarray(channel)[inside].astype(np.float64)[order]
        table |= _intensities(values, starts, area, name)
    return table


def _eccentricity(dy: Float64, dx: Float64, which: Int64, area: Int64) -> Float64:
    n = len(area)
    yy, xx, xy = (
        np.bincount(which, weights=v, minlength=n) / area for v in (dy**2, dx**2, dy * dx)
    )
    middle, apart = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    longest = middle + apart
    ratio = np.divide(middle - apart, longest, out=np.ones(n), where=longest > 0)
    return np.asarray(np.sqrt(np.clip(1 - ratio, 0, 1)), np.float64)


def _touches(boxes: Int64, shape: tuple[int, int]) -> Bool:
    low, high = boxes[:, :2] == 0, boxes[:, 2:] == np.array(shape)
    return np.asarray((low | high).any(axis=1), bool)


def _intensities(values: Float64, starts: Int64, area: Int64, name: str) -> dict[str, Column]:
    if not values.size:
        return {f"{what}_{name}": np.zeros(0) for what in ("mean", "min", "max", "sum")}
    total = np.add.reduceat(values, starts)
    return {
        f"mean_{name}": total / area,
        f"min_{name}": np.minimum.reduceat(values, starts),
        f"max_{name}": np.maximum.reduceat(values, starts),
        f"sum_{name}": total,
    }
