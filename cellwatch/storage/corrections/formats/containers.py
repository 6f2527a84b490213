"""ROIs that hold several others wholly: the region that somebody analysed, and no cell."""

from collections.abc import Sequence

import numpy as np

from cellwatch.core.overlaps import RoiMask

WHOLLY = 0.95  # of an ROI's pixels
SEVERAL = 3  # ROIs within another: it is not a cell
FEW = 2  # within a rectangle: it is not a cell either
SMALLER = 0.5  # an ROI within another has at most this part of its area


def without_containers(rois: Sequence[RoiMask]) -> tuple[list[RoiMask], list[int]]:
    """Return the ROIs that are no containers, and how many ROIs each container holds.

    Parameters
    ----------
    rois : sequence of RoiMask

    Examples
    --------
    >>> cell = RoiMask(1, 1, np.ones((2, 2), bool))
    >>> others = [RoiMask(1, x, np.ones((2, 2), bool)) for x in (4, 7)]
    >>> kept, held = without_containers([RoiMask(0, 0, np.ones((9, 9), bool)), cell, *others])
    >>> len(kept), held
    (3, [3])
    """
    areas = np.array([roi.pixels.sum() for roi in rois])
    tops = np.array([roi.top for roi in rois])
    lefts = np.array([roi.left for roi in rois])
    bottoms = tops + np.array([roi.pixels.shape[0] for roi in rois])
    rights = lefts + np.array([roi.pixels.shape[1] for roi in rois])
    kept, held = [], []
    for index, roi in enumerate(rois):
        near = (tops < bottoms[index]) & (bottoms > tops[index])
        near &= (lefts < rights[index]) & (rights > lefts[index])
        near &= (areas > 0) & (areas <= SMALLER * areas[index])
        inside = sum(_is_within(rois[int(at)], roi) for at in np.flatnonzero(near))
        is_rectangle = bool(roi.pixels.size) and areas[index] >= 0.98 * roi.pixels.size
        if inside >= SEVERAL or (inside >= FEW and is_rectangle):
            held.append(inside)
        else:
            kept.append(roi)
    return kept, held


def _is_within(inner: RoiMask, outer: RoiMask) -> bool:
    top, left = inner.top - outer.top, inner.left - outer.left
    height, width = inner.pixels.shape
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(outer.pixels.shape[0], top + height), min(outer.pixels.shape[1], left + width)
    if y1 <= y0 or x1 <= x0:
        return False
    shared = np.logical_and(
        outer.pixels[y0:y1, x0:x1], inner.pixels[y0 - top : y1 - top, x0 - left : x1 - left]
    )
    return bool(shared.sum() >= WHOLLY * inner.pixels.sum())
