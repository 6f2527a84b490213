"""Sharpness falls with focus, background with the light, whatever cells there are."""

import numpy as np
import pytest

from cellwatch.core.quality import background, sharpness
from cellwatch.workflows.simulate import Optics, expose, render_cells


def picture(seed, psf=1.2, size=256):
    rng = np.random.default_rng(seed)
    optics = Optics(diameter=18, density=0.15, psf=psf)
    return expose(render_cells(size, optics, rng)[0], optics, rng)


@pytest.mark.parametrize("seed", range(4))
def test_a_picture_out_of_focus_is_less_sharp(seed):
    assert sharpness(picture(seed, psf=5)) < 0.75 * sharpness(picture(seed))


def test_the_background_is_the_level_of_the_dark_parts():
    assert background(picture(0) + 300) == pytest.approx(background(picture(0)) + 300, abs=1)
    assert background(np.array([[np.nan, np.inf], [4, 4]])) == 4
    assert background(np.full((2, 2), np.nan)) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 5), (7, 6)])
def test_small_and_constant_pictures_have_a_value(shape):
    assert sharpness(np.zeros(shape)) == 0
    assert 0 <= sharpness(np.random.default_rng(0).normal(size=shape)) < 3
    assert np.isfinite(sharpness(np.full(shape, np.inf)))
