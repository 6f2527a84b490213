import numpy as np
import pytest

from cellwatch.core.alignment import alignment
from tests.discs import disc_picture


@pytest.fixture(scope="module")
def picture():
    pixels, labels = disc_picture(3, size=192, n=14)
    return pixels[None].astype(np.float32), labels


def test_masks_fit_their_image(picture):
    plane, labels = picture

    fit = alignment(plane, labels)

    assert not fit.is_elsewhere
    assert not fit.is_faint
    assert fit.told == ""


@pytest.mark.parametrize(
    ("move", "told"),
    [
        (lambda labels: labels[:, ::-1], "mirrored left to right"),
        (lambda labels: labels[::-1], "mirrored top to bottom"),
        (lambda labels: labels.T, "transposed"),
        (lambda labels: np.roll(labels, (0, 30), (0, 1)), "moved by 0 rows and -30 columns"),
    ],
)
def test_masks_that_lie_elsewhere_are_told_from_those_that_fit(picture, move, told):
    plane, labels = picture

    fit = alignment(plane, np.ascontiguousarray(move(labels)))

    assert fit.is_elsewhere
    assert fit.told == told


def test_masks_of_other_images_are_doubted(picture):
    plane, _ = picture
    others = [disc_picture(seed, size=192, n=14)[1] for seed in range(8, 18)]

    fits = [alignment(plane, labels) for labels in others]

    assert sum(fit.is_faint or fit.is_elsewhere for fit in fits) >= 9
