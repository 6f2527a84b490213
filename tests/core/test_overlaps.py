import numpy as np
import pytest

from cellwatch.core.overlaps import RoiMask, flatten_rois, roi_stack
from tests.reference.overlaps import flatten_slowly


def disc(shape, centre, radius):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(y - centre[0], x - centre[1]) <= radius


def test_rois_that_do_not_overlap_stay_as_they_are():
    stack = np.stack([disc((40, 60), (12, 12), 8), disc((40, 60), (25, 45), 9)])

    flat = flatten_rois(roi_stack(stack), (40, 60))

    np.testing.assert_array_equal(flat.labels, stack[0] + 2 * stack[1])
    assert (flat.removed, flat.lost, flat.overlapping_pixels) == ((), (), 0)


def test_pixels_of_two_rois_go_to_the_nearest_centroid():
    stack = np.stack([disc((40, 60), (20, 20), 10), disc((40, 60), (20, 34), 10)])

    flat = flatten_rois(roi_stack(stack), (40, 60))

    assert flat.labels[20, 26] == 1
    assert flat.labels[20, 28] == 2
    assert flat.overlapping_pixels == (stack[0] & stack[1]).sum()
    assert (flat.labels > 0).sum() == (stack[0] | stack[1]).sum()


def test_a_roi_that_is_mostly_covered_is_removed_and_named():
    large, small = disc((60, 60), (30, 30), 20), disc((60, 60), (30, 40), 6)

    flat = flatten_rois(roi_stack(np.stack([small, large])), (60, 60))

    assert flat.removed == (0,)
    np.testing.assert_array_equal(flat.labels, large)


def test_of_two_equal_rois_one_stays():
    one = disc((30, 30), (15, 15), 7)

    flat = flatten_rois(roi_stack(np.stack([one, one])), (30, 30))

    assert len(flat.removed) == 1
    np.testing.assert_array_equal(flat.labels, one)


def test_an_empty_plane_is_lost_and_said():
    one = disc((30, 30), (15, 15), 7)

    flat = flatten_rois(roi_stack(np.stack([np.zeros_like(one), one])), (30, 30))

    assert flat.lost == (0,)
    assert flat.labels.max() == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_fast_way_agrees_with_the_slow_one(seed):
    rng = np.random.default_rng(seed)
    stack = np.stack(
        [disc((50, 50), rng.integers(5, 45, 2), rng.integers(4, 12)) for _ in range(9)]
    )

    flat = flatten_rois(roi_stack(stack), (50, 50))

    labels, removed = flatten_slowly(stack)
    np.testing.assert_array_equal(flat.labels, labels)
    assert flat.removed == removed


def test_a_window_is_placed_where_it_belongs():
    flat = flatten_rois([RoiMask(5, 7, np.ones((2, 3), np.bool_))], (10, 12))

    assert flat.labels[5:7, 7:10].all()
    assert flat.labels.sum() == 6
