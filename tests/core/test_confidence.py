"""Confidence: cell probability, less where shapes and flows disagree, less for cells outside."""

import numpy as np
import pytest

from cellwatch.core.confidence import image_confidence, roi_confidences, roi_probabilities
from cellwatch.core.flows import flows_of


@pytest.fixture
def two_discs():
    y, x = np.mgrid[:40, :80]
    labels = np.zeros((40, 80), np.int32)
    labels[np.hypot(y - 20, x - 20) < 12] = 1
    labels[np.hypot(y - 20, x - 60) < 12] = 2
    return labels


def logits(probability):
    return np.log(probability / (1 - probability)).astype(np.float32)


def test_flows_that_agree_leave_the_cell_probability(two_discs):
    cellprob = logits(np.choose(two_discs, [0.1, 0.9, 0.6]))

    each = roi_confidences(two_discs, cellprob, flows_of(two_discs))

    np.testing.assert_allclose(each, [0.9, 0.6], rtol=1e-6)
    np.testing.assert_allclose(each, roi_probabilities(two_discs, cellprob), rtol=1e-6)


def test_an_roi_against_whose_shape_the_flows_speak_has_little(two_discs):
    cellprob = logits(np.where(two_discs, 0.9, 0.1))
    flows = flows_of(two_discs)
    flows[:, two_discs == 2] *= -1  # out of its middle: two vectors of length 1, 2 apart

    first, second = roi_confidences(two_discs, cellprob, flows)

    assert first == pytest.approx(0.9, rel=1e-6)
    assert second == 0.0


def test_an_image_has_that_of_the_pixels_of_its_rois_less_what_is_seen_elsewhere(two_discs):
    two_discs[:, 60:] = 0  # a half of the second
    cellprob = logits(np.where(two_discs, 0.9, 0.25))
    areas = np.bincount(two_discs.ravel())[1:]

    found = image_confidence(two_discs, cellprob, np.array([0.8, 0.5]))

    assert found == pytest.approx((0.8 * areas[0] + 0.5 * areas[1]) / areas.sum() * 0.75)


def test_where_nothing_was_found_there_is_none(two_discs):
    nothing = np.zeros_like(two_discs)
    cellprob = logits(np.full(nothing.shape, 0.1))

    each = roi_confidences(nothing, cellprob, flows_of(nothing))

    assert each.shape == (0,)
    assert image_confidence(nothing, cellprob, each) == 0.0
