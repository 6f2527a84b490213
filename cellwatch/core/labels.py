"""From rest points to a label image, and what cleans a label image.

References
----------
Stringer et al. 2021, Nat Methods 18:100, Methods "Gradient flow tracking" and "Recombination"; the
numbers are those of Cellpose 3.1 (get_masks, remove_bad_flow_masks, fill_holes_and_remove_small).
Where that program drops the wrong ROI after the flow check, this one renumbers first.
"""

import hashlib

import numpy as np
from numba import njit

from cellwatch.core.arrays import Bool, Float32, Float64, Int32, Int64
from cellwatch.core.flows import bounding_boxes, flows_of
from cellwatch.core.sharing import sharing

MARGIN = 20  # px around the histogram of rest points
SEED_WINDOW = 5  # px; a seed is the highest pixel of this neighbourhood
SEED_MIN_POINTS = 10  # a seed needs more rest points than this
GROWN_MIN_POINTS = 2  # a seed grows over pixels with more rest points than this
GROWTH = 5  # px that a seed grows
MAX_AREA = 0.4  # of the image; a larger ROI is taken for background


def labels_from_endpoints(endpoints: Int32, foreground: Bool) -> Int32:
    """Gather pixels that came to rest together into ROIs.

    Parameters
    ----------
    endpoints : (n, 2) int32
        Rest points of the foreground pixels in raster order.
    foreground : (Y, X) bool

    Returns
    -------
    (Y, X) int32
        0 = background, 1..n in the raster order of their first pixels. Where two seeds grow into
        each other the one with more rest points wins; among equals the later in raster order.
    """
    histogram = np.zeros([side + 2 * MARGIN for side in foreground.shape], np.int64)
    np.add.at(histogram, (endpoints[:, 0] + MARGIN, endpoints[:, 1] + MARGIN), 1)
    grown = _grow(histogram, _seeds(histogram))
    labels = np.zeros(foreground.shape, np.int32)
    labels[foreground] = grown[endpoints[:, 0] + MARGIN, endpoints[:, 1] + MARGIN]
    return number_in_raster_order(_without_giants(labels))


def flow_errors(labels: Int32, flows: Float32) -> Float64:
    """Compare the flows of each ROI with those the network predicted.

    Parameters
    ----------
    labels : (Y, X) int32
        1..n without gaps.
    flows : (2, Y, X) float32
        Predicted, as unit vectors.

    Returns
    -------
    (n,) float64
        The mean over each ROI's pixels of the squared distance between the two vectors.
    """
    squared = np.square(flows_of(labels) - flows).sum(axis=0, dtype=np.float64)
    counts = np.bincount(labels.ravel())[1:]
    sums = np.bincount(labels.ravel(), weights=squared.ravel())[1:]
    return np.asarray(sums / counts, dtype=np.float64)


def drop_bad_flows(labels: Int32, flows: Float32, threshold: float) -> Int32:
    """Drop the ROIs whose flow error is above a threshold and renumber the rest."""
    if not labels.any():
        return labels
    return _keep(labels, flow_errors(labels, flows) <= threshold)


def drop_small(labels: Int32, min_size: int) -> Int32:
    """Drop ROIs of fewer than `min_size` px and renumber the rest.

    Examples
    --------
    >>> drop_small(np.array([[1, 1, 2]], np.int32), min_size=2)
    array([[1, 1, 0]], dtype=int32)
    """
    return _keep(labels, np.bincount(labels.ravel())[1:] >= max(1, min_size))


def fill_holes(labels: Int32) -> Int32:
    """Fill the holes of every ROI.

    Parameters
    ----------
    labels : (Y, X) int32

    Returns
    -------
    (Y, X) int32
        A hole is what cannot be reached from outside the ROI by steps along y or x. ROIs are
        filled in the order of their labels; one that lies in another's hole is swallowed by it.
    """
    filled = labels.copy()
    _fill_holes(filled, bounding_boxes(labels))
    return filled


def relabel(labels: Int32) -> Int32:
    """Renumber labels to 1..n without gaps, in their order."""
    return _keep(labels, np.ones(int(labels.max(initial=0)), bool))


def labels_digest(labels: Int32) -> str:
    """Return a sha256 that two label images share when they show the same ROIs, however numbered.

    Parameters
    ----------
    labels : (Y, X) int32

    Examples
    --------
    >>> labels_digest(np.array([[2, 0, 1]], np.int32)) == labels_digest(
    ...     np.array([[1, 0, 2]], np.int32)
    ... )
    True
    """
    ordered = number_in_raster_order(np.ascontiguousarray(labels, np.int32))
    digest = hashlib.sha256(str(ordered.shape).encode())
    digest.update(np.ascontiguousarray(ordered, "<i4").tobytes())
    return digest.hexdigest()


@njit(cache=True, nogil=True)
def number_in_raster_order(labels: Int32) -> Int32:
    """Renumber labels to 1..n in the order in which their first pixels are met, row by row."""
    numbers = np.zeros(labels.max() + 1, np.int32)
    renumbered = np.zeros_like(labels)
    n_labels = 0
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if label > 0:
                if numbers[label] == 0:
                    n_labels += 1
                    numbers[label] = n_labels
                renumbered[y, x] = numbers[label]
    return renumbered


def resize_labels(labels: Int32, shape: tuple[int, int]) -> Int32:
    """Resize a label image to `shape` by nearest neighbour (OpenCV's rule: truncated positions)."""
    rows, columns = (
        np.minimum((np.arange(new) * (old / new)).astype(np.int64), old - 1)
        for new, old in zip(shape, labels.shape, strict=True)
    )
    resized: Int32 = labels[rows[:, None], columns[None, :]]
    return resized


def stitch_planes(planes: list[Int32], threshold: float) -> list[Int32]:
    """Give ROIs of consecutive planes one label where they overlap.

    Parameters
    ----------
    planes : list of (Y, X) int32
        Label images along z, each 1..n.
    threshold : float
        Least IoU of two ROIs to be one. Of several ROIs below one ROI only the best is joined.

    Returns
    -------
    list of (Y, X) int32
    """
    stitched = [planes[0].copy()] if planes else []
    n_labels = int(planes[0].max(initial=0)) if planes else 0
    for plane in planes[1:]:
        below = stitched[-1]
        numbers = _joined(plane, below, threshold)
        new = np.flatnonzero(numbers[1:] == 0) + 1
        numbers[new] = n_labels + 1 + np.arange(len(new), dtype=np.int32)
        n_labels += len(new)
        stitched.append(numbers[plane])
    return stitched


def _joined(plane: Int32, below: Int32, threshold: float) -> Int32:
    # By label of a plane: that of the ROI below that it continues; 0: it begins here.
    pairs = sharing(plane, below).at_least(max(threshold, np.finfo(np.float64).tiny))
    best_of_below = np.zeros(pairs.n_second + 1)
    np.maximum.at(best_of_below, pairs.second, pairs.iou)
    kept = pairs.iou >= best_of_below[pairs.second]
    numbers = np.zeros(pairs.n_first + 1, np.int32)
    # Of several below one ROI the one with the greatest overlap; of equal ones the first.
    order = np.lexsort((-pairs.second[kept], pairs.iou[kept]))
    numbers[pairs.first[kept][order]] = pairs.second[kept][order]
    return numbers


def _seeds(histogram: Int64) -> Int64:
    full = np.argwhere(histogram > SEED_MIN_POINTS)
    seeds = full[_are_highest(histogram, full)]
    # The fullest are painted last, over the others.
    order = np.argsort(histogram[seeds[:, 0], seeds[:, 1]], kind="stable")
    return seeds[order].astype(np.int64)


@njit(cache=True, nogil=True)
def _are_highest(histogram: Int64, pixels: Int64) -> Bool:
    # Of their neighbourhood; the margin around the histogram is wider than half of it.
    reach = SEED_WINDOW // 2
    are = np.ones(len(pixels), np.bool_)
    for k in range(len(pixels)):
        y, x = pixels[k]
        for row in range(y - reach, y + reach + 1):
            for column in range(x - reach, x + reach + 1):
                if histogram[row, column] > histogram[y, x]:
                    are[k] = False
    return are


@njit(cache=True, nogil=True)
def _grow(histogram: Int64, seeds: Int64) -> Int32:
    grown = np.zeros(histogram.shape, np.int32)
    side = 2 * GROWTH + 1
    for k in range(len(seeds)):
        top, left = seeds[k, 0] - GROWTH, seeds[k, 1] - GROWTH
        now = np.zeros((side + 2, side + 2), np.bool_)
        now[GROWTH + 1, GROWTH + 1] = True
        for _ in range(GROWTH):
            before = now.copy()
            for y in range(1, side + 1):
                for x in range(1, side + 1):
                    if histogram[top + y - 1, left + x - 1] > GROWN_MIN_POINTS:
                        now[y, x] = before[y - 1 : y + 2, x - 1 : x + 2].any()
        for y in range(side):
            for x in range(side):
                if now[y + 1, x + 1]:
                    grown[top + y, left + x] = k + 1
    return grown


def _without_giants(labels: Int32) -> Int32:
    counts = np.bincount(labels.ravel())
    giant = counts > MAX_AREA * labels.size
    giant[0] = False
    return np.where(giant[labels], np.int32(0), labels)


def _keep(labels: Int32, is_kept: Bool) -> Int32:
    # Entry k of `is_kept` is about label k + 1; absent labels leave no gap.
    if labels.max(initial=0) > len(is_kept) or labels.min(initial=0) < 0:
        raise ValueError(f"labels outside 0 to {len(is_kept)}")
    flat = _renumbered(np.ascontiguousarray(labels, np.int32).reshape(-1), is_kept)
    return flat.reshape(labels.shape)  # type: ignore[no-any-return]  # numba is untyped


@njit(cache=True, nogil=True)
def _renumbered(labels: Int32, is_kept: Bool) -> Int32:
    numbers = np.zeros(len(is_kept) + 1, np.int32)
    for i in range(len(labels)):
        numbers[labels[i]] = 1
    numbers[0], last = 0, 0
    for label in range(1, len(numbers)):
        if numbers[label] and is_kept[label - 1]:
            last += 1
            numbers[label] = last
        else:
            numbers[label] = 0
    renumbered = np.empty_like(labels)
    for i in range(len(labels)):
        renumbered[i] = numbers[labels[i]]
    return renumbered


@njit(cache=True, nogil=True)
def _fill_holes(labels: Int32, boxes: Int64) -> None:
    for k in range(len(boxes)):
        y0, y1, x0, x1 = boxes[k]
        if y1 - y0 < 3 or x1 - x0 < 3:  # too small for a hole
            continue
        outside = _reached_from_outside(labels, k + 1, boxes[k])
        for y in range(y1 - y0):
            for x in range(x1 - x0):
                if not outside[y + 1, x + 1]:
                    labels[y0 + y, x0 + x] = k + 1


@njit(cache=True, nogil=True)
def _reached_from_outside(labels: Int32, label: int, box: Int64) -> Bool:
    y0, y1, x0, x1 = box
    height, width = y1 - y0 + 2, x1 - x0 + 2
    reached = np.zeros((height, width), np.bool_)
    stack = np.empty((height * width, 2), np.int64)
    stack[0] = 0, 0
    reached[0, 0] = True
    depth = 1
    while depth > 0:
        depth -= 1
        y, x = stack[depth]
        for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            ny, nx = y + dy, x + dx
            if not (0 <= ny < height and 0 <= nx < width) or reached[ny, nx]:
                continue
            on_rim = ny in (0, height - 1) or nx in (0, width - 1)
            if on_rim or labels[y0 + ny - 1, x0 + nx - 1] != label:
                reached[ny, nx] = True
                stack[depth] = ny, nx
                depth += 1
    return reached


def outlines_of(labels: Int32) -> Bool:
    """Return the pixels of ROIs that touch another ROI or the background.

    Parameters
    ----------
    labels : (Y, X) int32

    Returns
    -------
    (Y, X) bool

    Examples
    --------
    >>> outlines_of(np.pad(np.ones((3, 3), np.int32), 1)).sum()
    np.int64(8)
    """
    padded = np.pad(labels, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    is_edge = np.zeros(labels.shape, np.bool_)
    for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
        shifted = padded[rows : rows + labels.shape[0], columns : columns + labels.shape[1]]
        is_edge |= shifted != centre
    return is_edge & (centre > 0)


def count_rois(labels: Int32, *, is_joined: bool = False) -> int:
    """Count the ROIs of a (..., Z, Y, X) label image.

    Parameters
    ----------
    labels : (..., Y, X) int32
    is_joined : bool
        Whether one ROI has one number in all z planes: then it is counted once in each volume. Else
        every plane is numbered by itself, and the sum over the planes is returned.
    """
    last = 3 if is_joined and labels.ndim > 2 else 2
    parts = labels.reshape(-1, *labels.shape[-last:])
    return sum(int(np.count_nonzero(np.bincount(part.ravel())[1:])) for part in parts)
