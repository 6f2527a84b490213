"""Diameters of ROIs, measured in a label image or estimated from the style of a plane.

References
----------
Stringer et al. 2021, Nat Methods 18:100, Methods "Cell size estimation".
"""

import math
from dataclasses import dataclass

import numpy as np

from cellwatch.core.arrays import Float32, Float64, Int32

SMALLEST_DIAMETER = 5.0  # px; an estimate below it is taken for this (Cellpose, size model)
RIDGE = 1.0  # weight of the penalty (Cellpose, size model)

DISC = 2 / math.sqrt(math.pi)  # the diameter of a disc with an area of one pixel


def roi_areas(labels: Int32) -> Float64:
    """Return the area in px of each ROI present in a label image of any shape, by label."""
    counts = np.bincount(labels.ravel())[1:]
    return counts[counts > 0].astype(np.float64)


def median_diameter(labels: Int32) -> float:
    """Return the diameter of the median ROI.

    Parameters
    ----------
    labels : (Y, X) int32

    Returns
    -------
    float, px
        Diameter of the disc as large as the median ROI; 0 without ROIs.

    Examples
    --------
    >>> round(median_diameter(np.ones((10, 10), np.int32)), 2)
    11.28
    """
    areas = roi_areas(labels)
    return DISC * float(np.median(np.sqrt(areas))) if len(areas) else 0.0


@dataclass(frozen=True, slots=True)
class SizeModel:
    """Estimate a plane's diameter from its style, by linear regression of the logarithm.

    Attributes
    ----------
    weights : (W,) float64
    style_mean : (W,) float64
        Subtracted from a style.
    diam_mean : float, px
    log_mean : float
        Mean of ln(diameter / diam_mean) over the training crops.
    """

    weights: Float64
    style_mean: Float64
    diam_mean: float
    log_mean: float

    def estimate(self, style: Float32) -> float:
        """Return the diameter, in px, that a style at the plane's own scale means."""
        slope = float(self.weights @ (style.astype(np.float64) - self.style_mean))
        return max(SMALLEST_DIAMETER, self.diam_mean * math.exp(slope + self.log_mean))


def fit_size_model(styles: Float32, diameters: Float64, diam_mean: float) -> SizeModel:
    """Fit a size model by ridge regression.

    Parameters
    ----------
    styles : (N, W) float32
        Of crops at the scale that the diameters are measured at.
    diameters : (N,) float64, px
    diam_mean : float, px
        Of the network that gave the styles.

    References
    ----------
    Stringer et al. 2021, Methods "Cell size estimation"; the penalty is Cellpose's.
    """
    targets = np.log(diameters / diam_mean)
    style_mean, log_mean = styles.mean(axis=0, dtype=np.float64), float(targets.mean())
    centred = styles.astype(np.float64) - style_mean
    gram = centred.T @ centred + RIDGE * np.eye(styles.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (targets - log_mean))
    return SizeModel(weights, style_mean, diam_mean, log_mean)
