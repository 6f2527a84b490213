import numpy as np
import pytest
import torch

from cellwatch.core.dynamics import follow_flows, follow_flows_on
from cellwatch.core.flows import flows_of
from cellwatch.core.labels import labels_from_endpoints
from tests.discs import disc_picture
from tests.reference import segmentation as reference


def noisy_field(seed=0):
    _, labels = disc_picture(seed, size=96, n=6)
    rng = np.random.default_rng(seed)
    flows = flows_of(labels) + rng.normal(0, 0.1, (2, 96, 96)).astype(np.float32)
    return flows.astype(np.float32), labels > 0, labels


def test_following_the_flows_of_discs_gives_back_the_discs():
    _, labels = disc_picture(1)

    endpoints = follow_flows(flows_of(labels), labels > 0, 200)
    found = labels_from_endpoints(endpoints, labels > 0)

    pairs = {(a, b) for a, b in zip(labels.ravel(), found.ravel(), strict=True)}
    assert len(pairs) == labels.max() + 1
    assert found.max() == labels.max()


def test_the_kernel_equals_the_slow_twin():
    flows, foreground, _ = noisy_field()

    fast = follow_flows(flows, foreground, 50)
    slow = reference.follow(flows, foreground, 50)

    assert (np.abs(fast - slow).max(axis=1) <= 1).mean() > 0.995
    assert (fast == slow).all(axis=1).mean() > 0.97


def test_the_torch_twin_equals_the_kernel():
    flows, foreground, _ = noisy_field(5)

    twin = follow_flows_on(torch.device("cpu"), flows, foreground, 100)

    np.testing.assert_array_equal(follow_flows(flows, foreground, 100), twin)


def walk_of_all_steps(flows, foreground, steps):
    """Do every step, rounding each operation as the kernel does."""
    field = np.where(foreground, flows, np.float32(0))
    bottom, right = (n - 1 for n in foreground.shape)
    y, x = np.argwhere(foreground).T.astype(np.float32)
    for _ in range(steps):
        y0, x0 = y.astype(int), x.astype(int)
        y1, x1 = np.minimum(y0 + 1, bottom), np.minimum(x0 + 1, right)
        fy, fx = y - y0.astype(np.float32), x - x0.astype(np.float32)
        a, b, c, d = (1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx
        upper = a * field[:, y0, x0] + b * field[:, y0, x1]
        step_y, step_x = upper + (c * field[:, y1, x0] + d * field[:, y1, x1])
        y, x = np.clip(y + step_y, 0, np.float32(bottom)), np.clip(x + step_x, 0, np.float32(right))
    return np.stack([y, x], axis=1).astype(np.int32)


@pytest.mark.parametrize("steps", [*range(8), 11, 61, 200])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (37, 3), (40, 70)])
def test_a_walk_that_is_cut_short_ends_where_the_whole_one_does(shape, steps):
    # No centre pulls here: blocks of pixels that swing, rest, drift and lean on the border.
    rng = np.random.default_rng(shape[1] + steps)
    flows = rng.normal(0, 0.7, (2, *shape)).astype(np.float32)
    foreground = rng.random(shape) < 0.8
    foreground.flat[0] = True

    walked = follow_flows(flows, foreground, steps)

    np.testing.assert_array_equal(walked, walk_of_all_steps(flows, foreground, steps))


def test_points_stay_inside_the_image():
    flows = np.full((2, 12, 10), -1, np.float32)
    foreground = np.ones((12, 10), bool)

    endpoints = follow_flows(flows, foreground, 30)

    assert not endpoints.any()


@pytest.mark.gpu
def test_the_torch_twin_on_a_gpu_equals_the_kernel():
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    flows, foreground, _ = noisy_field(5)

    twin = follow_flows_on(torch.device("cuda"), flows, foreground, 100)

    assert (follow_flows(flows, foreground, 100) == twin).all(axis=1).mean() > 0.999
