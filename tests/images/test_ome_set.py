"""OME-TIFF files that are one part of a set: no plane is invented, no path is followed."""

import numpy as np
import pytest
import tifffile

from cellwatch.images import describe, load
from cellwatch.images.whole import why_not_whole

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


def test_f12_a_file_of_a_set_whose_other_member_is_missing_has_its_own_plane_alone(tmp_path):
    path = write_part(tmp_path, 1)

    image = load(path)

    assert why_not_whole(path) == ""
    assert image.pixels.shape == (1, 1, 1, 1, 32, 40)
    np.testing.assert_array_equal(image.pixels.squeeze(), PLANES[1])
    assert image.info.channels == ("GFP",)
    assert "a part of a set of 2 files (a_c0.ome.tif)" in image.info.notes[0]


def test_c1_what_a_file_means_does_not_depend_on_what_lies_beside_it(tmp_path):
    path = write_part(tmp_path, 0)
    alone = describe(path)

    write_part(tmp_path, 1)

    assert describe(path) == alone
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
