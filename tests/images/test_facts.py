"""What real files hold, as independent readers tell it: every file of the collection, or why not.

The collection lies beside the project and is no part of it; its README explains the facts.
"""

import json

import pytest

from cellwatch.cli.inspect import inspected
from cellwatch.images import images_in
from tests.conftest import SHARED

pytestmark = pytest.mark.timeout(120)
FOLDER = SHARED / "data/formats"
NO_IMAGES = ("ImageJ RoiSet", "ImageJ ROI", "QuPath GeoJSON", "GeoJSON")
# Folders of files that only names, which a person must explain, hold together.
NO_INDEX = {"almf_jpeg_plate", "leica_export_series"}
# Where a folder is named: the file in it that lists the others.
INDEX = ("NDTiff.index", "Full resolution/NDTiff.index")
# Where cellwatch says something else, and is right.
RIGHT = {
    "simple_0.4.zarr": "its pixels are 0.03 by 0.004 µm: no one size fits them, and a note says so",
    "simple_0.5.ome.zarr.zip": "as simple_0.4.zarr",
    "test_LA_16.png": "transparency is no intensity: it is left out with a note",
    "shapes_hyper.tif": "seven samples are channels, and no colours",
    "test_orient6.tif": "its orientation tag turns it: height and width are swapped",
    "ndtiff_no_magellan_explore_multi_channel": "its tiles differ: the first has two of the four "
    "channels, and each tile is an image",
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
    assert NO_INDEX | set(RIGHT) <= names


@pytest.mark.parametrize("facts", listed(), ids=lambda each: each["file"])
def test_a_real_file_is_described_as_an_independent_reader_does(facts):
    name = facts["file"]
    if name in NO_INDEX:
        pytest.skip("no file lists what belongs together: each is an image")
    path = next((p for i in INDEX if (p := FOLDER / name / i).is_file()), FOLDER / name)
    paths = images_in(path) if facts["whole"] is not False else [path]
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
