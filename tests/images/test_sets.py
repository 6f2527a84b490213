"""Sets: plates and series of many files are read by the file that lists them."""

import json
import struct

import numpy as np
import pytest
import tifffile

from cellwatch.errors import UnreadableImage
from cellwatch.images import describe, images_in, load
from cellwatch.images.identity import content_sha256, fingerprint, size_of
from cellwatch.images.sets import index_by_name, index_of
from cellwatch.images.whole import why_not_whole
from tests.images import plates, suite
from tests.images.test_ome_set import IDS, PLANES, write_part, xml_of

FILES = ("a_c0.ome.tif", "a_c1.ome.tif")
pytestmark = pytest.mark.timeout(60)


def names(index):
    return [path.relative_to(index).as_posix() for path in images_in(index)]


def test_the_fields_of_an_operetta_plate_are_images(tmp_path):
    index, planes = plates.write_operetta(tmp_path / "Images")

    assert why_not_whole(index) == ""
    assert names(index) == ["B02/1", "B02/2", "C03/1", "C03/2"]
    image = load(index / "C03/2")
    assert (image.info.axes, image.info.channels) == ("CYX", ("DAPI", "GFP"))
    assert image.info.pixel_size_um == pytest.approx(0.5)
    for channel in (1, 2):
        np.testing.assert_array_equal(image.pixels[0, 0, 0, channel - 1], planes["C03", 2, channel])
    suite.check_what_is_described(index / "B02/1")
    suite.check_that_planes_are_those_of_the_whole(index / "B02/1")
    with pytest.raises(UnreadableImage, match="each with a path of its own: B02/1"):
        describe(index)


def test_shading_files_of_cellvoyager_are_left_out(tmp_path):
    index, planes = plates.write_cellvoyager(tmp_path / "run")

    assert names(index) == ["D08/1", "D08/2"]
    image = load(index / "D08/2")
    assert (image.info.axes, image.info.pixel_size_um) == ("ZYX", 0.325)
    np.testing.assert_array_equal(image.pixels[0, 0, 1, 0], planes[2, 2])
    for file in index.parent.glob("*.tif"):
        assert index_by_name(file) == index, file.name


def test_time_points_of_imagexpress_lie_in_folders(tmp_path):
    index, planes = plates.write_imagexpress(tmp_path / "plate")

    assert why_not_whole(index) == ""
    assert names(index) == ["B02/1", "C03/1"]
    image = load(index / "C03/1")
    assert (image.info.axes, image.info.channels) == ("TCYX", ("DAPI", "Cy5"))
    np.testing.assert_array_equal(image.pixels[0, 1, 0, 1], planes["C03", 2, 2])
    inside = [p for p in index.parent.rglob("*") if p.is_file() and p != index]
    assert {index_by_name(path) for path in inside} == {index}


def test_a_channel_that_is_there_at_some_time_points_only_is_left_out_with_a_note(tmp_path):
    index, _ = plates.write_imagexpress(tmp_path / "plate", late=(2,))

    info = describe(index / "B02/1")

    assert (info.axes, info.channels) == ("TYX", ("DAPI",))
    assert "channel 'Cy5' is there at some time points only" in info.notes[0]


def test_a_wave_of_metamorph_with_one_plane_stands_for_each_z(tmp_path):
    index, stacks = plates.write_metamorph(tmp_path / "series")

    assert why_not_whole(index) == ""
    assert images_in(index) == [index]
    image = load(index)
    assert image.info.axes == "PZCYX"
    assert "channel 'Conf640' has one plane, which stands for each z" in image.info.notes[1]
    for stage in (1, 2):
        np.testing.assert_array_equal(image.pixels[stage - 1, 0, :, 1], stacks[stage, 2])
        np.testing.assert_array_equal(image.pixels[stage - 1, 0, 2, 0], stacks[stage, 1][0])
    suite.check_that_planes_are_those_of_the_whole(index)
    assert {index_by_name(p) for p in index.parent.glob("*.tif")} == {index}


def test_an_ndtiff_dataset_is_read_by_its_index(tmp_path):
    axes = [{"channel": c, "time": t} for t in range(3) for c in ("DAPI", "FITC")]
    index, planes = plates.write_ndtiff(tmp_path / "run_1", axes)

    image = load(index)

    assert (image.info.axes, image.info.channels) == ("TCYX", ("DAPI", "FITC"))
    assert image.info.pixel_size_um == 0.65
    np.testing.assert_array_equal(image.pixels.reshape(6, 24, 24), planes)
    suite.check_that_planes_are_those_of_the_whole(index)


def test_positions_that_are_not_alike_are_images(tmp_path):
    axes = [{"position": "A", "z": z} for z in range(3)] + [{"position": "B", "z": 0}]
    index, planes = plates.write_ndtiff(tmp_path / "run_1", axes)
    alike, _ = plates.write_ndtiff(tmp_path / "run_2", [{"position": n} for n in "AB"])

    assert names(index) == ["A", "B"]
    np.testing.assert_array_equal(load(index / "A").pixels[0, 0, :, 0], planes[:3])
    assert images_in(alike) == [alike]
    assert describe(alike).axes == "PYX"


def test_smaller_pictures_of_an_ndtiff_dataset_belong_to_it(tmp_path):
    full, _ = plates.write_ndtiff(tmp_path / "run/Full resolution", [{"row": 1, "column": 2}])
    small, _ = plates.write_ndtiff(tmp_path / "run/Downsampled_x2", [{"row": 0, "column": 1}])

    assert index_by_name(small) == full
    assert {index_by_name(p) for p in small.parent.glob("*.tif")} == {full}


def of_operetta(folder):
    return plates.write_operetta(folder)[0]


def of_cellvoyager(folder):
    return plates.write_cellvoyager(folder)[0]


def of_imagexpress(folder):
    return plates.write_imagexpress(folder)[0]


def of_metamorph(folder):
    return plates.write_metamorph(folder)[0]


ALL = [of_operetta, of_cellvoyager, of_imagexpress, of_metamorph]


@pytest.mark.parametrize("write", ALL, ids=lambda each: each.__name__)
def test_a_set_names_what_is_not_there_and_takes_no_plane_from_nowhere(tmp_path, write):
    index = write(tmp_path / "set")
    parts = sorted(p for p in index.parent.rglob("*.[tT][iI][fF]*") if "SC_" not in p.name)
    parts = [part for part in parts if "thumb" not in part.name]
    before = names(index)
    gone, cut = parts[0], parts[-1]
    kept = gone.read_bytes()
    gone.unlink()

    assert why_not_whole(index)
    assert len(names(index)) < len(before) or before == ["."]

    gone.write_bytes(kept)
    assert why_not_whole(index) == ""
    cut.write_bytes(cut.read_bytes()[:200])
    assert f"{cut.name}: " in why_not_whole(index)


@pytest.mark.parametrize("write", ALL, ids=lambda each: each.__name__)
def test_an_image_of_a_set_is_known_by_its_own_files(tmp_path, write):
    index = write(tmp_path / "set")
    first, *rest = images_in(index)
    known = fingerprint(first), content_sha256(first)
    last = sorted(p for p in index.parent.rglob("*.[tT][iI][fF]*") if "SC_" not in p.name)[-1]
    last = last if "thumb" not in last.name else last.with_name(last.name.replace("_thumb", ""))
    tifffile.imwrite(last, plates.plane(99), photometric="minisblack")

    if rest:
        assert (fingerprint(first), content_sha256(first)) == known
        assert fingerprint(rest[-1]) != known[0]
    else:
        assert content_sha256(first) != known[1]


def test_an_index_that_is_damaged_is_no_set(tmp_path):
    for name in ("Index.idx.xml", "MeasurementData.mlf", "NDTiff.index", "a.companion.ome"):
        (tmp_path / name).write_bytes(b"<not xml" * 3)
        assert "the list of its files cannot be read" in why_not_whole(tmp_path / name), name


def test_a_path_in_an_index_that_leads_out_of_its_folder_is_not_followed(tmp_path):
    index, _ = plates.write_operetta(tmp_path / "set", wells=("B02",), fields=(1,))
    secret = tmp_path / "secret.tiff"
    tifffile.imwrite(secret, plates.plane(0))
    name = "r02c02f01p01-ch1sk1fk1fl1.tiff"
    for path in ("../secret.tiff", str(secret), "..\\\\secret.tiff"):
        index.write_text(index.read_text().replace(name, path))
        assert "1 of 2 files are not there: secret.tiff" in why_not_whole(index)
        name = path


def test_files_that_only_look_alike_belong_to_no_set(tmp_path):
    for name in ("a_B02_s1_w1.TIF", "cells_w1DAPI.tif", "r1c1f1.tiff", "notes_index.xml"):
        tifffile.imwrite(tmp_path / name, plates.plane(0))
        assert index_by_name(tmp_path / name) is None, name
        assert index_of(tmp_path / name) in (None, tmp_path / name), name


def test_a_field_whose_planes_differ_in_size_is_refused_when_it_is_read(tmp_path):
    index, _ = plates.write_operetta(tmp_path / "set", wells=("B02",), fields=(1,))
    odd = index.with_name("r02c02f01p01-ch2sk1fk1fl1.tiff")
    tifffile.imwrite(odd, np.zeros((5, 6), np.uint16))

    with pytest.raises(UnreadableImage, match=odd.name):
        load(index / "B02/1")


def test_what_real_instruments_wrote_has_the_pixels_of_its_files(shared):
    folder = shared / "data/formats"
    if not (folder / "FACTS.json").is_file():
        pytest.skip("the collection of instrument files is not beside the project")
    facts = json.loads((folder / "FACTS.json").read_text())
    one = {
        "cellvoyager_cv8000/MeasurementData.mlf/E03/3": (
            (0, 0, 2, 1), "*_E03_T0001F003L01A02Z03C02.tif",
        ),
        "imagexpress_9987_Plate_3435/9987.HTD/B03/2": (
            (0, 1, 0, 1), "TimePoint_2/9987_B03_s2_w2.TIF",
        ),
        "operetta_plate/Images/Index.idx.xml/C03/2": ((0, 0, 0, 0), "r03c03f02p01-*.tiff"),
        "prairie_multi_image/TSeries-camp-005_Cycle00001_Ch1_000001.ome.tif": (
            (1, 2, 0, 1), "*_Cycle00002_Ch2_000003.ome.tif",
        ),
        "ome_companion/multifile.companion.ome": ((0, 0, 3, 0), "multifile-Z4.ome.tiff"),
    }  # fmt: skip
    assert facts
    for name, (at, pattern) in one.items():
        index = folder.joinpath(*name.split("/")[: 3 if "operetta" in name else 2])
        (file,) = index.parent.glob(pattern)
        with tifffile.TiffFile(file, _multifile=False) as opened:
            wanted = opened.pages[0].asarray()
        np.testing.assert_array_equal(load(folder / name).pixels[at], wanted, name)


def test_a_set_may_be_large_though_the_file_that_lists_it_is_small(tmp_path):
    axes = [{"position": "a", "time": t} for t in range(3)]
    index, _ = plates.write_ndtiff(tmp_path / "run", axes)
    stack, side = next(index.parent.glob("*.tif")), 12_000
    entries = index.read_bytes().replace(struct.pack("<2I", 24, 24), struct.pack("<2I", side, side))
    index.write_bytes(entries)
    with stack.open("r+b") as file:
        file.truncate(4 * 2 * side**2)  # a hole: it takes no room

    info = describe(index)

    assert info.shape == (3, side, side)
    assert size_of(index) > 3 * 2 * side**2


def test_the_first_file_of_an_ome_set_stands_for_all_of_them(tmp_path):
    first, second = (write_part(tmp_path, n) for n in (0, 1))
    known = fingerprint(first), content_sha256(first)
    alone = fingerprint(second)

    tifffile.imwrite(second, PLANES[0], description=xml_of(FILES, IDS[1]).encode(), metadata=None)

    assert fingerprint(first) != known[0]
    assert content_sha256(first) != known[1]
    second.unlink()
    assert fingerprint(first) not in (known[0], alone)
    assert "1 of 2 files are not there" in why_not_whole(first)


def test_names_in_an_index_are_no_paths_and_each_image_has_its_own(tmp_path):
    index, _ = plates.write_metamorph(tmp_path / "series")
    said = index.read_text().replace('"left"', '"/etc/left"').replace('"right"', '"/etc/left"')
    index.write_text(said)
    axes = [{"position": "", "z": z} for z in (0, 1)] + [{"position": "../b", "z": 0}]
    unlike, _ = plates.write_ndtiff(tmp_path / "run", axes)

    assert "_etc_left, _etc_left (2)" in describe(index).notes[0]
    assert names(unlike) == ["position 1", ".._b"]
    assert all(path.is_relative_to(unlike) for path in images_in(unlike))


def test_positions_are_told_apart_only_when_all_files_are_there(tmp_path):
    index, _ = plates.write_metamorph(tmp_path / "series")
    (index.parent / "cells_w2Conf488_s2.tif").unlink()

    assert "1 of 4 files are not there" in why_not_whole(index)
    assert images_in(index) == [index]


def test_a_plate_waits_for_the_time_points_that_are_planned(tmp_path):
    index, _ = plates.write_imagexpress(tmp_path / "plate")
    index.write_text(index.read_text("latin-1").replace('"YWells"', '"TimePoints", 5\n"YWells"'))

    assert why_not_whole(index) == "2 of 5 time points are there"
    assert names(index) == ["B02/1", "C03/1"]  # for when no more come
