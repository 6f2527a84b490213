"""Measurements equal those of scikit-image, and hold where there is little to measure."""

import math

import numpy as np
import pytest
from skimage.measure import regionprops_table

from cellwatch.core.measure import measure
from cellwatch.training.specimens.shapes import blobs, ragged, spindles, tidied

SAME = {
    "label": "label",
    "area_px": "area",
    "diameter_px": "equivalent_diameter_area",
    "y_px": "centroid-0",
    "x_px": "centroid-1",
    "y0": "bbox-0",
    "x0": "bbox-1",
    "y1": "bbox-2",
    "x1": "bbox-3",
    "eccentricity": "eccentricity",
    "solidity": "solidity",
    "mean_GFP": "intensity_mean",
    "min_GFP": "intensity_min",
    "max_GFP": "intensity_max",
}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [blobs, spindles])
def test_measurements_equal_those_of_scikit_image(seed, shape):
    rng = np.random.default_rng(seed)
    labels = tidied(ragged(rng, shape(rng, 160, 22.0), 22.0), 22.0)
    labels[labels == 2] = 0  # numbers may have gaps
    channel = rng.integers(0, 60_000, labels.shape).astype(np.uint16)

    ours = measure(labels, [channel], ["GFP"])
    wanted = tuple({name.split("-")[0] for name in SAME.values()})
    theirs = regionprops_table(labels, channel, properties=wanted)

    for mine, name in SAME.items():
        np.testing.assert_allclose(ours[mine], theirs[name], rtol=1e-9, atol=1e-9, err_msg=mine)
    np.testing.assert_allclose(ours["sum_GFP"], ours["mean_GFP"] * ours["area_px"])


def test_a_square_in_a_corner_has_the_values_that_one_reckons_by_hand():
    labels = np.zeros((20, 30), np.int32)
    labels[:4, :4] = 7

    table = measure(labels, [labels * 10])

    assert {name: float(column[0]) for name, column in table.items()} == pytest.approx(
        {
            "label": 7, "area_px": 16, "diameter_px": math.sqrt(64 / math.pi), "y_px": 1.5,
            "x_px": 1.5, "y0": 0, "x0": 0, "y1": 4, "x1": 4, "eccentricity": 0, "solidity": 1,
            "touches_edge": 1, "mean_0": 70, "min_0": 70, "max_0": 70, "sum_0": 1120,
        }
    )  # fmt: skip


def test_single_pixels_lines_and_nothing_at_all_can_be_measured():
    labels = np.zeros((9, 9), np.int32)
    assert all(len(column) == 0 for column in measure(labels, [labels]).values())

    labels[4, 4], labels[1, 1:8] = 1, 2
    table = measure(labels)

    assert table["area_px"].tolist() == [1, 7]
    assert table["solidity"].tolist() == [1, 1]
    assert table["eccentricity"].tolist() == [0, 1]
    assert not table["touches_edge"].any()
