"""Which ROIs of two label images share pixels, and how much: a table of those pairs alone."""

from dataclasses import dataclass

import numpy as np

from cellwatch.core.arrays import Float64, Int32, Int64

TABLE = 4  # cells of a full table for each pixel, up to which counting in one is faster


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
    """

    first: Int64
    second: Int64
    iou: Float64
    n_first: int
    n_second: int

    def at_least(self, threshold: float) -> "Sharing":
        """Return the pairs whose IoU is at least a threshold."""
        kept = self.iou >= threshold
        return Sharing(
            self.first[kept], self.second[kept], self.iou[kept], self.n_first, self.n_second
        )


def sharing(first: Int32, second: Int32) -> Sharing:
    """Find the pairs of ROIs of two label images that share pixels.

    Parameters
    ----------
    first, second : (Y, X) int32
        Of one shape, without negative numbers; 0 = background.

    Notes
    -----
    Memory grows with the pixels and the pairs, not with the product of the numbers of ROIs.
    """
    n, m = int(first.max(initial=0)), int(second.max(initial=0))
    codes = first.ravel().astype(np.int64) * (m + 1) + second.ravel()
    if (n + 1) * (m + 1) <= TABLE * max(1, codes.size):
        table = np.bincount(codes, minlength=(n + 1) * (m + 1))
        found = np.flatnonzero(table)
        counts = table[found]
    else:
        found, counts = np.unique(codes, return_counts=True)
    one, other = np.divmod(found, m + 1)
    areas_one = np.bincount(one, counts, n + 1)
    areas_other = np.bincount(other, counts, m + 1)
    both = (one > 0) & (other > 0)
    one, other, shared = one[both], other[both], counts[both]
    union = areas_one[one] + areas_other[other] - shared
    return Sharing(one, other, shared / union, n, m)


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
