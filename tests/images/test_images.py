import struct

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from cellwatch.errors import UnreadableImage
from cellwatch.images import describe, load, n_planes

STACK = np.random.default_rng(0).integers(0, 4000, (5, 48, 56)).astype(np.uint16)
UM = {"PhysicalSizeX": 0.65, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.65,
      "PhysicalSizeYUnit": "µm"}  # fmt: skip


def write(path, pixels=STACK, **options):
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **options})
    return path


def test_an_ome_tiff_gives_axes_channels_and_pixel_size(tmp_path):
    path = write(
        tmp_path / "a.ome.tif",
        ome=True,
        metadata={"axes": "CYX", "Channel": {"Name": list("abcde")}, **UM},
    )

    info = describe(path)

    assert (info.format, info.axes, info.shape) == ("ome-tiff", "CYX", (5, 48, 56))
    assert (info.channels, info.pixel_size_um) == (("a", "b", "c", "d", "e"), 0.65)
    assert load(path).pixels.shape == (1, 1, 1, 5, 48, 56)


def test_an_imagej_hyperstack_gives_time_z_and_channels(tmp_path):
    pixels = np.arange(2 * 3 * 2 * 20 * 24, dtype=np.uint16).reshape(2, 3, 2, 20, 24)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, pixels, imagej=True, resolution=(2, 2), metadata={"axes": "TZCYX", "unit": "um"}
    )

    image = load(path)

    assert image.pixels.shape == (1, 2, 3, 2, 20, 24)
    np.testing.assert_array_equal(image.pixels[0], pixels)
    assert image.info.pixel_size_um == 0.5
    assert n_planes(image) == 6


def test_the_pages_of_a_plain_tiff_are_planes(tmp_path):
    image = load(write(tmp_path / "a.tif"))

    assert image.info.axes == "TYX"
    assert n_planes(image) == 5


def test_axes_can_be_declared(tmp_path):
    path = write(tmp_path / "a.tif")

    assert load(path, "ZYX").pixels.shape == (1, 1, 5, 1, 48, 56)
    assert load(path, "CYX").pixels.shape == (1, 1, 1, 5, 48, 56)
    assert describe(path, "CYX").channels == ("",) * 5
    with pytest.raises(UnreadableImage, match="axes: CZYX names 4 axes"):
        load(path, "CZYX")


def test_channels_last_without_colour_are_channels(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((30, 40, 2), np.uint16), photometric="minisblack",
                     planarconfig="contig")  # fmt: skip

    image = load(path)

    assert image.info.axes == "YXC"
    assert (image.pixels.shape, image.is_rgb) == ((1, 1, 1, 2, 30, 40), False)


def test_colour_pictures_are_known_as_such(tmp_path):
    rgb = np.zeros((30, 40, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", rgb, photometric="rgb")
    Pillow.fromarray(rgb).save(tmp_path / "a.png")

    for name in ("a.tif", "a.png"):
        image = load(tmp_path / name)
        assert (image.is_rgb, image.pixels.shape) == (True, (1, 1, 1, 3, 30, 40))
        assert image.info.channels == ("red", "green", "blue")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_png_keeps_every_bit(tmp_path, dtype):
    pixels = (np.arange(30 * 40).reshape(30, 40) * 50).astype(dtype)
    Pillow.fromarray(pixels).save(tmp_path / "a.png")

    image = load(tmp_path / "a.png")

    assert image.info.dtype == image.pixels.dtype == dtype
    np.testing.assert_array_equal(image.pixels[0, 0, 0, 0], pixels)


def test_a_screen_resolution_is_no_pixel_size(tmp_path):
    path = write(tmp_path / "a.tif", STACK[0], resolution=(72, 72), resolutionunit="inch")

    assert describe(path).pixel_size_um is None


def test_pixels_that_are_not_square_have_no_size(tmp_path):
    metadata = {"axes": "YX", **UM, "PhysicalSizeY": 1.3}

    assert (
        describe(write(tmp_path / "a.tif", STACK[0], ome=True, metadata=metadata)).pixel_size_um
        is None
    )


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.tif", b"", "empty"),
        ("a.tif", b"these are my notes\n", "not a TIFF"),
        ("a.png", b"these are my notes\n", "not a PNG"),
        ("a.zvi", b"p", "none of .tif"),
    ],
)
def test_what_is_no_image_is_refused_with_its_reason(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(UnreadableImage, match=reason):
        load(tmp_path / name)


def test_a_header_that_claims_gigabytes_is_refused_before_memory_is_taken(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((8, 8), np.uint16))
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tag = file.pages.first.tags[name]
            struct.pack_into("<HHII", data, tag.offset, tag.code, 4, 1, 60_000)
    path.write_bytes(data)

    with pytest.raises(UnreadableImage, match=r"6\.7 GiB of pixels, the file is"):
        load(path)


def test_missing_files_say_so(tmp_path):
    with pytest.raises(UnreadableImage, match="No such file"):
        load(tmp_path / "gone.tif")


def test_complex_pixels_are_refused(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((8, 8), np.complex64))

    with pytest.raises(UnreadableImage, match="not intensities"):
        load(path)
