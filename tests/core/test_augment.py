import numpy as np
import pytest

from cellwatch.core.augment import (
    Warp,
    draw_warp,
    vary_intensities,
    warp_plane,
    warp_targets,
)
from cellwatch.core.flows import flows_of


def discs():
    y, x = np.mgrid[:80, :80]
    labels = np.zeros((80, 80), np.int32)
    labels[np.hypot(y - 30, x - 45) <= 14] = 1
    return labels


@pytest.mark.parametrize("is_flipped", [False, True])
@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2, 3.0])
def test_the_flows_turn_with_the_image(is_flipped, angle):
    labels = discs()
    warp = Warp(is_flipped, angle, 1.2, (3.0, -4.0))
    out = np.zeros((3, 96, 96), np.float32)

    warp_targets(labels, flows_of(labels), warp, out)

    again = flows_of((out[2] > 0).astype(np.int32))
    strong = (np.hypot(*out[:2]) > 0.9) & (np.hypot(*again) > 0.9)
    cosine = (out[:2] * again).sum(axis=0)[strong]
    assert strong.sum() > 300
    assert np.median(cosine) > 0.98


def test_doing_nothing_gives_back_the_image():
    image = np.random.default_rng(0).random((2, 64, 64), np.float32)
    out = np.zeros_like(image)

    warp_plane(image, Warp(False, 0.0, 1.0, (0.0, 0.0)), out)

    np.testing.assert_allclose(out, image, atol=1e-6)


def test_what_lies_outside_the_image_is_zero():
    out = np.ones((1, 50, 50), np.float32)

    warp_plane(np.ones((1, 10, 10), np.float32), Warp(False, 0.3, 1.0, (0.0, 0.0)), out)

    assert out[0, 0].sum() == 0
    assert out.sum() == pytest.approx(100, rel=0.2)


def test_scales_stay_in_their_range_and_crops_in_the_image():
    rng = np.random.default_rng(0)

    draws = [draw_warp((300, 400), 224, 2.0, rng) for _ in range(300)]

    scales = [warp.scale for warp in draws]
    assert 1.5 <= min(scales) < 1.55
    assert 2.45 < max(scales) <= 2.5
    for warp in draws:
        assert abs(warp.shift[0]) <= (400 * warp.scale - 224) / 2
        assert abs(warp.shift[1]) <= (300 * warp.scale - 224) / 2


def test_equal_seeds_draw_equal_warps():
    first, second = (draw_warp((90, 90), 64, 1, np.random.default_rng(4)) for _ in range(2))

    assert first == second


def test_intensities_are_varied_and_what_lies_beyond_the_image_stays_nothing():
    rng = np.random.default_rng(3)
    tile = np.zeros((2, 48, 48), np.float32)
    tile[0, 4:44, 4:44] = rng.uniform(0.01, 1, (40, 40))
    before = tile.copy()

    vary_intensities(tile, np.random.default_rng(5))

    assert not np.allclose(tile[0, 4:44, 4:44], before[0, 4:44, 4:44])
    assert (tile[0][before[0] == 0] == 0).all()
    assert not tile[1].any()
    assert np.corrcoef(tile[0].ravel(), before[0].ravel())[0, 1] > 0.6
    again = before.copy()
    vary_intensities(again, np.random.default_rng(5))
    np.testing.assert_array_equal(again, tile)
