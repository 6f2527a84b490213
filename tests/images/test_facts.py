"""What real files hold, as independent readers tell it: every file of the collection, or why not.

The collection lies beside the project and is no part of it; its README explains the facts.
"""

import json

import pytest

from cellwatch.cli.segment import inspected
from cellwatch.images import images_in
from tests.conftest import SHARED

pytestmark = pytest.mark.timeout(120)
FOLDER = SHARED / "data/formats"
NO_IMAGES = ("ImageJ RoiSet", "ImageJ ROI", "QuPath GeoJSON", "GeoJSON")
# Files that are a part of a set, which is not taken together yet: each is an image for itself.
SETS = {
    "cellvoyager_cv8000/MeasurementData.mlf",
    "imagexpress_9987_Plate_3420/9987.HTD",
    "imagexpress_9987_Plate_3435/9987.HTD",
    "almf_jpeg_plate",
    "metamorph_3ch_2pos/sample_3ch_2pos_mixed-z.nd",
    "ndtiff_ndtiffv2.0_test",
    "ndtiff_12_bit_pycromanager_mda",
    "ndtiff_labeled_positions_1",
    "ndtiff_ndtiffv3.0_test",
    "ndtiff_no_magellan_explore_multi_channel",
    "ome_companion/multifile.companion.ome",
    "prairie_multi_image/TSeries-camp-005_Cycle00001_Ch1_000001.ome.tif",
    "operetta_plate/Images/Index.idx.xml",
    "leica_export_series",
}
# Where cellwatch says something else, and is right.
RIGHT = {
    "simple_0.4.zarr": "its pixels are 0.03 by 0.004 µm: no one size fits them, and a note says so",
    "simple_0.5.ome.zarr.zip": "as simple_0.4.zarr",
    "test_LA_16.png": "transparency is no intensity: it is left out with a note",
    "shapes_hyper.tif": "seven samples are channels, and no colours",
    "test_orient6.tif": "its orientation tag turns it: height and width are swapped",
    "shapes_multi_color.tif": "five pictures of one size and several kinds: none is the image",
}


def listed():
    path = FOLDER / "FACTS.json"
    facts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return [each for each in facts if not each["format"].startswith(NO_IMAGES)]


def test_the_collection_is_there():
    if not listed():
        pytest.skip("the collection of instrument files is not beside the project")
    names = {each["file"] for each in listed()}
    assert len(names) >= 100
    assert SETS | set(RIGHT) <= names | {"polygon.geojson"}


@pytest.mark.parametrize("facts", listed(), ids=lambda each: each["file"])
def test_a_real_file_is_described_as_an_independent_reader_does(facts):
    name = facts["file"]
    if name in SETS:
        pytest.skip("a set of files, each of which is an image for itself")
    paths = images_in(FOLDER / name) if facts["whole"] is not False else [FOLDER / name]
    infos = [inspected(path) for path in paths]
    first = infos[0]

    if facts["whole"] is False:
        assert not first.whole
        assert first.reason
        return
    differs = what_differs(facts, infos)
    assert bool(differs) == (name in RIGHT), differs


def what_differs(facts, infos):
    first = infos[0]
    if not all(info.whole for info in infos):
        return [f"refused: {[info.reason for info in infos]}"]
    sizes = long_axes(first.axes, first.shape)
    positions = sizes.pop("P", 1) * len(infos)
    wanted = long_axes(facts["axes"], facts["shape"])
    found = [] if sizes == wanted else [f"axes {sizes}, and not {wanted}"]
    if facts["positions"] not in (None, positions):
        found.append(f"{positions} positions, and not {facts['positions']}")
    if first.dtype != facts["dtype"]:
        found.append(f"{first.dtype}, and not {facts['dtype']}")
    side = facts["pixel_size_um"]["x"]
    if (first.pixel_size_um or 0) != pytest.approx(side or 0, rel=1e-3):
        found.append(f"{first.pixel_size_um} µm, and not {side}")
    named = [name for name in first.channels if name]
    if "S" not in facts["axes"] and named != [name for name in facts["channels"] if name]:
        found.append(f"channels {first.channels}, and not {facts['channels']}")
    return found


def long_axes(axes, shape):
    return {axis: n for axis, n in zip(axes, shape, strict=True) if n > 1 or axis in "YX"}
