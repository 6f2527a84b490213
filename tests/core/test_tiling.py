import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellwatch.core.tiling import Blend, pad, plan_tiles, taper

sides = st.integers(1, 700)


@settings(max_examples=150, deadline=None)
@given(sides, sides, st.sampled_from(["fitted", "fixed"]), st.sampled_from([224, 320, 640]))
def test_tiles_cover_every_pixel_and_no_tile_is_too_long(height, width, rule, side):
    grid = plan_tiles((height, width), rule, side, 0.1)

    covered = np.zeros(grid.padded, int)
    for place in grid:
        covered[place] += 1

    assert covered.min() >= 1
    assert max(grid.tile) <= side
    assert all(length % 8 == 0 for length in grid.tile)
    assert all(length % (16 if rule == "fixed" else 8) == 0 for length in grid.padded)


@settings(max_examples=40, deadline=None)
@given(sides, sides)
def test_fitted_tiles_hold_at_most_half_again_the_padded_image(height, width):
    grid = plan_tiles((height, width), "fitted", 640, 0.1)

    assert len(grid) * grid.tile[0] * grid.tile[1] <= 1.5 * grid.padded[0] * grid.padded[1]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300))
def test_blending_the_tiles_of_an_image_gives_back_the_image(height, width):
    image = np.random.default_rng(0).random((2, height, width), np.float32)
    grid = plan_tiles((height, width), "fitted", 128, 0.1)
    padded = pad(image, grid)
    blend = Blend(2, grid)

    for place in grid:
        blend.add(place, padded[(slice(None), *place)])

    np.testing.assert_allclose(blend.result((height, width)), image, atol=1e-5)


def test_a_small_image_is_one_tile_of_its_own_size():
    grid = plan_tiles((256, 256), "fitted", 640, 0.1)

    assert len(grid) == 1
    assert grid.tile == (272, 272)


def test_the_taper_is_even_and_falls_towards_the_edges():
    weights = taper((224, 224))

    np.testing.assert_allclose(weights, weights[::-1, ::-1])
    assert weights[112, 112] > 0.99
    assert weights[0, 112] < 0.1
    assert weights.max() == pytest.approx(weights[112, 112])
