"""How a picture was taken, whatever is in it: fine detail, and the level of the background."""

import numpy as np
from numpy.typing import NDArray

from cellwatch.core.arrays import Float32

DARK = 5.0  # percentile that is taken for the background
SAMPLE = 1 << 16  # pixels that it is taken from


def sharpness(plane: NDArray[np.generic]) -> float:
    """Return the contrast of the finest detail over the contrast of all.

    Parameters
    ----------
    plane : (Y, X), any real dtype

    Returns
    -------
    float
        Near 0 for a blurred picture, about 1.1 for nothing but noise; 0 for a constant one and one
        of fewer than 6 x 6 pixels. It says nothing by itself; it tells pictures of one kind apart.

    Examples
    --------
    >>> sharpness(np.zeros((20, 20)))
    0.0
    """
    small = _halved(plane)
    if min(small.shape) < 3:
        return 0.0
    around = small[:-2, 1:-1] + small[2:, 1:-1] + small[1:-1, :-2] + small[1:-1, 2:]
    spread = float(small.std())
    return float((small[1:-1, 1:-1] - around / 4).std()) / spread if spread > 0 else 0.0


def background(plane: NDArray[np.generic]) -> float:
    """Return the level of the dark parts of a picture: its 5th percentile."""
    flat = np.asarray(plane).ravel()
    sample = flat[:: max(1, flat.size // SAMPLE)].astype(np.float32)
    sample = sample[np.isfinite(sample)]
    return float(np.percentile(sample, DARK)) if sample.size else 0.0


def _halved(plane: NDArray[np.generic]) -> Float32:
    # 2 x 2 pixels become one: what a single pixel says is mostly noise.
    rows, columns = (n // 2 * 2 for n in plane.shape)
    even = np.nan_to_num(plane[:rows, :columns].astype(np.float32), posinf=0.0, neginf=0.0)
    total = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return np.asarray(total / 4, np.float32)
