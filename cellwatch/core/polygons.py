"""Outlines of pixel masks as polygons and back, exactly.

Corners of pixels have whole coordinates: the pixel in the corner of the image reaches from 0 to 1
in x and y. A mask's outline runs along the edges of its pixels, so that filling it by pixel
centres gives the mask again: no ROI loses a pixel on its way through another program.
"""

from collections.abc import Sequence

import numpy as np

from cellwatch.core.arrays import Bool, Float64, Int64
from cellwatch.core.overlaps import RoiMask


def trace(mask: Bool) -> list[Int64]:
    """Return the loops along the pixel edges of a mask.

    Parameters
    ----------
    mask : (h, w) bool

    Returns
    -------
    list of (n, 2) int64
        x and y of each loop's corners, collinear ones left out, not closed. Outer loops run
        clockwise on the screen, those of holes the other way.

    Examples
    --------
    >>> trace(np.ones((1, 2), bool))[0].tolist()
    [[0, 0], [2, 0], [2, 1], [0, 1]]
    """
    following = _edges(mask)
    loops = []
    while following:
        start = next(iter(following))
        loop, at = [start], following[start].pop()
        came = (at[0] - start[0], at[1] - start[1])
        if not following[start]:
            del following[start]
        while at != start:
            loop.append(at)
            ends = following[at]
            # Where two pixels touch by a corner alone the loop turns right: it stays with its own.
            right = (at[0] - came[1], at[1] + came[0])
            end = right if right in ends else ends[0]
            ends.remove(end)
            if not ends:
                del following[at]
            came = (end[0] - at[0], end[1] - at[1])
            at = end
        loops.append(_without_collinear(np.array(loop, np.int64)))
    return loops


def joined(loops: Sequence[Int64]) -> Int64:
    """Return one closed path over several loops, for programs that know no holes.

    Parameters
    ----------
    loops : sequence of (n, 2) int64

    Returns
    -------
    (m, 2) int64
        The bridges between loops run along pixel edges, each forth and back, so that they enclose
        nothing and no pixel's centre lies on them.
    """
    if len(loops) == 1:
        return loops[0].copy()
    start = loops[0][:1]
    path = [loops[0], start]
    for loop in loops[1:]:
        corner = np.array([[loop[0, 0], start[0, 1]]], np.int64)
        path += [corner, loop, loop[:1], corner, start]
    return np.concatenate(path)


def fill(loops: Sequence[Float64 | Int64], shape: tuple[int, int]) -> RoiMask:
    """Fill loops: a pixel belongs to them when its centre does, by the even-odd rule.

    Parameters
    ----------
    loops : sequence of (n, 2)
        x and y of corners; a loop inside another is a hole.
    shape : (int, int), px
        Of the image; what lies outside is cut off.

    Returns
    -------
    RoiMask
        Its window is the loops' bounding box within the image; it may be empty.

    Examples
    --------
    >>> fill([np.array([[0, 0], [2, 0], [2, 1], [0, 1]])], (3, 3)).pixels
    array([[ True,  True]])
    """
    points = np.concatenate([np.asarray(loop, np.float64) for loop in loops])
    limits = np.array([shape[1], shape[0]], np.float64)
    low = np.clip(np.floor(points.min(axis=0)), 0, limits).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)), 0, limits).astype(int)
    (left, top), (right, bottom) = low, high
    filled = np.zeros((max(0, bottom - top), max(0, right - left)), np.bool_)
    # All edges of all loops: a scan line enters and leaves where it crosses one.
    starts = np.concatenate([np.asarray(loop, np.float64) for loop in loops]) - low
    ends = np.concatenate([np.roll(np.asarray(loop, np.float64), -1, 0) for loop in loops]) - low
    for row in range(filled.shape[0]):
        level = row + 0.5
        crosses = (starts[:, 1] <= level) != (ends[:, 1] <= level)
        x, y = starts[crosses].T
        end_x, end_y = ends[crosses].T
        at = np.sort(x + (level - y) / (end_y - y) * (end_x - x))
        columns = np.clip(np.ceil(at - 0.5), 0, filled.shape[1]).astype(int)
        for begin, end in zip(columns[::2], columns[1::2], strict=True):
            filled[row, begin:end] = True
    return RoiMask(int(top), int(left), filled)


def _edges(mask: Bool) -> dict[tuple[int, int], list[tuple[int, int]]]:
    # By corner: the corners that an edge of the outline leads to, the mask on its right.
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # above: from the left corner to the right one
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for beyond, (from_x, from_y), (to_x, to_y) in sides:
        rows, columns = np.nonzero(inside & ~beyond)
        for y, x in zip(rows.tolist(), columns.tolist(), strict=True):
            following.setdefault((x + from_x, y + from_y), []).append((x + to_x, y + to_y))
    return following


def _without_collinear(loop: Int64) -> Int64:
    before, after = np.roll(loop, 1, 0), np.roll(loop, -1, 0)
    turns = ((loop - before) * (after - loop)).sum(axis=1) == 0
    corners: Int64 = loop[turns]
    return corners
