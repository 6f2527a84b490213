import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellwatch.core.dynamics import follow_flows
from cellwatch.core.flows import flows_of
from cellwatch.core.labels import (
    drop_bad_flows,
    drop_small,
    fill_holes,
    flow_errors,
    labels_from_endpoints,
    number_in_raster_order,
    relabel,
    resize_labels,
    stitch_planes,
)
from tests.discs import disc_picture
from tests.reference import segmentation as reference
from tests.reference.matching import iou_matrix

small_labels = arrays(np.int32, (9, 9), elements=st.integers(0, 4))


def test_gathering_equals_the_slow_twin():
    _, labels = disc_picture(2, size=80, n=4)
    rng = np.random.default_rng(0)
    flows = (flows_of(labels) + rng.normal(0, 0.3, (2, 80, 80))).astype(np.float32)
    foreground = labels > 0
    endpoints = follow_flows(flows, foreground, 60)

    found = labels_from_endpoints(endpoints, foreground)

    np.testing.assert_array_equal(found, reference.gather(endpoints, foreground))


def test_a_roi_larger_than_two_fifths_of_the_image_is_background():
    labels = np.zeros((30, 30), np.int32)
    labels[2:28, 2:28] = 1

    found = labels_from_endpoints(follow_flows(flows_of(labels), labels > 0, 200), labels > 0)

    assert not found.any()


def test_rois_whose_flows_disagree_are_dropped():
    _, labels = disc_picture(4, size=96, n=4)
    flows = flows_of(labels)
    flows[:, labels == 2] *= -1

    errors = flow_errors(labels, flows)
    kept = drop_bad_flows(labels, flows, 0.4)

    assert errors[[0, 2, 3]].max() == 0
    assert errors[1] > 3
    assert kept.max() == 3
    assert not kept[labels == 2].any()


@settings(max_examples=60, deadline=None)
@given(small_labels)
def test_filling_holes_equals_the_slow_twin(labels):
    np.testing.assert_array_equal(fill_holes(labels), reference.fill_holes(labels))


@settings(max_examples=40, deadline=None)
@given(small_labels, small_labels)
def test_the_overlap_matrix_equals_the_slow_twin(first, second):
    np.testing.assert_allclose(iou_matrix(first, second), reference.iou(first, second))


@settings(max_examples=40, deadline=None)
@given(small_labels)
def test_cleaning_leaves_labels_without_gaps_and_inputs_as_they_were(labels):
    before = labels.copy()

    for cleaned in (relabel(labels), drop_small(labels, 3), number_in_raster_order(labels)):
        present = np.unique(cleaned[cleaned > 0])
        np.testing.assert_array_equal(present, np.arange(1, len(present) + 1))
    np.testing.assert_array_equal(labels, before)


def test_labels_are_numbered_in_raster_order():
    labels = np.array([[0, 5, 5], [2, 0, 5], [2, 9, 9]], np.int32)

    assert number_in_raster_order(labels).tolist() == [[0, 1, 1], [2, 0, 1], [2, 3, 3]]


def test_resizing_labels_takes_the_nearest_pixel():
    labels = np.array([[1, 2], [3, 4]], np.int32)

    assert resize_labels(labels, (4, 4))[:, ::3].tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]


def test_stitching_joins_what_overlaps_and_numbers_what_is_new():
    first = np.array([[1, 1, 0, 2, 2]], np.int32)
    second = np.array([[1, 1, 0, 0, 2]], np.int32)  # its 2 covers half of the first's 2
    third = np.array([[0, 0, 1, 0, 0]], np.int32)

    stitched = stitch_planes([first, second, third], 0.5)

    assert [plane.tolist() for plane in stitched] == [
        [[1, 1, 0, 2, 2]],
        [[1, 1, 0, 0, 2]],
        [[0, 0, 3, 0, 0]],
    ]
