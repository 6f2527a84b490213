import math

import numpy as np
import pytest

from cellwatch.core.matching import match, mean_matched_iou
from tests.discs import disc_picture


def test_a_label_image_agrees_with_itself_whatever_its_numbers():
    _, labels = disc_picture(0)
    renumbered = np.where(labels > 0, labels * 3 + 1, 0).astype(np.int32)

    assert [m.average_precision for m in match(labels, renumbered)] == [1, 1, 1]
    assert mean_matched_iou(labels, renumbered) == 1


def test_one_missed_and_one_invented_roi():
    truth = np.zeros((10, 30), np.int32)
    truth[2:8, 2:8], truth[2:8, 12:18] = 1, 2
    found = truth.copy()
    found[truth == 2] = 0
    found[2:8, 22:28] = 2

    first = match(truth, found)[0]

    assert (first.true_positives, first.false_positives, first.false_negatives) == (1, 1, 1)
    assert first.average_precision == pytest.approx(1 / 3)
    assert first.f1 == pytest.approx(0.5)


def test_iou_decides_at_the_threshold_itself():
    truth, found = np.zeros((1, 8), np.int32), np.zeros((1, 8), np.int32)
    truth[0, :4], found[0, 1:4] = 1, 1  # IoU 3/4

    assert [m.true_positives for m in match(truth, found)] == [1, 1, 0]


def test_two_empty_images_agree():
    empty = np.zeros((5, 5), np.int32)

    assert match(empty, empty)[0].average_precision == 1
    assert math.isnan(mean_matched_iou(empty, empty))


def test_an_empty_image_against_a_full_one_scores_zero():
    _, labels = disc_picture(0)

    assert match(labels, np.zeros_like(labels))[0].average_precision == 0


def test_matching_is_one_to_one():
    truth = np.ones((4, 10), np.int32)
    found = np.ones((4, 10), np.int32)
    found[:, 5:] = 2  # each half overlaps the whole by one half

    assert match(truth, found, [0.5])[0].true_positives == 1
