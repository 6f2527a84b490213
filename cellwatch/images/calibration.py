"""The side of a pixel, where its two sides are one."""

import math

SQUARE = 0.01  # relative difference of the sides up to which a pixel is called square


def pixel_side(x: float, y: float) -> tuple[float | None, tuple[str, ...]]:
    """Return the side of a pixel in µm, or None, and a note where it is not square.

    Examples
    --------
    >>> pixel_side(0.5, 0.5), pixel_side(0.0, 0.5)
    ((0.5, ()), (None, ()))
    >>> pixel_side(0.5, 0.25)
    (None, ('its pixels are not square (0.5 by 0.25 µm): the size is not used',))
    """
    if not all(math.isfinite(side) and side > 0 for side in (x, y)):
        return None, ()
    if abs(x - y) > SQUARE * max(x, y):
        return None, (f"its pixels are not square ({x:g} by {y:g} µm): the size is not used",)
    return float(x), ()
