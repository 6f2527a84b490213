"""What is taken out: the part in which most is to be seen."""

import numpy as np

from cellwatch.daemon.checkout import crop_around
from cellwatch.records import Crop


def test_the_part_with_most_centres_is_taken_out():
    labels = np.zeros((96, 160), np.int32)
    for number in range(4):
        labels[66 + 6 * number : 70 + 6 * number, 100:104] = number + 1
    labels[0:4, 0:4], labels[20:24, 20:24] = 5, 6

    part = crop_around(labels, 32)

    centres = [(68 + 6 * number - 0.5, 101.5) for number in range(4)]
    assert part.height == part.width == 32
    assert all(part.y <= y < part.y + 32 and part.x <= x < part.x + 32 for y, x in centres)


def test_a_plane_without_rois_has_a_part_all_the_same():
    assert crop_around(np.zeros((64, 64), np.int32), 16) == Crop(0, 0, 16, 16)
