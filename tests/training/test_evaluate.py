import json
import math

import numpy as np

from cellwatch.training.evaluate import score_image, summarise
from tests.discs import disc_picture


def test_scores_are_means_over_images_and_sums_of_rois():
    _, labels = disc_picture(0)
    empty = np.zeros_like(labels)

    scores = summarise(
        [
            score_image("right", labels, labels),
            score_image("missed", labels, empty),
            score_image("none", empty, empty),
        ]
    )

    assert scores.images == 3
    assert scores.average_precision[0.5] == 2 / 3
    assert (scores.rois_true, scores.rois_found, scores.both_empty) == (24, 12, 1)
    assert scores.matched_iou == 1


def test_the_json_has_the_promised_shape():
    _, labels = disc_picture(0)

    data = json.loads(json.dumps(summarise([score_image("a", labels, labels)]).to_json()))

    assert data["images"] == 1
    assert data["ap"] == {"0.5": 1.0, "0.75": 1.0, "0.9": 1.0}
    assert data["ap_interval_95"]["0.5"] == [1.0, 1.0]


def test_nothing_matched_is_said_as_null():
    _, labels = disc_picture(0)

    scores = summarise([score_image("a", labels, np.zeros_like(labels))])

    assert math.isnan(scores.matched_iou)
    assert scores.to_json()["matched_iou"] is None
