"""Every image format passes the same suite: files that we write, and what instruments wrote."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from cellwatch.errors import UnreadableImage
from cellwatch.images import load, open_image, suffixes
from tests.images import suite

pytestmark = pytest.mark.timeout(60)
RNG = np.random.default_rng(4)
SMALL = 4 << 20  # bytes; larger files are compared in `test_containers.py`
GREY = RNG.integers(1, 4000, (30, 40)).astype(np.uint16)
STACK = RNG.integers(1, 4000, (2, 3, 2, 30, 40)).astype(np.uint16)  # T, Z, C, Y, X
COLOUR = RNG.integers(0, 255, (30, 40, 3)).astype(np.uint8)


def tiff(pixels, **options):
    return lambda path: tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **options})


OURS = {
    "grey.tif": tiff(GREY),
    "stack.tif": tiff(STACK[0, :, 0], compression="zlib"),
    "hyperstack.tif": tiff(STACK, imagej=True, metadata={"axes": "TZCYX"}),
    "series.ome.tif": tiff(STACK, ome=True, metadata={"axes": "TZCYX"}, compression="zlib"),
    "tiles.tif": tiff(STACK[0, :, 0].repeat(8, 1).repeat(8, 2), tile=(64, 64), compression="zlib"),
    "big.tif": tiff(STACK[0], bigtiff=True, metadata={"axes": "ZCYX"}, ome=True),
    "colour.tif": tiff(COLOUR, photometric="rgb"),
    "colours.tif": tiff(np.stack([COLOUR, COLOUR[::-1]]), photometric="rgb", compression="zlib"),
    "planar.tif": tiff(COLOUR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
    "white.tif": tiff(GREY, photometric="miniswhite"),
    "white_floats.tif": tiff(STACK[0, :, 0].astype(np.float32), photometric="miniswhite"),
    "turned.tif": tiff(GREY, extratags=[(274, 3, 1, 6, False)]),
    "wide.tif": tiff(STACK[0, :, 0].astype(np.int64), compression="zlib"),
    "bits.tif": tiff(GREY % 2 == 0),
    "grey.png": lambda path: Pillow.fromarray(GREY).save(path),
    "colour.png": lambda path: Pillow.fromarray(COLOUR).save(path),
}
CHECKS = [
    suite.check_that_it_is_whole,
    suite.check_what_is_described,
    suite.check_that_planes_are_those_of_the_whole,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", OURS)
def test_a_format_keeps_what_all_of_them_keep(tmp_path, name, check):
    OURS[name](tmp_path / name)

    check(tmp_path / name)


@pytest.mark.parametrize("name", OURS)
def test_a_cut_file_is_not_whole(tmp_path, name):
    OURS[name](tmp_path / name)
    (tmp_path / "cut").mkdir()

    suite.check_that_a_cut_file_is_not(tmp_path / name, tmp_path / "cut")


def samples_of(shared):
    folder = shared / "data/formats"
    if not (folder / "FACTS.json").is_file():
        pytest.skip("the collection of instrument files is not beside the project")
    facts = json.loads((folder / "FACTS.json").read_text(encoding="utf-8"))
    listed = [folder / each["file"] for each in facts]
    small = [path for path in listed if path.is_file() and path.stat().st_size < SMALL]
    return [path for path in small if path.suffix.lower() in suffixes.SUFFIXES]


@pytest.mark.slow
def test_what_instruments_wrote_passes_too(shared):
    read = 0
    for path in samples_of(shared):
        try:
            load(path)
        except UnreadableImage:
            continue  # refused with a reason: `test_containers.py` has which
        suite.check_what_is_described(path)
        suite.check_that_it_is_whole(path)
        suite.check_that_planes_are_those_of_the_whole(path)
        read += 1

    assert read >= 5


def test_a_file_that_is_written_to_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[0, :, 0], photometric="minisblack")

    with open_image(path) as opened:
        opened.plane(0, 0, 0)
        tifffile.imwrite(path, STACK[1, :, 0], photometric="minisblack", compression="zlib")
        with pytest.raises(UnreadableImage, match="changed while it was read"):
            opened.plane(0, 2, 0)


def test_series_whose_pages_are_laid_out_differently_are_read(tmp_path):
    path = tmp_path / "a.tif"
    channels = STACK[0, 0].repeat(2, 0)[:3]  # C, Y, X
    with tifffile.TiffWriter(path) as writer:
        writer.write(channels, photometric="rgb", planarconfig="separate", metadata=None)
        writer.write(
            channels[::-1], photometric="rgb", planarconfig="separate", rowsperstrip=7,
            compression="zlib", metadata=None,
        )  # fmt: skip

    suite.check_that_planes_are_those_of_the_whole(path)


def test_pages_that_are_not_those_that_were_described_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[0, :, 0], photometric="minisblack")

    with open_image(path) as opened:
        opened.pages.n_pages = 5
        with pytest.raises(UnreadableImage, match="5 pages were found"):
            opened.plane(0, 0, 0)
