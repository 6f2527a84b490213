"""Overlapping ROIs brought to one label image, as the paper did with the LiveCell dataset.

References
----------
Pachitariu & Stringer 2022, Methods "LiveCell dataset": overlapping pixels go to the ROI with the
closest centroid; ROIs with more than 75 % of their pixels overlapping another ROI are removed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellwatch.core.arrays import Bool, Int32, Int64

MOST_OVERLAP = 0.75  # of an ROI's pixels (the paper's)


@dataclass(frozen=True, slots=True)
class RoiMask:
    """The pixels of one ROI, as a window of the image.

    Attributes
    ----------
    top, left : int, px
        Of the window within the image.
    pixels : (h, w) bool
    """

    top: int
    left: int
    pixels: Bool


@dataclass(frozen=True, slots=True)
class Flattened:
    """A label image made of ROIs that may overlap.

    Attributes
    ----------
    labels : (Y, X) int32
        1..n in the order of the ROIs that were kept.
    removed : tuple of int
        Indices of ROIs that mostly overlapped others.
    lost : tuple of int
        Indices of ROIs without a pixel: empty, or all of theirs were nearer to another's centroid.
    overlapping_pixels : int
    """

    labels: Int32
    removed: tuple[int, ...]
    lost: tuple[int, ...]
    overlapping_pixels: int


def flatten_rois(rois: Sequence[RoiMask], shape: tuple[int, int]) -> Flattened:
    """Bring ROIs that may overlap to one label image.

    Parameters
    ----------
    rois : sequence of RoiMask
        Windows lie inside the image.
    shape : (int, int), px

    Notes
    -----
    Whether an ROI mostly overlaps others is judged from the smallest to the largest, each against
    those still there, so that of two equal ROIs one stays. A pixel goes to the nearest centroid
    among the ROIs that cover it; equally near, to the first ROI.
    """
    cover = np.zeros(shape, np.int32)
    for roi in rois:
        cover[_window(roi)] += roi.pixels
    overlapping = int((cover > 1).sum())
    removed = _mostly_overlapping(rois, cover)
    kept = [i for i, roi in enumerate(rois) if i not in removed and roi.pixels.any()]
    owners = _owners([rois[i] for i in kept], shape)
    present = np.unique(owners[owners >= 0])
    numbers = np.zeros(len(kept) + 1, np.int32)
    numbers[present] = np.arange(1, len(present) + 1)
    found = {kept[i] for i in present}
    lost = tuple(i for i in range(len(rois)) if i not in found and i not in removed)
    return Flattened(numbers[owners], tuple(sorted(removed)), lost, overlapping)


def roi_stack(masks: np.ndarray) -> list[RoiMask]:
    """Return the ROIs of an (N, Y, X) stack that has a plane for each, not 0 where the ROI is."""
    rois = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            rois.append(RoiMask(0, 0, np.zeros((0, 0), np.bool_)))
            continue
        window = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        rois.append(RoiMask(int(rows[0]), int(columns[0]), window != 0))
    return rois


def _window(roi: RoiMask) -> tuple[slice, slice]:
    height, width = roi.pixels.shape
    return slice(roi.top, roi.top + height), slice(roi.left, roi.left + width)


def _mostly_overlapping(rois: Sequence[RoiMask], cover: Int32) -> set[int]:
    cover = cover.copy()
    removed = set()
    for index in np.argsort([roi.pixels.sum() for roi in rois], kind="stable"):
        roi = rois[index]
        if _overlapping_share(roi, cover) > MOST_OVERLAP:
            cover[_window(roi)] -= roi.pixels
            removed.add(int(index))
    return removed


def _overlapping_share(roi: RoiMask, cover: Int32) -> float:
    area = int(roi.pixels.sum())
    return float((cover[_window(roi)][roi.pixels] > 1).sum() / area) if area else 0.0


def _owners(rois: Sequence[RoiMask], shape: tuple[int, int]) -> Int64:
    # Index of the ROI that each pixel belongs to; -1 (the last number, 0) in the background.
    owners = np.full(shape, -1, np.int64)
    nearest = np.full(shape, np.inf)
    for index, roi in enumerate(rois):
        y, x = np.nonzero(roi.pixels)
        distance = (y - y.mean()) ** 2 + (x - x.mean()) ** 2
        rows, columns = y + roi.top, x + roi.left
        nearer = distance < nearest[rows, columns]
        rows, columns = rows[nearer], columns[nearer]
        owners[rows, columns] = index
        nearest[rows, columns] = distance[nearer]
    return owners
