"""Diameters of ROIs.

References
----------
Stringer et al. 2021, Nat Methods 18:100, Methods "Cell size estimation".
"""

import math

import numpy as np

from cellwatch.core.arrays import Float64, Int32

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
