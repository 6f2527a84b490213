"""Cut an image into overlapping tiles and blend what the network says of them.

Two grids are offered. The *fixed* grid is Cellpose's: square tiles of one size. The *fitted* grid
takes as few and as small tiles as cover the image, each no longer than the limit: an image of 256²
is one tile instead of four, and the network sees 1.1 times the image's pixels instead of 1.7.

References
----------
Stringer et al. 2021, Nat Methods 18:100, Methods "Tiling and augmentation"; padding, tile starts
and the taper are those of Cellpose 3.1.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cellwatch.core.arrays import Float32, Float64

MULTIPLE = 8  # px; sides of fitted tiles are a multiple of this at least
PAD_MULTIPLE = 16  # px; padded sides are a multiple of this (Cellpose, get_pad_yx)
PAD_MARGIN = 8  # px of zeros on every side at least
TAPER_MARGIN = 20.0  # px from a tile's edge where its weight is one half
TAPER_WIDTH = 7.5  # px over which the weight falls
TAPER_SIDE = 224  # px; the taper is made for tiles at least this long (Cellpose)

TilingRule = Literal["fitted", "fixed"]


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Where the tiles of one padded image lie.

    Attributes
    ----------
    before : (int, int), px
        Zeros put before the image in y and x.
    padded : (int, int), px
        Size of the padded image.
    tile : (int, int), px
        Size of every tile.
    starts_y, starts_x : tuple of int, px
        First rows and columns of the tiles.
    """

    before: tuple[int, int]
    padded: tuple[int, int]
    tile: tuple[int, int]
    starts_y: tuple[int, ...]
    starts_x: tuple[int, ...]

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        """Yield the tiles' places, row by row."""
        for y in self.starts_y:
            for x in self.starts_x:
                yield slice(y, y + self.tile[0]), slice(x, x + self.tile[1])

    def __len__(self) -> int:
        """Return the number of tiles."""
        return len(self.starts_y) * len(self.starts_x)


def plan_tiles(
    shape: tuple[int, int],
    rule: TilingRule,
    side: int,
    overlap: float,
    multiple: int = MULTIPLE,
) -> TileGrid:
    """Lay a grid of tiles over an image.

    Parameters
    ----------
    shape : (int, int), px
    rule : "fitted" or "fixed"
    side : int, px
        Length of a tile (fixed), or the most it may have (fitted).
    overlap : float
        The part of `side` that neighbouring tiles share at least (fitted), or Cellpose's
        `tile_overlap` (fixed).
    multiple : int, px
        That the sides of fitted tiles are a multiple of: what the network needs, 8 at least.

    Examples
    --------
    >>> plan_tiles((256, 256), "fixed", 224, 0.1).starts_y
    (0, 48)
    >>> plan_tiles((256, 256), "fitted", 640, 0.1).tile
    (272, 272)
    """
    multiple = PAD_MULTIPLE if rule == "fixed" else max(multiple, MULTIPLE)
    pads = [_padding(length, multiple) for length in shape]
    padded = [length + before + after for length, (before, after) in zip(shape, pads, strict=True)]
    place = _fixed_axis if rule == "fixed" else _fitted_axis
    (tile_y, starts_y), (tile_x, starts_x) = (
        place(length, side, overlap, multiple) for length in padded
    )
    return TileGrid(
        (pads[0][0], pads[1][0]), (padded[0], padded[1]), (tile_y, tile_x), starts_y, starts_x
    )


def pad(plane: Float32, grid: TileGrid) -> Float32:
    """Surround a (C, Y, X) plane with the grid's zeros."""
    padded = np.zeros((plane.shape[0], *grid.padded), np.float32)
    y, x = grid.before
    padded[:, y : y + plane.shape[1], x : x + plane.shape[2]] = plane
    return padded


class Blend:
    """Average overlapping tiles, each weighted less towards its edges.

    Parameters
    ----------
    n_maps : int
        Channels of the tiles.
    grid : TileGrid
    """

    def __init__(self, n_maps: int, grid: TileGrid) -> None:
        self._grid = grid
        self._weight = taper(grid.tile)
        self._sum = np.zeros((n_maps, *grid.padded), np.float32)
        self._weights = np.zeros(grid.padded, np.float64)

    def add(self, place: tuple[slice, slice], maps: Float32) -> None:
        """Add one (n_maps, y, x) tile."""
        self._sum[(slice(None), *place)] += maps * self._weight
        self._weights[place] += self._weight

    def result(self, shape: tuple[int, int]) -> Float32:
        """Return the blended maps of the image, padding removed: (n_maps, *shape) float32."""
        y, x = self._grid.before
        place = (slice(y, y + shape[0]), slice(x, x + shape[1]))
        return (self._sum[(slice(None), *place)] / self._weights[place]).astype(np.float32)


def taper(tile: tuple[int, int]) -> Float64:
    """Return the weight of each pixel of a tile: near 1 inside, falling at the edges."""
    side = max(TAPER_SIDE, *tile)
    from_centre = np.abs(np.arange(side) - (side - 1) / 2)
    fall = 1 / (1 + np.exp((from_centre - (side / 2 - TAPER_MARGIN)) / TAPER_WIDTH))
    along_y, along_x = (_centre(fall, length) for length in tile)
    return np.asarray(along_y[:, None] * along_x[None, :])


def _centre(values: Float64, length: int) -> Float64:
    start = len(values) // 2 - length // 2
    return values[start : start + length + length % 2][:length]


def _padding(length: int, multiple: int) -> tuple[int, int]:
    # The margin tells the network where the image ends: without it AP@0.5 fell by 0.05.
    missing = -length % multiple
    return PAD_MARGIN + missing // 2, PAD_MARGIN + missing - missing // 2


def _fixed_axis(
    length: int, side: int, overlap: float, _: int = PAD_MULTIPLE
) -> tuple[int, tuple[int, ...]]:
    overlap = min(0.5, max(0.05, overlap))
    count = 1 if length <= side else math.ceil((1 + 2 * overlap) * length / side)
    return _spread(length, min(side, length), count)


def _fitted_axis(
    length: int, side: int, overlap: float, multiple: int
) -> tuple[int, tuple[int, ...]]:
    side = side // multiple * multiple
    shared = math.ceil(side * overlap)
    count = 1 if length <= side else math.ceil((length - shared) / (side - shared))
    needed = (length + (count - 1) * shared) / count
    return _spread(length, min(side, math.ceil(needed / multiple) * multiple), count)


def _spread(length: int, tile: int, count: int) -> tuple[int, tuple[int, ...]]:
    return tile, tuple(int(start) for start in np.linspace(0, length - tile, count))
