"""Matching by a full table of all pairs of ROIs: obvious, and too large for large images."""

import numpy as np
from scipy.optimize import linear_sum_assignment


def iou_matrix(first, second):
    """Return the intersection over union of every ROI of one label image with every of another.

    Parameters
    ----------
    first, second : (Y, X) int32
        Of one shape.

    Returns
    -------
    (n, m) float64
        Row i, column j: ROI i + 1 of `first` with ROI j + 1 of `second`; 0 where a label is absent.
    """
    n, m = int(first.max(initial=0)), int(second.max(initial=0))
    pairs = first.ravel().astype(np.int64) * (m + 1) + second.ravel()
    overlap = np.bincount(pairs, minlength=(n + 1) * (m + 1)).reshape(n + 1, m + 1)
    union = overlap.sum(1)[1:, None] + overlap.sum(0)[None, 1:] - overlap[1:, 1:]
    return np.asarray(overlap[1:, 1:] / np.maximum(union, 1), np.float64)


def matched(truth, predicted, threshold):
    """Return the labels of the pairs that are matched, and their IoUs."""
    table = iou_matrix(truth, predicted)
    cost = np.where(table >= threshold, -1 - table / (2 * max(1, min(table.shape))), 0.0)
    rows, columns = linear_sum_assignment(cost)
    counts = table[rows, columns] >= threshold
    return rows[counts] + 1, columns[counts] + 1, table[rows, columns][counts]


def stitched(planes, threshold):
    """Give ROIs of consecutive planes one label where they overlap."""
    result, n_labels = [planes[0].copy()], int(planes[0].max(initial=0))
    for plane in planes[1:]:
        below, n_new = result[-1], int(plane.max(initial=0))
        overlap = iou_matrix(plane, below)
        overlap[overlap < threshold] = 0
        if overlap.size:
            overlap[overlap < overlap.max(axis=0, keepdims=True)] = 0
        numbers = np.zeros(n_new + 1, np.int32)
        for label in range(1, n_new + 1):
            row = overlap[label - 1]
            if row.size and row.max() > 0:
                numbers[label] = row.argmax() + 1
            else:
                n_labels += 1
                numbers[label] = n_labels
        result.append(numbers[plane])
    return result
