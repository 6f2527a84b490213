"""Areas of convex hulls: of shapes that one counts by hand, and as scikit-image counts them."""

import numpy as np
import pytest
from skimage.morphology import convex_hull_image

from cellwatch.core.hulls import hull_areas


def area_of(mask):
    labels = np.pad(mask, 2).astype(np.int32) * 3
    rows, columns = np.nonzero(labels)
    box = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    return int(hull_areas(labels, np.array([3], np.int32), np.array([box], np.int64))[0])


@pytest.mark.parametrize(
    ("rows", "area"),
    [
        (["#"], 1),
        (["####"], 4),
        (["#", "#", "#"], 3),
        (["##", "##"], 4),
        (["#.#"], 3),  # two pieces
        (["#..", "...", "..#"], 3),  # the diagonal between them
        (["#..#", "....", "#..#"], 12),
        (["###", "#.#", "###"], 9),  # a hole
    ],
)
def test_the_hulls_of_small_shapes(rows, area):
    assert area_of(np.array([[pixel == "#" for pixel in row] for row in rows])) == area


@pytest.mark.parametrize("seed", range(40))
def test_scattered_pixels_have_the_hull_that_scikit_image_finds(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(2, 24, 2)) < rng.uniform(0.03, 0.5)
    mask.flat[0] = True

    assert area_of(mask) == convex_hull_image(np.pad(mask, 2)).sum()
