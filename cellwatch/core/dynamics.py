"""Follow the flows: move each foreground pixel until it rests at its ROI's centre.

The numba kernel is the one that CPUs use; `follow_flows_on` is its twin for CUDA and gives the same
end points but for rounding. Both sample the flows bilinearly at the border-clipped position, as
Cellpose does on the CPU.

References
----------
Stringer et al. 2021, Nat Methods 18:100, Methods "Gradient flow tracking".
"""

import numpy as np
import torch
from numba import njit, prange

from cellwatch.core.arrays import Bool, Float32, Int32, Int64

STEPS = 200  # at the network's own diameter (Cellpose, niter)
BLOCK = 64  # pixels that are moved together
# Steps after which a block is compared with where it was. Near a centre a pixel does not rest, it
# swings between two or three positions: where all are back, the remaining steps change nothing.
ROUND = 6


def follow_flows(flows: Float32, foreground: Bool, steps: int) -> Int32:
    """Move every foreground pixel along the flows.

    Parameters
    ----------
    flows : (2, Y, X) float32
        Unit vectors in y and x; taken as 0 outside the foreground.
    foreground : (Y, X) bool
    steps : int
        Number of Euler steps of one pixel.

    Returns
    -------
    (n, 2) int32
        Where the n foreground pixels, in raster order, came to rest: y and x, truncated.
    """
    starts = np.argwhere(foreground)
    held = np.where(foreground, flows, np.float32(0))
    field = np.ascontiguousarray(np.moveaxis(held, 0, -1), dtype=np.float32)  # (Y, X, 2)
    return _follow(field, starts, steps)  # type: ignore[no-any-return]  # numba is untyped


def follow_flows_on(device: torch.device, flows: Float32, foreground: Bool, steps: int) -> Int32:
    """Do what `follow_flows` does, on a torch device."""
    starts = np.argwhere(foreground)
    field = torch.from_numpy(flows * foreground).to(device).flatten(1)  # (2, Y * X)
    limits = torch.tensor(foreground.shape, device=device)[:, None] - 1
    points = torch.from_numpy(starts.T.astype(np.float32)).to(device)  # (2, n)
    for _ in range(steps):
        moved = points + _sample(field, points, limits)
        points = torch.minimum(moved.clamp_min(0), limits.float())
    return points.to(torch.int32).T.contiguous().cpu().numpy()


def _sample(field: torch.Tensor, points: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
    corner = points.floor()
    part_y, part_x = points - corner  # (n,) each
    y0, x0 = corner.long()
    y1, x1 = torch.minimum(torch.stack([y0, x0]) + 1, limits)
    width = limits[1] + 1
    top = field[:, y0 * width + x0] * (1 - part_x) + field[:, y0 * width + x1] * part_x
    bottom = field[:, y1 * width + x0] * (1 - part_x) + field[:, y1 * width + x1] * part_x
    moved: torch.Tensor = top * (1 - part_y) + bottom * part_y  # (2, n)
    return moved


@njit(cache=True, nogil=True, parallel=True)
def _follow(field: Float32, starts: Int64, steps: int) -> Int32:
    flat, shape = field.reshape(-1), field.shape
    ends = np.empty((len(starts), 2), np.int32)
    for block in prange((len(starts) + BLOCK - 1) // BLOCK):
        first = block * BLOCK
        last = min(first + BLOCK, len(starts))
        y, x = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
        y[: last - first], x[: last - first] = starts[first:last, 0], starts[first:last, 1]
        left = steps
        while left > 0:
            y_before, x_before = y.copy(), x.copy()
            _advance(flat, shape, y, x, min(ROUND, left))
            left -= min(ROUND, left)
            if _are_equal(y, y_before) and _are_equal(x, x_before):
                # They rest, or run in circles: further rounds would come back to here.
                _advance(flat, shape, y, x, left % ROUND)
                break
        for i in range(first, last):
            ends[i, 0], ends[i, 1] = int(y[i - first]), int(x[i - first])
    return ends


@njit(cache=True, nogil=True)
def _are_equal(first: Float32, second: Float32) -> bool:
    differ = False
    for i in range(len(first)):
        differ |= first[i] != second[i]
    return not differ


@njit(cache=True, nogil=True, error_model="numpy")
def _advance(flat: Float32, shape: tuple[int, int, int], y: Float32, x: Float32, n: int) -> None:
    # The inner loop has no branch and unsigned indices, so that it becomes vector instructions.
    one, two = np.float32(1), np.uint32(2)
    bottom, right = np.int32(shape[0] - 1), np.int32(shape[1] - 1)
    width = np.uint32(shape[1])
    for _ in range(n):
        for i in range(BLOCK):
            y0, x0 = np.int32(y[i]), np.int32(x[i])
            y1, x1 = min(y0 + np.int32(1), bottom), min(x0 + np.int32(1), right)
            fy, fx = y[i] - np.float32(y0), x[i] - np.float32(x0)
            a, b = (one - fy) * (one - fx), (one - fy) * fx
            c, d = fy * (one - fx), fy * fx
            upper, lower = np.uint32(y0) * width, np.uint32(y1) * width
            at_a, at_b = two * (upper + np.uint32(x0)), two * (upper + np.uint32(x1))
            at_c, at_d = two * (lower + np.uint32(x0)), two * (lower + np.uint32(x1))
            step_y = a * flat[at_a] + b * flat[at_b]
            step_y += c * flat[at_c] + d * flat[at_d]
            step_x = a * flat[at_a + np.uint32(1)] + b * flat[at_b + np.uint32(1)]
            step_x += c * flat[at_c + np.uint32(1)] + d * flat[at_d + np.uint32(1)]
            y[i] = min(max(y[i] + step_y, np.float32(0)), np.float32(bottom))
            x[i] = min(max(x[i] + step_x, np.float32(0)), np.float32(right))
