import numpy as np
import pytest
import tifffile
from PIL import Image

from cellwatch.images.whole import why_not_whole

STACK = np.random.default_rng(0).integers(0, 4000, (6, 96, 100)).astype(np.uint16)
LAYOUTS = {
    "plain": {},
    "zlib": {"compression": "zlib"},
    "tiled": {"tile": (32, 32)},
    "bigtiff": {"bigtiff": True},
    "big endian": {"byteorder": ">"},
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "ome": {"ome": True, "metadata": {"axes": "TYX"}},
    "ome zlib": {"ome": True, "compression": "zlib", "metadata": {"axes": "CYX"}},
}


def written(tmp_path, layout):
    path = tmp_path / "a.tif"
    options = LAYOUTS[layout]
    if "imagej" not in options:
        options = {"photometric": "minisblack", **options}
    tifffile.imwrite(path, STACK, **options)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_whole_tiff_is_whole(tmp_path, layout):
    assert why_not_whole(written(tmp_path, layout)) == ""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_truncated_tiff_passes_for_whole(tmp_path, layout):
    data = written(tmp_path, layout).read_bytes()
    cut = tmp_path / "cut.tif"

    for part in range(1, 100):
        cut.write_bytes(data[: len(data) * part // 100])
        assert why_not_whole(cut), f"{part} % of {layout}"


def test_a_stack_that_was_stopped_early_is_short_of_planes(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, STACK, ome=True, metadata={"axes": "TYX"}, photometric="minisblack")
    data = path.read_bytes().replace(b'SizeT="6"', b'SizeT="9"')
    path.write_bytes(data)

    assert "9 planes are declared and 6 are there" in why_not_whole(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.tif", b"", "empty"),
        ("a.tif", b"some notes", "not a TIFF"),
        ("a.tif", b"II*\0\0\0\0\0" + bytes(40), "not written"),
        ("a.png", b"some notes", "not a PNG"),
    ],
)
def test_other_files_say_what_they_are(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)

    assert reason in why_not_whole(tmp_path / name)


def test_a_png_is_whole_with_its_end_and_not_without(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(STACK[0]).save(path)
    assert why_not_whole(path) == ""

    path.write_bytes(path.read_bytes()[:-8])
    assert "no end" in why_not_whole(path)


def test_a_file_that_is_gone_says_so(tmp_path):
    assert "No such file" in why_not_whole(tmp_path / "gone.tif")


def test_every_real_image_is_whole(shared):
    images = sorted((shared / "data").rglob("*_img.tif"))

    assert len(images) > 500
    assert [str(p) for p in images if why_not_whole(p)] == []


def test_directories_that_form_a_loop_end_the_walk(tmp_path):
    path = written(tmp_path, "plain")
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        n_tags = len(page.tags)
        after = page.offset + 2 + 12 * n_tags
    data = bytearray(path.read_bytes())
    data[after : after + 4] = page.offset.to_bytes(4, "little")
    path.write_bytes(data)

    assert "loop" in why_not_whole(path)


@pytest.mark.parametrize("change", [(b'SamplesPerPixel="1"', b'SamplesPerPixel="0"')])
def test_metadata_that_cannot_be_true_is_no_crash(tmp_path, change):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, STACK, ome=True, metadata={"axes": "TYX"}, photometric="minisblack")
    path.write_bytes(path.read_bytes().replace(*change))

    assert isinstance(why_not_whole(path), str)
