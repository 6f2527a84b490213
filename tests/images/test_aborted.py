"""Series that were aborted, read as far as they are whole where their folder says so."""

import numpy as np
import pytest
import tifffile

from cellwatch.errors import UnreadableImage
from cellwatch.images import aborted, describe, images_in, load, open_image
from cellwatch.images.identity import fingerprint
from cellwatch.images.sets import pattern
from cellwatch.images.whole import why_not_whole
from tests.images import plates

pytestmark = pytest.mark.timeout(60)
STACK = np.arange(6 * 2 * 16 * 12, dtype=np.uint16).reshape(6, 2, 16, 12)


@pytest.fixture(autouse=True)
def in_nothing_else(monkeypatch):
    monkeypatch.delenv(aborted.VARIABLE, raising=False)


def write_stack(path, said=(6, 9)):
    """Write six time points of two planes, of which the file says that there are nine."""
    axes = {"axes": "TZYX"}
    tifffile.imwrite(path, STACK, ome=True, metadata=axes, photometric="minisblack")
    before, after = (f'SizeT="{n}"'.encode() for n in said)
    path.write_bytes(path.read_bytes().replace(before, after))


def write_series(folder, there):
    """Write an OME-TIFF set of four time points in files of their own, of which some are there."""
    names = [f"t{t}.ome.tif" for t in range(4)]
    data = "".join(
        f'<TiffData FirstT="{t}" FirstZ="0" FirstC="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:0000000{t}-0000-0000-0000-000000000000</UUID></TiffData>'
        for t, name in enumerate(names)
    )
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="12" SizeY="16" SizeC="1"'
        f' SizeZ="1" SizeT="4"><Channel ID="Channel:0:0"/>{data}</Pixels></Image></OME>'
    )
    for t in there:
        tifffile.imwrite(folder / names[t], STACK[t, 0], description=xml, metadata=None)
    return folder / names[0]


def test_a_stack_is_read_to_its_last_whole_time_point(tmp_path):
    path = tmp_path / "a.ome.tif"
    write_stack(path)
    aborted.declare([tmp_path / "elsewhere"])
    assert describe(path).shape == (9, 2, 16, 12)

    aborted.declare([tmp_path])

    assert "18 planes are declared and 12 are there" in why_not_whole(path)
    image = load(path)
    assert (image.info.axes, image.info.shape) == ("TZYX", (6, 2, 16, 12))
    np.testing.assert_array_equal(image.pixels[0, :, :, 0], STACK)
    assert image.info.notes[-1].startswith("the series was aborted: 6 of 9 time points are whole")
    with open_image(path) as opened:
        np.testing.assert_array_equal(opened.plane(0, 5, 1)[0], STACK[5, 1])


def test_a_stack_without_one_whole_time_point_is_refused_and_a_whole_one_is_as_ever(tmp_path):
    short, whole = tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"
    write_stack(whole, (6, 6))
    axes = {"axes": "TZYX"}
    tifffile.imwrite(short, STACK[:1, :1], ome=True, metadata=axes, photometric="minisblack")
    for before, after in ((b'SizeZ="1"', b'SizeZ="2"'), (b'SizeT="1"', b'SizeT="3"')):
        short.write_bytes(short.read_bytes().replace(before, after))
    before = load(whole)
    aborted.declare([tmp_path])

    with pytest.raises(UnreadableImage, match="none of its 3 time points is whole"):
        describe(short)
    assert describe(whole).notes == before.info.notes
    np.testing.assert_array_equal(load(whole).pixels, before.pixels)


def test_a_series_of_files_is_read_to_its_last_whole_time_point(tmp_path):
    index = write_series(tmp_path, (0, 1, 3))
    assert "1 of 4 files are not there: t2.ome.tif" in why_not_whole(index)
    aborted.declare([tmp_path])

    info, first = describe(index), fingerprint(index)
    assert (info.axes, info.shape) == ("TYX", (2, 16, 12))
    assert "2 of 4 time points are whole" in info.notes[-1]
    np.testing.assert_array_equal(load(index).pixels[0, :, 0, 0], STACK[:2, 0])

    write_series(tmp_path, (2,))

    assert why_not_whole(index) == ""
    assert (describe(index).shape, describe(index).notes) == ((4, 16, 12), ())
    assert fingerprint(index) != first


def test_fields_of_an_aborted_plate_are_among_its_images_when_it_is_given_up(tmp_path):
    index, planes = plates.write_imagexpress(tmp_path / "plate")
    (index.parent / "TimePoint_2/9987_B02_s1_w2.TIF").write_bytes(b"II*\0")
    aborted.declare([tmp_path])

    assert images_in(index) == [index / "C03/1"]
    assert images_in(index, is_given_up=True) == [index / "B02/1", index / "C03/1"]
    image = load(index / "B02/1")
    assert (image.info.axes, image.info.shape[0]) == ("CYX", 2)
    np.testing.assert_array_equal(image.pixels[0, 0, 0, 1], planes["B02", 1, 2])
    assert "1 of 2 time points are whole" in image.info.notes[-1]


def test_a_series_whose_pages_do_not_tell_what_is_whole_is_not_cut(tmp_path):
    path = tmp_path / "a.ome.tif"
    for axes, said in (("CTYX", b'SizeC="2"'), ("CYX", b'SizeC="6"')):
        pixels = STACK.transpose(1, 0, 2, 3) if axes == "CTYX" else STACK[:, 0]
        tifffile.imwrite(path, pixels, ome=True, metadata={"axes": axes}, photometric="minisblack")
        path.write_bytes(path.read_bytes().replace(said, b'SizeC="7"'))
        aborted.declare([tmp_path])

        assert why_not_whole(path)
        assert not aborted.is_noted(describe(path))


def test_time_points_are_not_numbered_over_a_gap(tmp_path):
    folder = tmp_path / "series"
    index, _ = plates.write_metamorph(folder)
    text = index.read_text().replace(
        '"DoTimelapse", FALSE', '"DoTimelapse", TRUE\n"NTimePoints", 5'
    )
    index.write_text(text.replace('"DoStage", TRUE', '"DoStage", FALSE'))
    for file in folder.glob("*.tif"):
        for t in (1, 2, 4) if "_s1" in file.name else ():
            (folder / file.name.replace("_s1", f"_t{t}")).write_bytes(file.read_bytes())
        file.unlink()
    assert "4 of 10 files are not there" in why_not_whole(index)
    aborted.declare([tmp_path])

    info = describe(index)

    assert (info.axes, info.shape[0]) == ("TZCYX", 2)
    assert "2 of 3 time points are whole" in info.notes[-1]


def test_a_set_that_lacks_a_channel_is_not_read_without_it(tmp_path):
    pattern.declare({tmp_path: r"(?P<well>A\d\d)_(?P<c>DAPI|GFP)[.]tif"})
    try:
        index = tmp_path / "A01_GFP.tif"
        tifffile.imwrite(index, STACK[0, 0])
        aborted.declare([tmp_path])

        with pytest.raises(UnreadableImage, match="no file of channel DAPI is there"):
            describe(index)
    finally:
        pattern.declare({})
