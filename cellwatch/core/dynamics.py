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
    height, width = field.shape[0], field.shape[1]
    one = np.float32(1)
    ends = np.empty((len(starts), 2), np.int32)
    for i in prange(len(starts)):
        y, x = np.float32(starts[i, 0]), np.float32(starts[i, 1])
        for _ in range(steps):
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            fy, fx = y - np.float32(y0), x - np.float32(x0)
            a, b = (one - fy) * (one - fx), (one - fy) * fx
            c, d = fy * (one - fx), fy * fx
            step_y = a * field[y0, x0, 0] + b * field[y0, x1, 0]
            step_y += c * field[y1, x0, 0] + d * field[y1, x1, 0]
            step_x = a * field[y0, x0, 1] + b * field[y0, x1, 1]
            step_x += c * field[y1, x0, 1] + d * field[y1, x1, 1]
            if step_y == 0 and step_x == 0:
                break
            y = min(max(y + step_y, np.float32(0)), np.float32(height - 1))
            x = min(max(x + step_x, np.float32(0)), np.float32(width - 1))
        ends[i, 0], ends[i, 1] = int(y), int(x)
    return ends
