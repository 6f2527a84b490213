"""Turn a label image into flows: at each pixel, the direction to its ROI's centre.

Heat is poured into each ROI at its centre and spreads through the ROI alone; the direction in
which the heat rises is the flow. The network learns these flows, and the flow-error check compares
the flows of the ROIs it found with those it predicted.

References
----------
Stringer et al. 2021, Nat Methods 18:100, Methods "Creating vector flows from labels". The number of
steps and the unlogged heat are those of Cellpose 3.1.
"""

import numpy as np
from numba import njit, prange

from cellwatch.core.arrays import Float32, Float64, Int32, Int64

FLOW_EPSILON = 1e-60  # defines the direction where no heat arrived (Cellpose 3, masks_to_flows)


def flows_of(labels: Int32) -> Float32:
    """Compute the flows of a label image.

    Parameters
    ----------
    labels : (Y, X) int32
        0 = background, 1..n; gaps are allowed.

    Returns
    -------
    (2, Y, X) float32
        Unit vectors (y, x) towards the centre of each ROI; 0 in the background and at a centre
        around which the heat is even. An ROI in several pieces has flows only in the piece that
        holds its centre: heat does not cross the background.
    """
    labels = np.ascontiguousarray(labels, dtype=np.int32)
    boxes = bounding_boxes(labels)
    flows = np.zeros((2, *labels.shape), np.float32)
    _diffuse_all(labels, boxes, roi_centres(labels, boxes), flows)
    return flows


def bounding_boxes(labels: Int32) -> Int64:
    """Return the bounding box of every ROI.

    Parameters
    ----------
    labels : (Y, X) int32

    Returns
    -------
    (n, 4) int64
        Row k is y0, y1, x0, x1 of ROI k + 1, ends exclusive; y1 = 0 for a label with no pixels.
    """
    return _bounding_boxes(labels, int(labels.max(initial=0)))  # type: ignore[no-any-return]  # numba


def roi_centres(labels: Int32, boxes: Int64) -> Int64:
    """Return the pixel of each ROI that is nearest to the mean of its pixels.

    Parameters
    ----------
    labels : (Y, X) int32
    boxes : (n, 4) int64
        As `bounding_boxes` returns them.

    Returns
    -------
    (n, 2) int64, y and x. Ties go to the pixel found first in raster order.
    """
    return _roi_centres(labels, boxes)  # type: ignore[no-any-return]  # numba


@njit(cache=True, nogil=True)
def _bounding_boxes(labels: Int32, n_labels: int) -> Int64:
    boxes = np.zeros((n_labels, 4), np.int64)
    boxes[:, 0] = labels.shape[0]
    boxes[:, 2] = labels.shape[1]
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if label > 0:
                box = boxes[label - 1]
                box[0] = min(box[0], y)
                box[1] = y + 1
                box[2] = min(box[2], x)
                box[3] = max(box[3], x + 1)
    return boxes


@njit(cache=True, nogil=True)
def _roi_centres(labels: Int32, boxes: Int64) -> Int64:
    centres = np.zeros((len(boxes), 2), np.int64)
    for k in range(len(boxes)):
        y0, y1, x0, x1 = boxes[k]
        n, sum_y, sum_x = 0, 0, 0
        for y in range(y0, y1):
            for x in range(x0, x1):
                if labels[y, x] == k + 1:
                    n += 1
                    sum_y += y
                    sum_x += x
        if n == 0:
            continue
        nearest = np.inf
        for y in range(y0, y1):
            for x in range(x0, x1):
                if labels[y, x] == k + 1:
                    distance = (y - sum_y / n) ** 2 + (x - sum_x / n) ** 2
                    if distance < nearest:
                        nearest = distance
                        centres[k] = y, x
    return centres


@njit(cache=True, nogil=True, parallel=True)
def _diffuse_all(labels: Int32, boxes: Int64, centres: Int64, flows: Float32) -> None:
    for k in prange(len(boxes)):
        if boxes[k, 1] > 0:
            _diffuse_one(labels, k + 1, boxes[k], centres[k], flows)


@njit(cache=True, nogil=True)
def _diffuse_one(labels: Int32, label: int, box: Int64, centre: Int64, flows: Float32) -> None:
    y0, y1, x0, x1 = box
    height, width = y1 - y0, x1 - x0
    inside = np.zeros((height + 2, width + 2), np.float64)
    for y in range(height):
        for x in range(width):
            if labels[y0 + y, x0 + x] == label:
                inside[y + 1, x + 1] = 1.0 / 9.0
    heat = _spread_heat(inside, centre[0] - y0 + 1, centre[1] - x0 + 1)
    for y in range(1, height + 1):
        for x in range(1, width + 1):
            if inside[y, x] > 0:
                dy = heat[y + 1, x] - heat[y - 1, x]
                dx = heat[y, x + 1] - heat[y, x - 1]
                norm = FLOW_EPSILON + np.sqrt(dy * dy + dx * dx)
                flows[0, y0 + y - 1, x0 + x - 1] = dy / norm
                flows[1, y0 + y - 1, x0 + x - 1] = dx / norm


@njit(cache=True, nogil=True)
def _spread_heat(ninth: Float64, centre_y: int, centre_x: int) -> Float64:
    # A step replaces each pixel of the ROI by the mean of its 3x3 neighbourhood. The sum of nine
    # is taken as columns, then rows: 4 additions a pixel in loops that vectorise. The outer two are
    # added first, so that a symmetric ROI keeps exactly symmetric heat. Heat travels one pixel a
    # step, so only the square it can have reached is touched.
    height, width = ninth.shape
    heat = np.zeros((height, width), np.float64)
    columns = np.zeros((3, width), np.float64)
    for step in range(2 * (height + width)):
        heat[centre_y, centre_x] += 1.0
        top, bottom = max(1, centre_y - step - 1), min(height - 1, centre_y + step + 2)
        left, right = max(1, centre_x - step - 1), min(width - 1, centre_x + step + 2)
        above, here = columns[0], columns[1]
        above[left - 1 : right + 1] = heat[top - 1, left - 1 : right + 1]
        for y in range(top, bottom):
            for x in range(left - 1, right + 1):
                here[x] = (above[x] + heat[y + 1, x]) + heat[y, x]
            for x in range(left - 1, right + 1):
                above[x] = heat[y, x]
            for x in range(left, right):
                heat[y, x] = ((here[x - 1] + here[x + 1]) + here[x]) * ninth[y, x]
    return heat
