"""How sure the network is of what it found, without ground truth.

Two things speak for an ROI: the network takes its pixels for cell, and the flows that its shape has
are those that the network predicted. Their product is its confidence. On images that the network
was not trained on, about as many ROIs of a confidence match a true one as it says (measured by
`bench/confidence.py`); it is for sorting, not a probability.
"""

import numpy as np

from cellwatch.core.arrays import Float32, Float64, Int32
from cellwatch.core.labels import flow_errors


def roi_probabilities(labels: Int32, cellprob: Float32) -> Float64:
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
    >>> roi_probabilities(np.array([[1, 1, 0]], np.int32), np.zeros((1, 3), np.float32))
    array([0.5])
    """
    inside = labels > 0
    sums = np.bincount(labels[inside], weights=_probability(cellprob[inside]), minlength=1)[1:]
    counts = np.bincount(labels[inside], minlength=1)[1:]
    return np.asarray(sums / np.maximum(counts, 1), np.float64)


def roi_confidences(labels: Int32, cellprob: Float32, flows: Float32) -> Float64:
    """Return the confidence of each ROI: its mean cell probability, less where its flows disagree.

    Parameters
    ----------
    labels : (Y, X) int32
        1..n without gaps.
    cellprob : (Y, X) float32
        Logits.
    flows : (2, Y, X) float32
        As predicted, unit vectors.

    Returns
    -------
    (n,) float64, 0 to 1
    """
    agreement = 1 - np.clip(flow_errors(labels, flows), 0, 1)
    return np.asarray(roi_probabilities(labels, cellprob) * agreement, np.float64)


def image_confidence(labels: Int32, cellprob: Float32, confidences: Float64) -> float:
    """Return the confidence of a plane: of its ROIs, less where it sees cells outside of them.

    Parameters
    ----------
    labels : (Y, X) int32
        1..n without gaps.
    cellprob : (Y, X) float32
        Logits.
    confidences : (n,) float64
        Of the ROIs.

    Returns
    -------
    float, 0 to 1
        The mean over all pixels of ROIs of the confidence of theirs, times one minus the mean cell
        probability of all other pixels. 0: there are no ROIs.
    """
    areas = np.bincount(labels.ravel(), minlength=1)[1:]
    if not areas.size:
        return 0.0
    outside = labels == 0
    elsewhere = float(_probability(cellprob[outside]).mean()) if outside.any() else 0.0
    return float(np.average(confidences, weights=areas)) * (1 - elsewhere)


def _probability(logits: Float32) -> Float64:
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), np.float64)
