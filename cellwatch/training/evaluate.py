"""Score label images against the truth, image by image and over a set.

References
----------
Pachitariu & Stringer 2022, Methods "Quantification of segmentation quality".
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cellwatch.core.arrays import Float64, Int32
from cellwatch.core.matching import IOU_THRESHOLDS, match, mean_matched_iou

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class ImageScore:
    """How one label image agrees with the truth.

    Attributes
    ----------
    name : str
    average_precision, f1 : mapping of float to float
        By IoU threshold.
    rois_true, rois_found : int
    matched_iou : float
        Mean IoU of the pairs matched at 0.5; NaN when there is none.
    """

    name: str
    average_precision: Mapping[float, float]
    f1: Mapping[float, float]
    rois_true: int
    rois_found: int
    matched_iou: float


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over the images of a set.

    Attributes
    ----------
    images : int
    average_precision, f1 : mapping of float to float
        By IoU threshold; the mean of the images' own values.
    rois_true, rois_found : int
        Sums.
    matched_iou : float
        NaN when nothing matched anywhere.
    both_empty : int
        Images without ROIs in truth and prediction; each scores 1.
    intervals : mapping of float to (float, float)
        By IoU threshold: between which the mean average precision lies in 95 of 100 sets of as
        many images drawn from these with replacement.
    """

    images: int
    average_precision: Mapping[float, float]
    f1: Mapping[float, float]
    rois_true: int
    rois_found: int
    matched_iou: float
    both_empty: int
    intervals: Mapping[float, tuple[float, float]]

    @property
    def mean_average_precision(self) -> float:
        """Return the mean of the average precision over all thresholds."""
        return float(np.mean(list(self.average_precision.values())))

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values; thresholds become text."""
        return {
            "images": self.images,
            "ap": {f"{t:g}": round(self.average_precision[t], 6) for t in IOU_THRESHOLDS},
            "ap_curve": {f"{t:g}": round(v, 6) for t, v in self.average_precision.items()},
            "ap_interval_95": {
                f"{t:g}": [round(low, 6), round(high, 6)]
                for t, (low, high) in self.intervals.items()
            },
            "ap_mean": round(self.mean_average_precision, 6),
            "f1": {f"{t:g}": round(v, 6) for t, v in self.f1.items()},
            "rois": {"true": self.rois_true, "found": self.rois_found},
            "matched_iou": None if math.isnan(self.matched_iou) else round(self.matched_iou, 6),
            "both_empty": self.both_empty,
        }


def score_image(
    name: str, truth: Int32, found: Int32, thresholds: Sequence[float] = IOU_THRESHOLDS
) -> ImageScore:
    """Score one label image."""
    matches = match(truth, found, thresholds)
    first = matches[0]
    return ImageScore(
        name=name,
        average_precision={m.threshold: m.average_precision for m in matches},
        f1={m.threshold: m.f1 for m in matches},
        rois_true=first.true_positives + first.false_negatives,
        rois_found=first.true_positives + first.false_positives,
        matched_iou=mean_matched_iou(truth, found),
    )


def summarise(scores: Iterable[ImageScore], seed: int = 0) -> Scores:
    """Average the scores of a set's images; there must be at least one. The seed resamples."""
    listed = list(scores)
    thresholds = list(listed[0].average_precision)
    ious = [s.matched_iou for s in listed if not math.isnan(s.matched_iou)]
    return Scores(
        images=len(listed),
        average_precision={
            t: float(np.mean([s.average_precision[t] for s in listed])) for t in thresholds
        },
        f1={t: float(np.mean([s.f1[t] for s in listed])) for t in thresholds},
        rois_true=sum(s.rois_true for s in listed),
        rois_found=sum(s.rois_found for s in listed),
        matched_iou=float(np.mean(ious)) if ious else math.nan,
        both_empty=sum(s.rois_true == s.rois_found == 0 for s in listed),
        intervals=bootstrap(
            {t: np.array([s.average_precision[t] for s in listed]) for t in thresholds}, seed
        ),
    )


def bootstrap(values: Mapping[float, Float64], seed: int) -> dict[float, tuple[float, float]]:
    """Return 95 % intervals of means, from resampling the images with replacement.

    Parameters
    ----------
    values : mapping of float to (n,) float64
        By threshold, one value per image; the same images are drawn for all.
    seed : int
    """
    n = len(next(iter(values.values())))
    drawn = np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))
    intervals = {}
    for threshold, each in values.items():
        low, high = np.percentile(each[drawn].mean(axis=1), [2.5, 97.5])
        intervals[threshold] = (float(low), float(high))
    return intervals
