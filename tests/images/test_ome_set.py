"""OME-TIFF files that are one part of a set: no plane is invented, no path is followed."""

import numpy as np
import pytest
import tifffile

from cellwatch.images import describe, load
from cellwatch.images.sets import index_of
from cellwatch.images.whole import why_not_whole
from tests.images import suite

OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
RNG = np.random.default_rng(0)
PLANES = RNG.integers(1, 999, (2, 32, 40)).astype(np.uint16)
IDS = tuple(f"urn:uuid:00000000-0000-0000-0000-00000000000{n}" for n in (1, 2))


def xml_of(names, own):
    uuid = '<UUID FileName="{}">{}</UUID>'
    entry = f'<TiffData FirstC="{{}}" IFD="0" PlaneCount="1">{uuid}</TiffData>'
    files = enumerate(zip(names, IDS, strict=True))
    data = "".join(entry.format(channel, *each) for channel, each in files)
    return (
        f'<?xml version="1.0"?><OME xmlns="{OME}" UUID="{own}"><Image ID="I:0"><Pixels ID="P:0" '
        'DimensionOrder="XYCZT" Type="uint16" SizeX="40" SizeY="32" SizeC="2" SizeZ="1" SizeT="1" '
        'PhysicalSizeX="0.65" PhysicalSizeY="0.65"><Channel ID="C:0" Name="DAPI"/>'
        f'<Channel ID="C:1" Name="GFP"/>{data}</Pixels></Image></OME>'
    )


def write_part(folder, index, names=("a_c0.ome.tif", "a_c1.ome.tif"), xml=None):
    path = folder / f"a_c{index}.ome.tif"
    text = xml or xml_of(names, IDS[index])
    tifffile.imwrite(path, PLANES[index], description=text.encode(), metadata=None)
    return path


def test_f12_a_set_waits_for_its_files_and_no_plane_is_invented(tmp_path):
    first, second = (tmp_path / f"a_c{n}.ome.tif" for n in (0, 1))
    write_part(tmp_path, 1)

    alone = load(second)

    assert "a_c0.ome.tif, which lists its files, is not here" in why_not_whole(second)
    np.testing.assert_array_equal(alone.pixels.squeeze(), PLANES[1])
    assert alone.info.channels == ("GFP",)
    assert "a part of a set of 2 files (a_c0.ome.tif)" in alone.info.notes[0]

    write_part(tmp_path, 0)

    assert (why_not_whole(first), why_not_whole(second)) == ("", "")
    whole = load(first)
    np.testing.assert_array_equal(whole.pixels.squeeze(), PLANES)
    assert (whole.info.channels, whole.info.pixel_size_um) == (("DAPI", "GFP"), 0.65)
    np.testing.assert_array_equal(load(second).pixels.squeeze(), PLANES[1])
    assert index_of(second) == index_of(first) == first
    suite.check_that_planes_are_those_of_the_whole(first)


def test_c1_the_first_file_of_an_incomplete_set_is_not_whole(tmp_path):
    path = write_part(tmp_path, 0)

    assert "1 of 2 files are not there: a_c1.ome.tif" in why_not_whole(path)
    np.testing.assert_array_equal(load(path).pixels.squeeze(), PLANES[0])
    second = write_part(tmp_path, 1)
    second.write_bytes(second.read_bytes()[:-200])
    assert "a_c1.ome.tif: the TIFF is cut" in why_not_whole(path)
    np.testing.assert_array_equal(load(path).pixels.squeeze(), PLANES[0])


def test_c2_a_renamed_member_is_known_by_its_uuid(tmp_path):
    path = write_part(tmp_path, 0).rename(tmp_path / "site 1.ome.tif")

    info = describe(path)

    assert (info.axes, info.shape, info.channels) == ("YX", (32, 40), ("DAPI",))


@pytest.mark.parametrize("name", ["../secret.ome.tif", "/etc/secret.ome.tif", "x\\secret.ome.tif"])
def test_c2_a_path_that_leads_out_of_the_folder_is_not_followed(tmp_path, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    tifffile.imwrite(tmp_path / "secret.ome.tif", PLANES[1])
    path = write_part(inside, 0, ("a_c0.ome.tif", name))

    image = load(path)

    np.testing.assert_array_equal(image.pixels.squeeze(), PLANES[0])


def test_c2_metadata_in_a_companion_are_used_when_it_is_there_and_missed_when_not(tmp_path):
    text = (
        f'<?xml version="1.0"?><OME xmlns="{OME}" UUID="{IDS[0]}">'
        f'<BinaryOnly MetadataFile="a.companion.ome" UUID="{IDS[1]}"/></OME>'
    )
    path = write_part(tmp_path, 0, xml=text)
    without = describe(path)
    (tmp_path / "a.companion.ome").write_text(xml_of(("a_c0.ome.tif", "b.ome.tif"), IDS[1]))

    info = describe(path)

    assert without.lacks == str(tmp_path / "a.companion.ome")
    assert "which is not here" in without.notes[0]
    assert (info.pixel_size_um, info.channels, info.lacks) == (0.65, ("DAPI",), "")


def test_c10_a_bad_number_in_the_metadata_does_not_take_the_pixels_with_it(tmp_path):
    for said, size in (("0,325", 0.325), ("", None), ("a lot", None)):
        text = xml_of(("a_c0.ome.tif",) * 2, IDS[0]).replace('SizeX="0.65"', f'SizeX="{said}"')
        text = text.replace('PhysicalSizeY="0.65"', "").replace(IDS[1], IDS[0])
        info = describe(write_part(tmp_path, 0, xml=text))

        assert info.pixel_size_um == size
        assert (said == "a lot") == any("pixel size" in note for note in info.notes)
