import numpy as np
import pytest

from cellwatch.core.image import (
    cleaned,
    contrast,
    is_blank,
    normalise,
    percentiles,
    resize,
    scaled_shape,
    with_channels,
)
from cellwatch.core.parameters import Normalisation
from cellwatch.images import load
from cellwatch.workflows.simulate import Optics, expose


def test_percentiles_become_zero_and_one():
    plane = np.arange(10_000, dtype=np.float32).reshape(1, 100, 100)

    scaled = normalise(plane, percentiles(plane, Normalisation()))

    np.testing.assert_allclose(np.percentile(scaled, [1, 99]), [0, 1], atol=1e-5)
    assert scaled.max() > 1


def test_each_channel_is_scaled_by_itself_and_a_flat_one_becomes_zero():
    plane = np.stack([np.linspace(0, 9, 100), np.full(100, 7.0)]).reshape(2, 10, 10)

    scaled = normalise(plane.astype(np.float32), percentiles(plane, Normalisation()))

    assert scaled[0].max() > 0.9
    assert not scaled[1].any()


def test_pixels_that_are_not_numbers_are_left_out_and_become_zero():
    plane = np.linspace(0, 1, 100, dtype=np.float32).reshape(1, 10, 10)
    plane[0, 0, 0], plane[0, 5, 5] = np.nan, np.inf

    scaled = normalise(plane, percentiles(plane, Normalisation()))

    assert np.isfinite(scaled).all()
    assert scaled[0, 0, 0] == scaled[0, 5, 5] == 0


def test_a_channel_of_nothing_but_nan_is_flat():
    plane = np.full((1, 8, 8), np.nan, np.float32)

    assert contrast(percentiles(plane, Normalisation())) == 0


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("level", [0, 5, 100, 3000])
def test_a_field_of_camera_noise_is_blank(seed, level):
    rng = np.random.default_rng(seed)
    field = rng.poisson(level, (512, 512)) + rng.normal(100, 4, (512, 512))

    assert is_blank(field.astype(np.uint16).astype(np.float32))


def test_one_dim_small_cell_in_a_large_field_is_not_blank():
    rng = np.random.default_rng(0)
    field = rng.normal(100, 10, (1024, 1024)).astype(np.float32)
    y, x = np.mgrid[:1024, :1024]
    field[np.hypot(y - 500, x - 300) <= 6] += 25  # 2.5 sigma high, 12 px across

    assert not is_blank(field)


@pytest.mark.parametrize("photons", [50, 900, 5000])
@pytest.mark.parametrize("seed", range(3))
def test_a_blank_field_under_uneven_light_is_blank(photons, seed):
    optics = Optics(photons=photons, shading=0.6)
    field = expose(np.zeros((512, 512)), optics, np.random.default_rng(seed))

    assert is_blank(field.astype(np.float32))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_no_real_image_is_called_blank(shared):
    for path in sorted((shared / "data").rglob("*_img.tif")):
        image = load(path)
        labels = load(path.with_name(path.name.replace("_img", "_masks"))).pixels
        if labels.any():
            assert not is_blank(image.pixels[0, 0, 0, 0].astype(np.float32)), path


def test_resizing_a_ramp_keeps_it_a_ramp():
    ramp = np.tile(np.arange(32, dtype=np.float32), (1, 16, 1))

    small = resize(ramp, (8, 16))

    np.testing.assert_allclose(small[0, 3], np.arange(16) * 2 + 0.5, atol=1e-5)
    assert resize(ramp, (16, 32)) is ramp


def test_sizes_are_truncated_and_never_vanish():
    assert scaled_shape((101, 3), 0.1) == (10, 1)


def test_missing_channels_are_zeros():
    plane = np.ones((1, 4, 4), np.float32)

    assert with_channels(plane, 2)[1].any() is np.False_
    assert with_channels(plane, 1) is plane


def test_c19_values_between_0_and_a_thousandth_are_no_constant_image():
    plane = np.linspace(0, 0.001, 100, dtype=np.float32).reshape(1, 10, 10)

    scaled = normalise(plane, percentiles(plane, Normalisation()))

    np.testing.assert_allclose(np.percentile(scaled, [1, 99]), [0, 1], atol=1e-4)


@pytest.mark.parametrize("value", [-9999.0, -32768.0, -5000.0])
def test_c19_a_stripe_without_data_does_not_set_the_percentiles(value):
    plane = np.random.default_rng(0).uniform(100, 900, (1, 64, 64)).astype(np.float32)
    plane[0, :3] = value

    mended, notes = cleaned(plane)

    assert np.isnan(mended[0, :3]).all()
    assert percentiles(mended, Normalisation())[0][0] > 90
    assert notes == (f"192 px hold {value:g}: taken for no data, and left out",)


def test_c19_negative_intensities_are_data():
    plane = np.random.default_rng(0).normal(0, 50, (1, 64, 64)).astype(np.float32)

    mended, notes = cleaned(plane)

    assert mended is plane
    assert notes == ()


@pytest.mark.parametrize("cell", [0.2, 3.0])
def test_c19_a_dark_background_is_data_whatever_lies_on_it(cell):
    plane = np.full((1, 64, 64), -1, np.float32)
    plane[0, 10:30, 10:30] = cell
    plane[0, 40:50, 40:50] = cell * 1.5

    mended, notes = cleaned(plane)

    assert mended is plane
    assert notes == ()


def test_f43_infinitely_dark_pixels_are_said_to_be_dark_and_are_no_missing_data():
    plane = np.random.default_rng(0).uniform(98, 104, (1, 64, 64)).astype(np.float32)
    plane[0, 20:30, 20:30] = -np.inf

    mended, notes = cleaned(plane)

    assert mended[0, 25, 25] < 98
    assert notes == ("100 px are infinite: taken as darkest",)


def test_f43_infinite_cells_are_brighter_than_all_else():
    plane = np.random.default_rng(0).uniform(98, 104, (1, 64, 64)).astype(np.float32)
    plane[0, 20:30, 20:30] = np.inf

    mended, notes = cleaned(plane)
    scaled = normalise(mended, percentiles(mended, Normalisation()))

    assert scaled[0, 25, 25] > 2 * np.median(scaled) > 0
    assert notes == ("100 px are infinite: taken as brightest",)
