"""The pages of an open TIFF file, turned and inverted as its tags say that they are to be seen."""

import math
from typing import Any

import numpy as np
import tifffile

from cellwatch.images.planes import Array, CalledPages, Pages

WHITE_IS_ZERO = 0  # the tag PhotometricInterpretation
ORIENTATION = 274  # the tag; 1: as it is
# What brings rows and columns to where the tag says that they are: a swap, flips of y and of x.
TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def as_seen(raw: Pages, first: Any, *, is_labels: bool) -> Pages:  # Any: tifffile's
    """Return pages as they are meant to be seen.

    Parameters
    ----------
    raw : Pages
    first : TiffPage
        The first of the file, whose tags hold for all.
    is_labels : bool
        Whether the values are numbers of ROIs: then 0 is 0, whatever is said to be white.
    """
    is_to_invert = is_inverted(first) and not is_labels and "S" not in first.axes
    brightest = 0.0
    if is_to_invert and raw.dtype.kind == "f":  # of all its pages
        each = (raw.page(index) for index in range(raw.n_pages))
        brightest = max(float(np.nanmax(page, initial=-np.inf)) for page in each)

    def page(index: int) -> Array:
        pixels: Array = _turned(raw.page(index), first)
        return _inverted(pixels, brightest) if is_to_invert else pixels

    return CalledPages(raw.n_pages, raw.dtype, page, raw.close)


def pages_of(file: tifffile.TiffFile, series: Any) -> CalledPages:  # Any: tifffile's
    """Return the pages of a series as they lie in the file."""
    shape = tuple(series.keyframe.shape)
    size = math.prod(shape)
    count = series.size // size if size else 1
    if series.dataoffset is not None:  # one after the other, whether or not each has its entry
        kind = np.dtype(series.dtype).newbyteorder(file.byteorder)
        n_bytes = size * kind.itemsize

        def read(index: int) -> Array:
            offset = series.dataoffset + index * n_bytes
            return np.asarray(file.filehandle.read_array(kind, size, offset)).reshape(shape)

        return CalledPages(count, np.dtype(series.dtype), read, _nothing)
    if len(series.pages) == count:
        blank = np.zeros(shape, series.dtype)

        def decode(index: int) -> Array:
            page = series.pages[index]
            return np.asarray(page.asarray()) if page is not None else blank

        return CalledPages(count, np.dtype(series.dtype), decode, _nothing)
    return as_one_page(series)


def as_one_page(series: Any) -> CalledPages:  # Any: tifffile's
    """Return a series that is read as a whole, as the page that it is."""
    return CalledPages(1, np.dtype(series.dtype), lambda _: np.asarray(series.asarray()), _nothing)


def turn_of(page: Any) -> tuple[bool, bool, bool] | None:  # Any: tifffile's
    """Return whether its axes are swapped and flipped along y and x; None: it is upright."""
    tag = page.tags.get(ORIENTATION)
    return TURNS.get(tag.value) if tag is not None else None


def turned_shape(shape: tuple[int, ...], page: Any) -> tuple[int, ...]:  # Any: tifffile's
    """Return the shape of an image when it is upright."""
    # The other way round it is the same swap.
    turn = turn_of(page)
    if turn is None or not turn[0]:
        return shape
    y, swapped = _y_of(page) % len(shape), list(shape)
    swapped[y], swapped[y + 1] = shape[y + 1], shape[y]
    return tuple(swapped)


def is_inverted(page: Any) -> bool:  # Any: tifffile's
    """Say whether zero is white."""
    return bool(page.photometric == WHITE_IS_ZERO)


def _turned(pixels: Array, page: Any) -> Array:  # Any: tifffile's
    turn = turn_of(page)
    if turn is None:
        return pixels
    y = _y_of(page)
    pixels = np.swapaxes(pixels, y, y + 1) if turn[0] else pixels
    flips = tuple(at for at, is_on in ((y, turn[1]), (y + 1, turn[2])) if is_on)
    return np.flip(pixels, flips) if flips else pixels


def _y_of(page: Any) -> int:  # Any: tifffile's
    return -3 if page.axes.endswith("S") else -2


def _inverted(pixels: Array, brightest: float) -> Array:
    # Zero is white: what is brightest gets the largest number.
    if pixels.dtype == bool:
        return np.asarray(np.logical_not(pixels))
    if pixels.dtype.kind == "f":
        return np.subtract(brightest, pixels)
    return np.asarray(np.invert(pixels))


def _nothing() -> None:
    pass
