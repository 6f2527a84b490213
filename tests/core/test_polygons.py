"""Outlines along pixel edges: a mask is the same after it was an outline."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellwatch.core.polygons import fill, joined, trace

masks = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def filled(loops, shape):
    part = fill(loops, shape)
    whole = np.zeros(shape, np.bool_)
    height, width = part.pixels.shape
    whole[part.top : part.top + height, part.left : part.left + width] = part.pixels
    return whole


@settings(max_examples=200, deadline=None)
@given(masks)
def test_a_mask_is_the_same_after_it_was_an_outline(mask):
    loops = trace(mask)

    assert bool(loops) == mask.any()
    if loops:
        assert (filled(loops, mask.shape) == mask).all()
        assert (filled([joined(loops)], mask.shape) == mask).all()


def test_a_ring_has_an_outer_and_an_inner_loop():
    ring = np.ones((5, 5), np.bool_)
    ring[2, 2] = False

    outer, inner = trace(ring)

    assert outer.tolist() == [[0, 0], [5, 0], [5, 5], [0, 5]]
    assert sorted(inner.tolist()) == [[2, 2], [2, 3], [3, 2], [3, 3]]


def test_a_circle_of_sub_pixel_corners_fills_as_by_its_centres():
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = np.stack([10 + 6.3 * np.cos(angle), 9 + 6.3 * np.sin(angle)], axis=1)
    y, x = np.mgrid[:20, :20] + 0.5

    assert (filled([circle], (20, 20)) == (np.hypot(y - 9, x - 10) < 6.3)).all()


@pytest.mark.parametrize("shift", [(-3, 0), (0, -3), (17, 0), (0, 18), (90, 90)])
def test_what_lies_outside_the_image_is_cut_off(shift):
    square = np.array([[0, 0], [5, 0], [5, 5], [0, 5]]) + np.array(shift)
    y, x = np.mgrid[:20, :20]
    inside = (x >= shift[0]) & (x < shift[0] + 5) & (y >= shift[1]) & (y < shift[1] + 5)

    assert (filled([square], (20, 20)) == inside).all()
