"""Which ROIs of two label images share pixels, and how much: a table of those pairs alone."""

from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from cellwatch.core.arrays import Float64, Int32, Int64

SMALLEST = 1 << 12  # places of a hash table; a power of two
# Multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4): 2**60 / golden ratio, odd.
SCATTER = 0x9E3779B97F4A7C1


@dataclass(frozen=True, slots=True)
class Sharing:
    """The pairs of ROIs that share a pixel; every other pair has an IoU of 0.

    Attributes
    ----------
    first, second : (k,) int64
        Labels, from 1.
    iou : (k,) float64
        Intersection over union.
    n_first, n_second : int
        Greatest label of each image.
    rois_first, rois_second : int
        ROIs of each image: its labels, less those that no pixel has.
    """

    first: Int64
    second: Int64
    iou: Float64
    n_first: int
    n_second: int
    rois_first: int
    rois_second: int

    def at_least(self, threshold: float) -> "Sharing":
        """Return the pairs whose IoU is at least a threshold."""
        kept = self.iou >= threshold
        first, second, iou = self.first[kept], self.second[kept], self.iou[kept]
        return replace(self, first=first, second=second, iou=iou)


def sharing(first: Int32, second: Int32) -> Sharing:
    """Find the pairs of ROIs of two label images that share pixels.

    Parameters
    ----------
    first, second : (Y, X) int32
        Of one shape, without negative numbers; 0 = background.

    Raises
    ------
    ValueError
        When the shapes differ.

    Notes
    -----
    Memory grows with the pixels and the pairs, not with the product of the numbers of ROIs.
    """
    if first.shape != second.shape:
        raise ValueError(f"label images of {first.shape} and {second.shape} pixels share none")
    n, m = int(first.max(initial=0)), int(second.max(initial=0))
    codes, shared, areas, other_areas = _counted(
        np.ascontiguousarray(first, np.int32).reshape(-1),
        np.ascontiguousarray(second, np.int32).reshape(-1),
        n,
        m,
    )
    order = np.argsort(codes)
    one, other = np.divmod(codes[order], m + 1)
    shared = shared[order]
    union = areas[one] + other_areas[other] - shared
    rois, other_rois = (int(np.count_nonzero(each[1:])) for each in (areas, other_areas))
    return Sharing(one, other, shared / union, n, m, rois, other_rois)


@njit(cache=True, nogil=True)
def _counted(first: Int32, second: Int32, n: int, m: int) -> tuple[Int64, Int64, Int64, Int64]:
    """Count the pixels of each pair of labels and of each label.

    Returns
    -------
    codes, counts : (k,) int64
        Of the pairs, in no order: first * (m + 1) + second.
    areas, other_areas : (n + 1,), (m + 1,) int64
    """
    areas, other_areas = np.zeros(n + 1, np.int64), np.zeros(m + 1, np.int64)
    places, counts = np.full(SMALLEST, -1, np.int64), np.zeros(SMALLEST, np.int64)
    n_pairs, i = 0, 0
    while i < len(first):
        start, one, other = i, first[i], second[i]
        while i < len(first) and first[i] == one and second[i] == other:
            i += 1
        areas[one] += i - start
        other_areas[other] += i - start
        if one == 0 or other == 0:
            continue
        code = np.int64(one) * (m + 1) + other
        place = _place_of(places, code)
        if places[place] < 0:
            places[place] = code
            n_pairs += 1
        counts[place] += i - start
        if 2 * n_pairs > len(places):
            places, counts = _doubled(places, counts)
    taken = places >= 0
    return places[taken], counts[taken], areas, other_areas


@njit(cache=True, nogil=True)
def _place_of(places: Int64, code: int) -> int:
    # Where a code stands in a hash table, or is to stand: its own place or the next free one.
    last = len(places) - 1
    place = (code * SCATTER >> 20) & last
    while places[place] >= 0 and places[place] != code:
        place = (place + 1) & last
    return place


@njit(cache=True, nogil=True)
def _doubled(places: Int64, counts: Int64) -> tuple[Int64, Int64]:
    more, more_counts = np.full(2 * len(places), -1, np.int64), np.zeros(2 * len(places), np.int64)
    for old in range(len(places)):
        if places[old] >= 0:
            place = _place_of(more, places[old])
            more[place], more_counts[place] = places[old], counts[old]
    return more, more_counts


def matched(pairs: Sharing, threshold: float) -> tuple[Int64, Int64, Float64]:
    """Choose pairs of at least a threshold, each ROI in one pair at most: as many as there can be.

    Of several such choices it is the one whose IoUs sum to the most.

    Returns
    -------
    first, second : (k,) int64
        Labels.
    iou : (k,) float64
    """
    near = pairs.at_least(threshold)
    if not _are_disputed(near):
        return near.first, near.second, near.iou
    groups = _groups(near)
    chosen = [_best(near, np.flatnonzero(groups == group)) for group in range(groups.max() + 1)]
    index = np.sort(np.concatenate(chosen))
    return near.first[index], near.second[index], near.iou[index]


def _are_disputed(pairs: Sharing) -> bool:
    return len(np.unique(pairs.first)) < len(pairs.first) or len(np.unique(pairs.second)) < len(
        pairs.second
    )


def _groups(pairs: Sharing) -> Int64:
    # Loaded here: scipy's start is a part of that of every command, and few need this.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Of each pair: which pairs it hangs together with, through ROIs that they share.
    size = pairs.n_first + pairs.n_second + 2
    nodes = (pairs.first, pairs.second + pairs.n_first + 1)
    graph = coo_array((np.ones(len(pairs.first)), nodes), shape=(size, size))
    _, labels = connected_components(graph, directed=False)
    return np.asarray(np.unique(labels[pairs.first], return_inverse=True)[1], np.int64)


def _best(pairs: Sharing, index: Int64) -> Int64:
    from scipy.optimize import linear_sum_assignment

    if len(index) == 1:
        return index
    rows, i = np.unique(pairs.first[index], return_inverse=True)
    columns, j = np.unique(pairs.second[index], return_inverse=True)
    # One pair more always beats fewer, whatever their IoUs sum to.
    cost = np.zeros((len(rows), len(columns)))
    cost[i, j] = -1 - pairs.iou[index] / (2 * min(cost.shape))
    taken = np.zeros(cost.shape, bool)
    taken[linear_sum_assignment(cost)] = True
    return index[taken[i, j]]
