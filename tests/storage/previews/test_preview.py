"""Previews show the image, the outlines, and what was found."""

import numpy as np
import pytest
from PIL import Image as Pillow

from cellwatch.images import Image
from cellwatch.records import ImageInfo
from cellwatch.storage.previews.preview import (
    CAPTION,
    OUTLINES,
    SIDE,
    Shown,
    caption,
    outlines,
    planes_shown,
    preview_beside,
    render,
    write_preview,
)
from tests.discs import disc_picture


def image_of(pixels, *, is_rgb=False):
    return Image(ImageInfo("a.tif"), pixels, is_rgb)


def picture(size=300, n=6, planes=(1, 1, 1), channels=1):
    pixels, labels = disc_picture(1, size=size, n=n)
    whole = np.broadcast_to(pixels, (*planes, channels, size, size)).copy()
    return image_of(whole), np.broadcast_to(labels, (*planes, size, size)).astype(np.int32)


def shown(labels, channels=(0,), text="6 cells"):
    return Shown(labels, channels, text)


def count(rgb, colour):
    return int((rgb == np.array(colour, np.uint8)).all(axis=-1).sum())


def test_rois_are_outlined_in_a_stretched_picture():
    image, labels = picture()

    rgb = render(image, [shown(labels)])

    assert rgb.dtype == np.uint8
    assert rgb.shape == (300 + CAPTION, 300, 3)
    assert count(rgb, OUTLINES[0]) == outlines(labels[0, 0, 0]).sum() > 100
    inside = rgb[:300][(labels[0, 0, 0] > 0) & ~outlines(labels[0, 0, 0])]
    assert inside.mean() > 3 * rgb[:300][labels[0, 0, 0] == 0].mean()


@pytest.mark.parametrize(
    ("planes", "size", "n"),
    [((1, 1, 7), 300, 1), ((1, 9, 1), 600, 4), ((2, 1, 1), 400, 2), ((3, 4, 5), 90, 4)],
)
def test_stacks_series_and_positions_are_a_few_planes_side_by_side(planes, size, n):
    image, labels = picture(size=size, planes=planes)

    rgb = render(image, [shown(labels)])

    assert len(planes_shown(image.shape)) == n
    assert SIDE / 2 <= max(rgb.shape) <= 1.25 * SIDE + CAPTION + 4


def test_a_large_image_is_made_small():
    image, labels = picture(size=2048, n=40)

    rgb = render(image, [shown(labels)])

    assert max(rgb.shape) <= 1.25 * SIDE + CAPTION
    assert count(rgb, OUTLINES[0]) > 100


def test_two_targets_and_two_channels_have_colours_of_their_own():
    image, labels = picture(channels=2)
    image.pixels[:, :, :, 1] = image.pixels[:, :, :, 1, ::-1]

    rgb = render(image, [shown(labels, (0, 1)), shown(labels[..., ::-1, :], (1,))])

    assert count(rgb, OUTLINES[0]) > 50
    assert count(rgb, OUTLINES[1]) > 50
    nuclei = rgb[:300][(labels[0, 0, 0][::-1] > 0) & (labels[0, 0, 0] == 0)]
    assert nuclei[:, 2].mean() > 1.5 * nuclei[:, 0].mean()


def test_a_colour_picture_keeps_its_colours():
    pixels = np.zeros((1, 1, 1, 3, 64, 64), np.uint8)
    pixels[0, 0, 0, 0] = 200

    rgb = render(
        image_of(pixels, is_rgb=True), [shown(np.zeros((1, 1, 1, 64, 64), np.int32), (-1,))]
    )

    assert rgb[5, 5].tolist() == [200, 0, 0]


@pytest.mark.parametrize("value", [0.0, 5.0, np.nan, np.inf])
def test_an_image_of_one_value_is_shown_as_black(value):
    pixels = np.full((1, 1, 1, 1, 40, 50), value, np.float32)

    rgb = render(image_of(pixels), [shown(np.zeros((1, 1, 1, 40, 50), np.int32), text="")])

    assert not rgb[:40].any()


def test_it_is_a_small_file_beside_the_store(tmp_path):
    image, labels = picture(size=1024, n=30)
    path = preview_beside(tmp_path / "day1/a.ome.tif.zarr")

    write_preview(path, image, [shown(labels)], tmp_path / "old")

    assert path.name == "a_preview.webp"
    assert path.stat().st_size < 100_000
    with Pillow.open(path) as picture_:
        assert picture_.format == "WEBP"
        assert max(picture_.size) <= 1.25 * SIDE + CAPTION


def test_the_caption_says_what_was_found():
    assert caption("nuclei", 3, "nuclei", None) == "3 nuclei · nuclei"
    assert outlines(np.zeros((3, 3), np.int32)).sum() == 0
