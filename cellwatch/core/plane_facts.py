"""What is kept of a plane's segmentation beside its labels, from which its image's results follow.

So a plane that has not changed since it was segmented need not be segmented again.
"""

import hashlib
from dataclasses import dataclass

from cellwatch.core.arrays import Float32, Float64, Int64


@dataclass(frozen=True, slots=True)
class PlaneFacts:
    """What is kept of a plane's segmentation beside its labels.

    Attributes
    ----------
    diameter : float
        px.
    style : (n_styles,) float32
        All 0 where no network was run.
    notes : tuple of str
    probabilities, confidences : (n,) float64
        Of its ROIs, in the order of their labels before they are joined with those of other planes.
    areas : (n,) int64
        Of the same, px.
    confidence : float
        Of all of it.
    total : float
        Of the first channel's intensities in ROIs.
    size : int
        px.
    digest : str
        Of the pixels that were segmented; "": it was not taken.
    """

    diameter: float
    style: Float32
    notes: tuple[str, ...]
    probabilities: Float64
    confidences: Float64
    areas: Int64
    confidence: float
    total: float
    size: int
    digest: str = ""


def digest_of(pixels: Float32) -> str:
    """Return 32 hex digits that name the pixels of a plane, with their dtype and shape.

    Parameters
    ----------
    pixels : (C, Y, X), any dtype
    """
    digest = hashlib.blake2b(f"{pixels.dtype.str}{pixels.shape}".encode(), digest_size=16)
    for channel in pixels:
        digest.update(channel.tobytes())
    return digest.hexdigest()
