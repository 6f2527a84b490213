"""What every image format keeps, on one of its files; `test_suite.py` runs it on all of them."""

import shutil

import numpy as np

from cellwatch.images import describe, load, n_planes, open_image, pixels_digest, planes_of
from cellwatch.images.whole import why_not_whole

AXES = "PTZCYXS"


def check_that_it_is_whole(path):
    assert why_not_whole(path) == ""


def check_that_a_cut_file_is_not(path, tmp_path):
    cut = tmp_path / path.name
    shutil.copyfile(path, cut)
    with cut.open("r+b") as file:
        file.truncate(path.stat().st_size * 3 // 5)

    assert why_not_whole(cut)


def check_what_is_described(path):
    info = describe(path)

    assert info.format
    assert len(info.axes) == len(info.shape)
    assert set(info.axes) <= set(AXES)
    assert "YX" in info.axes
    assert all(type(n) is int and n > 0 for n in info.shape)
    colours = info.shape[info.axes.index("S")] if "S" in info.axes else 0
    channels = info.shape[info.axes.index("C")] if "C" in info.axes else 1
    assert len(info.channels) == (colours or channels)
    assert info.pixel_size_um is None or info.pixel_size_um > 0


def check_that_planes_are_those_of_the_whole(path):
    image = load(path)

    with open_image(path) as opened:
        assert opened.info == image.info == describe(path)
        assert (opened.shape, opened.dtype) == (image.pixels.shape, image.pixels.dtype)
        assert opened.is_rgb == image.is_rgb
        assert n_planes(opened) == int(np.prod(image.shape[:3]))
        last = tuple(n - 1 for n in opened.shape[:3])
        np.testing.assert_array_equal(opened.plane(*last), image.pixels[last])
        whole = np.stack(list(planes_of(opened))).reshape(image.shape)
        np.testing.assert_array_equal(whole, image.pixels)
        assert pixels_digest(opened) == pixels_digest(image)
    with open_image(path) as opened:
        kept = opened.plane(0, 0, 0)
    np.testing.assert_array_equal(kept, image.pixels[0, 0, 0])  # it outlives the open file
