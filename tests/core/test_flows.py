import numpy as np
import pytest

from cellwatch.core.flows import bounding_boxes, flows_of, roi_centres
from tests.discs import disc_picture
from tests.reference import segmentation as reference


def test_the_flows_of_a_disc_point_to_its_centre():
    y, x = np.mgrid[:41, :41]
    labels = (np.hypot(y - 20, x - 20) <= 15).astype(np.int32)

    flows = flows_of(labels)

    inside = (labels > 0) & (np.hypot(y - 20, x - 20) > 2)
    towards = np.stack([20 - y, 20 - x]) / np.maximum(1e-9, np.hypot(y - 20, x - 20))
    cosine = (flows * towards).sum(axis=0)[inside]
    assert cosine.min() > 0.97
    np.testing.assert_allclose(np.hypot(*flows)[inside], 1, atol=1e-6)


def test_fast_flows_equal_the_slow_twin():
    _, labels = disc_picture(3, size=96, n=6)
    labels[40:44, 5:60] = 7  # a long thin ROI that cuts through others

    fast, slow = flows_of(labels), reference.flows(labels)

    # Where the heat is even, at the centre of a symmetric ROI, the twin's direction is rounding.
    clear = np.hypot(*fast) > 0.5
    assert (np.hypot(*slow) > 0.5)[~clear].sum() <= labels.max()
    np.testing.assert_allclose(fast[:, clear], slow[:, clear], atol=2e-6)


def test_background_has_no_flow_and_gaps_in_labels_do_no_harm():
    labels = np.zeros((20, 20), np.int32)
    labels[5:10, 5:10] = 7

    flows = flows_of(labels)

    assert not flows[:, labels == 0].any()
    assert np.hypot(*flows)[5, 5] == pytest.approx(1)


def test_the_heat_of_a_symmetric_roi_is_even_at_its_centre():
    labels = np.zeros((9, 9), np.int32)
    labels[2:7, 2:7] = 1
    labels[[2, 2, 6, 6], [2, 6, 2, 6]] = 0

    assert flows_of(labels)[:, 4, 4].tolist() == [0, 0]


def test_an_empty_label_image_has_no_flows():
    assert not flows_of(np.zeros((8, 8), np.int32)).any()


def test_the_centre_is_a_pixel_of_the_roi():
    ring = np.zeros((11, 11), np.int32)
    ring[1:10, 1:10] = 1
    ring[3:8, 3:8] = 0

    boxes = bounding_boxes(ring)
    centre = roi_centres(ring, boxes)[0]

    assert boxes.tolist() == [[1, 10, 1, 10]]
    assert ring[tuple(centre)] == 1
