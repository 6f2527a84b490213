"""Pairs that share pixels, and their matching, against a full table of all pairs."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellwatch.core.labels import relabel, stitch_planes
from cellwatch.core.matching import match
from cellwatch.core.sharing import matched, sharing
from tests.discs import disc_picture
from tests.reference import matching as reference

small = arrays(np.int32, (6, 9), elements=st.integers(0, 5))


@settings(max_examples=80, deadline=None)
@given(small, small)
def test_the_pairs_are_those_of_the_full_table(first, second):
    table = reference.iou_matrix(first, second)

    pairs = sharing(first, second)

    np.testing.assert_array_equal(
        np.stack([pairs.first - 1, pairs.second - 1], 1), np.argwhere(table > 0)
    )
    np.testing.assert_allclose(pairs.iou, table[table > 0])
    assert (pairs.n_first, pairs.n_second) == table.shape
    assert (pairs.rois_first, pairs.rois_second) == tuple(
        len(np.unique(labels[labels > 0])) for labels in (first, second)
    )


@settings(max_examples=120, deadline=None)
@given(small, small, st.sampled_from([0.1, 0.25, 0.5, 0.75]))
def test_the_matching_is_as_good_as_that_of_the_full_table(first, second, threshold):
    first, second = relabel(first), relabel(second)
    _, _, wanted = reference.matched(first, second, threshold)

    one, other, iou = matched(sharing(first, second), threshold)

    assert len(iou) == len(wanted)
    assert iou.sum() == pytest.approx(wanted.sum())
    assert len(set(one)) == len(one)
    assert len(set(other)) == len(other)


@settings(max_examples=60, deadline=None)
@given(st.lists(small, min_size=1, max_size=4), st.sampled_from([0.1, 0.3, 0.5]))
def test_planes_are_joined_as_by_the_full_table(planes, threshold):
    planes = [relabel(plane) for plane in planes]

    for ours, wanted in zip(
        stitch_planes(planes, threshold), reference.stitched(planes, threshold), strict=True
    ):
        np.testing.assert_array_equal(ours, wanted)


def test_label_images_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="share none"):
        sharing(np.ones((4, 4), np.int32), np.ones((4, 5), np.int32))
    with pytest.raises(ValueError, match="share none"):
        match(np.ones((4, 4), np.int32), np.ones((2, 2), np.int32))


def test_a_hundred_thousand_rois_are_matched_without_a_table_of_them_all():
    side = 316 * 4
    y, x = np.mgrid[:side, :side]
    labels = np.where((y % 4 < 3) & (x % 4 < 3), (y // 4) * 316 + x // 4 + 1, 0).astype(np.int32)
    moved = np.roll(labels, 1, axis=1)
    began = time.monotonic()

    (found,) = match(labels, moved, [0.5])

    assert found.true_positives == 316 * 316  # each overlaps its own by a half
    assert time.monotonic() - began < 5


def test_real_looking_discs_agree_with_the_full_table():
    truth, found = (disc_picture(seed, size=192, n=20)[1] for seed in (1, 2))

    ours = match(truth, found, [0.1, 0.3])

    for one, threshold in zip(ours, (0.1, 0.3), strict=True):
        assert one.true_positives == len(reference.matched(truth, found, threshold)[0])
