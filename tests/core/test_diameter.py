import numpy as np
import pytest

from cellwatch.core.diameter import SizeModel, fit_size_model, median_diameter


def test_a_size_model_recovers_what_made_the_styles():
    rng = np.random.default_rng(0)
    slope = rng.normal(size=16)
    styles = rng.normal(size=(3000, 16)).astype(np.float32)
    diameters = 30 * np.exp(styles @ slope * 0.3 + 0.1)

    model = fit_size_model(styles[:2000], diameters[:2000], diam_mean=30)

    estimates = [model.estimate(style) for style in styles[2000:]]
    errors = np.abs(np.log(estimates) - np.log(np.maximum(5, diameters[2000:])))
    assert np.median(errors) < 0.01


def test_an_estimate_is_never_below_the_smallest_diameter():
    model = SizeModel(np.array([-100.0]), np.array([0.0]), 30.0, 0.0)

    assert model.estimate(np.array([1.0], np.float32)) == 5


def test_the_formula_is_cellposes():
    weights, mean = np.array([0.5, -1.0]), np.array([0.1, 0.2])
    style = np.array([0.6, 0.8], np.float32)

    estimate = SizeModel(weights, mean, 17.0, 0.3).estimate(style)

    assert estimate == pytest.approx(np.exp(weights @ (style - mean) + np.log(17) + 0.3))


def test_the_median_is_that_of_the_roots_of_areas():
    labels = np.zeros((20, 20), np.int32)
    labels[:2, :2], labels[5:9, 5:9], labels[10:18, 10:18] = 1, 2, 3

    assert median_diameter(labels) == pytest.approx(4 * 2 / np.sqrt(np.pi))
    assert median_diameter(np.zeros((4, 4), np.int32)) == 0
