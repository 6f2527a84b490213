"""Pixels mean what the file says: number types, palettes, white that is 0, orientation, axes."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from cellwatch.errors import UnreadableImage
from cellwatch.images import describe, load
from cellwatch.images.whole import why_not_whole

GREY = np.arange(12 * 16).reshape(12, 16)


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        (np.int64, np.uint16),
        (np.uint64, np.uint16),
        (bool, np.uint8),
        (np.int8, np.int8),
        (np.float64, np.float64),
    ],
)
def test_c13_every_number_type_becomes_one_that_others_know(tmp_path, kind, kept):
    values = (GREY % 100).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")

    pixels = load(tmp_path / "a.tif").pixels

    assert pixels.dtype == kept
    np.testing.assert_array_equal(pixels.squeeze(), values.astype(kept))


def test_c13_numbers_that_fit_no_32_bits_are_kept_as_floats(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((8, 8), 2**40, np.int64))

    assert load(tmp_path / "a.tif").pixels.dtype == np.float64


def test_f43_a_picture_of_one_bit_is_read(tmp_path):
    Pillow.fromarray(GREY % 2 == 0).save(tmp_path / "a.tif")

    np.testing.assert_array_equal(load(tmp_path / "a.tif").pixels.squeeze(), GREY % 2 == 0)


def test_c12_where_white_is_zero_intensities_are_inverted_and_labels_are_not(tmp_path):
    values = GREY.astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")

    image = load(tmp_path / "a.tif")

    np.testing.assert_array_equal(image.pixels.squeeze(), 65535 - values)
    assert "white is 0" in image.info.notes[0]
    labels = load(tmp_path / "a.tif", is_labels=True).pixels.squeeze()
    np.testing.assert_array_equal(labels, values)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_c12_an_orientation_tag_is_obeyed(tmp_path, orientation):
    upright = GREY.astype(np.uint8)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    tag = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", np.ascontiguousarray(stored), extratags=tag)

    np.testing.assert_array_equal(load(tmp_path / "a.tif").pixels.squeeze(), upright)


@pytest.mark.parametrize("shape", [(1, 12, 16), (1, 1, 12, 16), (12, 16, 1)])
def test_c7_axes_of_length_one_say_nothing(tmp_path, shape):
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.uint16).reshape(shape))

    assert load(tmp_path / "a.tif").pixels.shape == (1, 1, 1, 1, 12, 16)


def test_c7_declared_axes_go_before_what_the_file_says(tmp_path):
    stack = np.stack([GREY, GREY + 1]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack[None, :, None])

    assert load(tmp_path / "a.tif", "ZYX").pixels.shape == (1, 1, 2, 1, 12, 16)
    assert load(tmp_path / "a.tif", "tzcyx").pixels.shape == (1, 1, 2, 1, 12, 16)
    with pytest.raises(UnreadableImage, match="names 2 axes"):
        load(tmp_path / "a.tif", "YX")


def test_c20_planes_that_were_saved_as_colours_are_planes_when_a_person_says_so(tmp_path):
    planes = np.stack([GREY, GREY + 1, GREY + 2]).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(planes, 0, -1), photometric="rgb")

    image = load(tmp_path / "a.tif", "ZYX")

    assert not image.is_rgb
    np.testing.assert_array_equal(image.pixels[0, 0, :, 0], planes)


def test_f45_a_guess_about_an_axis_is_said(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GREY] * 5).astype(np.uint16))

    info = describe(tmp_path / "a.tif")

    assert info.axes == "TYX"
    assert "taken for time points; if they are not, say what they are: axes:" in info.notes[0]


def test_c8_a_palette_of_greys_is_read_and_one_of_colours_is_refused_but_as_labels(tmp_path):
    picture = Pillow.fromarray((GREY % 5).astype(np.uint8)).convert("P")
    picture.putpalette([value for n in range(256) for value in (2 * n % 256,) * 3])
    picture.save(tmp_path / "grey.png")
    picture.putpalette([value for n in range(256) for value in (n, 255 - n, 7)])
    picture.save(tmp_path / "colour.png")

    np.testing.assert_array_equal(load(tmp_path / "grey.png").pixels.squeeze(), 2 * (GREY % 5))
    with pytest.raises(UnreadableImage, match="palette has colours"):
        load(tmp_path / "colour.png")
    labels = load(tmp_path / "colour.png", is_labels=True).pixels.squeeze()
    np.testing.assert_array_equal(labels, GREY % 5)


@pytest.mark.parametrize("count", [0, 100_000])
def test_c11_an_uncompressed_strip_is_as_long_as_its_size_says(tmp_path, count):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY.astype(np.uint16))
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags[279].overwrite(count)

    assert why_not_whole(path) == ""
    np.testing.assert_array_equal(load(path).pixels.squeeze(), GREY)
    with tifffile.TiffFile(path) as file:
        start = file.pages[0].dataoffsets[0]
    path.write_bytes(path.read_bytes()[: start + GREY.size])  # half of its bytes
    assert "reach byte" in why_not_whole(path)


def test_f41_a_tag_of_millions_of_values_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.tif"
    tags = [(65000, "I", 4_000_001, (7,) * 4_000_001, True)]
    tifffile.imwrite(path, GREY.astype(np.uint16), extratags=tags)

    assert "tag 65000 of the TIFF declares" in why_not_whole(path)


WITHOUT_CODECS = """
import sys
sys.modules["imagecodecs"] = None  # as where it is not installed
from pathlib import Path
from cellwatch.errors import CodecMissing
from cellwatch.images import load
for path in sys.argv[1:]:
    try:
        load(Path(path))
    except CodecMissing as error:
        print(error)
"""


def test_f42_every_compression_without_its_codec_says_what_to_install(tmp_path):
    codes = {"lzw": 5, "jpeg": 7, "jpeg2000": 34712, "lerc": 34887, "zstd": 50000, "webp": 50001}
    for name, code in codes.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", GREY.astype(np.uint16))
        with tifffile.TiffFile(tmp_path / f"{name}.tif", mode="r+b") as file:
            file.pages[0].tags["Compression"].overwrite(code)
    words = [sys.executable, "-c", WITHOUT_CODECS, *sorted(map(str, tmp_path.iterdir()))]

    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()

    assert len(told) == len(codes)
    assert all("pip install 'cellwatch[codecs]'" in line for line in told)
