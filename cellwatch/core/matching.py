"""Match the ROIs of two label images and score the match.

References
----------
Pachitariu & Stringer 2022, Methods "Quantification of segmentation quality".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellwatch.core.arrays import Bool, Int32
from cellwatch.core.labels import relabel
from cellwatch.core.sharing import matched, sharing

IOU_THRESHOLDS = (0.5, 0.75, 0.9)
IOU_STEPS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)  # of a whole curve
SAME_ROI = 0.95  # IoU; a person who left an ROI alone leaves it so, whatever format carried it


@dataclass(frozen=True, slots=True)
class Match:
    """How two label images agree at one IoU threshold.

    Attributes
    ----------
    threshold : float
    true_positives, false_positives, false_negatives : int
    """

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def average_precision(self) -> float:
        """Return TP / (TP + FP + FN).

        Two empty images agree perfectly and score 1: nothing was there and nothing was found.
        (Cellpose has 0/0 there, which its mean then silently loses.)
        """
        total = self.true_positives + self.false_positives + self.false_negatives
        return self.true_positives / total if total else 1.0

    @property
    def f1(self) -> float:
        """Return 2 TP / (2 TP + FP + FN), 1 for two empty images."""
        total = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / total if total else 1.0


def match(
    truth: Int32, predicted: Int32, thresholds: Sequence[float] = IOU_THRESHOLDS
) -> list[Match]:
    """Match the ROIs of a predicted label image with the true ones, one to one.

    Parameters
    ----------
    truth, predicted : (Y, X) int32
        Of one shape; labels may have gaps.
    thresholds : sequence of float
        Least IoU of a pair that is a match.

    Returns
    -------
    list of Match, one per threshold
    """
    pairs = sharing(truth, predicted)
    counts = [(threshold, len(matched(pairs, threshold)[0])) for threshold in thresholds]
    return [Match(t, n, pairs.rois_second - n, pairs.rois_first - n) for t, n in counts]


def mean_matched_iou(truth: Int32, predicted: Int32, threshold: float = 0.5) -> float:
    """Return the mean IoU of the pairs matched at a threshold; NaN when there is none."""
    _, _, iou = matched(sharing(truth, predicted), threshold)
    return float(iou.mean()) if iou.size else math.nan


@dataclass(frozen=True, slots=True)
class Edits:
    """What a person did to a prediction.

    Attributes
    ----------
    added, removed : int
        ROIs without a partner of IoU 0.5 or more in the other label image.
    changed : int
        Pairs whose IoU is below `SAME_ROI`.
    kept : int
        Pairs above it.
    """

    added: int
    removed: int
    changed: int
    kept: int


def edits(before: Int32, after: Int32) -> Edits:
    """Say which ROIs were added, removed and changed between two label images.

    Parameters
    ----------
    before, after : (Y, X) int32
        Of one shape; labels may have gaps.

    Examples
    --------
    >>> one = np.zeros((4, 4), np.int32)
    >>> one[:2, :2] = 1
    >>> edits(one, np.roll(one, 2, axis=0))
    Edits(added=1, removed=1, changed=0, kept=0)
    """
    pairs = sharing(before, after)
    _, _, iou = matched(pairs, IOU_THRESHOLDS[0])
    kept = int((iou >= SAME_ROI).sum())
    return Edits(pairs.rois_second - iou.size, pairs.rois_first - iou.size, iou.size - kept, kept)


def hits(truth: Int32, predicted: Int32, threshold: float = 0.5) -> tuple[Bool, int]:
    """Say which true ROIs were found, and how many predicted ones are false.

    Returns
    -------
    found : (n,) bool, one per true ROI
    false_positives : int
    """
    pairs = sharing(relabel(truth), relabel(predicted))
    found = np.zeros(pairs.n_first, np.bool_)
    found[matched(pairs, threshold)[0] - 1] = True
    return found, int(pairs.n_second - found.sum())
