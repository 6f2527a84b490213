"""How sure the network is of what it found, without ground truth.

A score for sorting, not a probability: it tells which images a person should look at first.
"""

import numpy as np

from cellwatch.core.arrays import Float32, Float64, Int32


def roi_confidences(labels: Int32, cellprob: Float32) -> Float64:
    """Return the mean cell probability over each ROI's pixels.

    Parameters
    ----------
    labels : (Y, X) int32
        1..n without gaps.
    cellprob : (Y, X) float32
        Logits.

    Returns
    -------
    (n,) float64, 0 to 1

    Examples
    --------
    >>> roi_confidences(np.array([[1, 1, 0]], np.int32), np.zeros((1, 3), np.float32))
    array([0.5])
    """
    inside = labels > 0
    probability = 1 / (1 + np.exp(-cellprob[inside].astype(np.float64)))
    sums = np.bincount(labels[inside], weights=probability, minlength=1)[1:]
    counts = np.bincount(labels[inside], minlength=1)[1:]
    return np.asarray(sums / np.maximum(counts, 1), np.float64)
