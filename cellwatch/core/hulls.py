"""The areas of the convex hulls of ROIs, in pixels and without rounding.

The hull of an ROI is that of the middles of its pixels' edges; its area is the number of pixels
whose centres lie in it or on its border (scikit-image, `convex_hull_image`). All coordinates are
doubled, so that they are whole numbers.
"""

import numpy as np
from numba import njit

from cellwatch.core.arrays import Int32, Int64

FAR = np.int64(1 << 40)  # beyond every coordinate


@njit(cache=True, nogil=True)
def hull_areas(labels: Int32, numbers: Int32, boxes: Int64) -> Int64:
    """Return the area of each ROI's convex hull, in px.

    Parameters
    ----------
    labels : (Y, X) int32
    numbers : (n,) int32
        The labels to measure.
    boxes : (n, 4) int64
        y0, x0, y1, x1 of each, the ends exclusive.
    """
    areas = np.zeros(len(numbers), np.int64)
    for k in range(len(numbers)):
        y0, x0, y1, x1 = boxes[k]
        left, right = _outline(labels[y0:y1, x0:x1], numbers[k])
        areas[k] = _pixels_between(_lower_hull(left), -_lower_hull(-right))
    return areas


@njit(cache=True, nogil=True)
def _outline(part: Int32, number: int) -> tuple[Int64, Int64]:
    # By row of half a pixel, from half a pixel above the first: the outermost points.
    left = np.full(2 * part.shape[0] + 1, FAR)
    right = np.full(2 * part.shape[0] + 1, -FAR)
    for y in range(part.shape[0]):
        first, last = -1, -1
        for x in range(part.shape[1]):
            if part[y, x] == number:
                first = x if first < 0 else first
                last = x
        if first < 0:
            continue
        for row, beyond in ((2 * y, 0), (2 * y + 1, 1), (2 * y + 2, 0)):
            left[row] = min(left[row], 2 * first - beyond)
            right[row] = max(right[row], 2 * last + beyond)
    return left, right


@njit(cache=True, nogil=True)
def _lower_hull(values: Int64) -> Int64:
    """Return the lower convex hull of points (row, value) at every odd row, rounded up to even.

    The result has one value for each row of pixels; values of FAR are no points.
    """
    rows = np.empty(len(values), np.int64)
    n = 0
    for row in range(len(values)):
        if abs(values[row]) == FAR:
            continue
        while n > 1:
            a, b = rows[n - 2], rows[n - 1]
            is_below = (values[b] - values[a]) * (row - a) < (values[row] - values[a]) * (b - a)
            if is_below:  # the line from a to the new point
                break
            n -= 1
        rows[n] = row
        n += 1
    within = np.empty(len(values) // 2, np.int64)
    at = 0
    for y in range(len(within)):
        row = 2 * y + 1
        while rows[at + 1] < row:
            at += 1
        a, b = rows[at], rows[at + 1]
        over, span = (values[b] - values[a]) * (row - a), b - a
        # The smallest even number that is not below values[a] + over / span.
        within[y] = 2 * -((-(values[a] * span + over)) // (2 * span))
    return within


@njit(cache=True, nogil=True)
def _pixels_between(left: Int64, right: Int64) -> int:
    total = 0
    for y in range(len(left)):
        total += max(0, (right[y] - left[y]) // 2 + 1)
    return total
