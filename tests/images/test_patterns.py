"""Files that belong together by their names: a pattern of the configuration, or Micro-Manager's."""

import json
import os
import shutil
import time

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from cellwatch.config.parse import parse_config
from cellwatch.errors import ConfigError
from cellwatch.images import describe, load, sets
from cellwatch.images.identity import content_sha256, fingerprint
from cellwatch.images.sets import pattern
from cellwatch.images.whole import why_not_whole
from tests.images.plates import plane

EXPORT = r".*_Series\d+_z(?P<z>\d+)_ch(?P<c>\d+)\.tif"
WAVES = r"(?P<well>[A-H]\d\d)_f(?P<field>\d+)_(?P<c>DAPI|GFP)\.tif"


@pytest.fixture(autouse=True)
def _nothing_declared():
    yield
    pattern.declare({})


def write(folder, *names, start=0):
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for n, name in enumerate(names, start=start):
        written[name] = plane(n)
        tifffile.imwrite(folder / name, written[name])
    return written


def test_planes_in_files_are_one_image_of_the_first_file(tmp_path):
    pattern.declare({tmp_path: EXPORT})
    names = [f"a_Series014_z{z:03d}_ch{c:02d}.tif" for z in range(3) for c in range(2)]
    written = write(tmp_path, *names)
    write(tmp_path, "a_Series015_z000_ch00.tif", "a_Series015_z000_ch01.tif", start=9)
    first = tmp_path / names[0]

    assert {sets.index_of(tmp_path / name) for name in names} == {first}
    info, image = describe(first), load(first)

    assert why_not_whole(first) == ""
    assert (info.axes, info.shape, info.format) == ("ZCYX", (3, 2, 24, 24), "file-series")
    for z in range(3):
        for c in range(2):
            assert np.array_equal(image.pixels[0, 0, z, c], written[names[2 * z + c]])
    assert describe(tmp_path / "a_Series015_z000_ch00.tif").shape == (2, 24, 24)


def test_an_image_waits_for_the_channels_that_the_pattern_names(tmp_path):
    pattern.declare({tmp_path: WAVES})
    write(tmp_path, "A01_f1_DAPI.tif")
    first = tmp_path / "A01_f1_DAPI.tif"
    assert why_not_whole(first) == "no file of channel GFP is there"
    alone = fingerprint(first)

    write(tmp_path, "A01_f1_GFP.tif", start=5)

    info = describe(first)
    assert why_not_whole(first) == ""
    assert (info.axes, info.channels, info.well, info.field) == ("CYX", ("DAPI", "GFP"), "A01", 1)
    assert fingerprint(first) != alone
    assert content_sha256(first) != content_sha256(tmp_path / "A01_f1_GFP.tif")


def test_channels_that_are_numbers_are_those_of_the_other_images(tmp_path):
    pattern.declare({tmp_path: EXPORT})
    write(tmp_path, "a_Series1_z0_ch0.tif", "a_Series1_z0_ch1.tif", "a_Series2_z0_ch1.tif")

    assert why_not_whole(tmp_path / "a_Series2_z0_ch1.tif") == "no file of channel 0 is there"


def test_an_overview_of_one_channel_is_not_awaited_for_ever(tmp_path):
    pattern.declare({tmp_path: EXPORT})
    write(tmp_path, "a_Series1_z0_ch0.tif", "a_Series1_z0_ch1.tif", "a_Series2_z0_ch1.tif")
    old = time.time() - 300
    os.utime(tmp_path / "a_Series2_z0_ch1.tif", (old, old))

    assert why_not_whole(tmp_path / "a_Series2_z0_ch1.tif") == ""


@pytest.mark.parametrize("texts", [("-1", "0", "1"), ("a", "b", "c"), ("1", "01", "2")])
def test_no_two_files_are_one_plane(tmp_path, texts):
    pattern.declare({tmp_path: r"x_z(?P<z>.+)\.tif"})
    write(tmp_path, *(f"x_z{text}.tif" for text in texts))
    first = sets.index_of(tmp_path / f"x_z{texts[0]}.tif")

    assert describe(first).shape == (3, 24, 24)


def test_a_plane_that_is_missing_amid_a_stack_is_waited_for(tmp_path):
    pattern.declare({tmp_path: EXPORT})
    write(tmp_path, *(f"a_Series1_z{z}_ch{c}.tif" for z, c in ((0, 0), (0, 1), (1, 0))))

    reason = why_not_whole(tmp_path / "a_Series1_z0_ch0.tif")

    assert reason == "1 of 4 planes are not there, the first at time point 0, z 1, channel 1"


def test_files_of_other_names_are_images_of_their_own(tmp_path):
    pattern.declare({tmp_path: WAVES})
    write(tmp_path, "overview.tif")

    assert sets.index_of(tmp_path / "overview.tif") is None
    assert describe(tmp_path / "overview.tif").shape == (24, 24)


def test_pictures_may_belong_together_too(tmp_path):
    pattern.declare({tmp_path: r"x_(?P<c>red|green)\.png"})
    for value, name in ((50, "red"), (90, "green")):
        Pillow.fromarray(np.full((9, 9), value, np.uint8)).save(tmp_path / f"x_{name}.png")

    image = load(tmp_path / "x_green.png")

    assert image.info.channels == ("red", "green")
    assert image.pixels[0, 0, 0, :, 0, 0].tolist() == [50, 90]


def micromanager(folder, names, *, dimensions, channels=("DAPI", "GFP")):
    write(folder, *names)
    summary = {"ChNames": channels, "PixelSize_um": 0.5, "IntendedDimensions": dimensions}
    text = json.dumps({"Summary": summary, "FrameKey-0-0-0": {}})
    (folder / "metadata.txt").write_text(text[:-1])  # as while it is still being written


@pytest.mark.parametrize(
    "name",
    ["img_{t:09d}_{c}_{z:03d}.tif", "img_channel{n:03d}_position000_time{t:09d}_z{z:03d}.tif"],
)
def test_a_series_of_micromanager_is_one_image_with_its_metadata(tmp_path, name):
    grid = [(t, z, n) for t in range(2) for z in range(3) for n in range(2)]
    names = [name.format(t=t, z=z, n=n, c=("DAPI", "GFP")[n]) for t, z, n in grid]
    meant = {"time": 2, "z": 3, "channel": 2, "position": 4}
    micromanager(tmp_path / "Pos0", names[:-6], dimensions=meant)
    first = tmp_path / "Pos0" / names[0]
    assert why_not_whole(first) == "6 of 12 files are not there"

    write(tmp_path / "Pos0", *names[-6:])

    info = describe(first)
    assert why_not_whole(first) == ""
    assert (info.axes, info.shape) == ("TZCYX", (2, 3, 2, 24, 24))
    assert (info.channels, info.pixel_size_um) == (("DAPI", "GFP"), 0.5)


def test_children_inherit_what_is_declared(tmp_path):
    pattern.declare({tmp_path: WAVES})

    assert json.loads(os.environ[pattern.VARIABLE]) == {str(tmp_path): WAVES}
    pattern.declare({tmp_path: ""})
    assert pattern.VARIABLE not in os.environ


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("(?P<c>", "is not a pattern"),
        (".*", "name what tells the planes apart"),
        ("(?P<c>a)(?P<colour>b)", "group colour is none of c, channel, field, t, time, well, z"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused(tmp_path, said, why):
    text = f"watch: [{{folder: a, files: '{said}'}}]\noutput: {{folder: b}}\nstate: {{folder: c}}\n"

    with pytest.raises(ConfigError, match=why):
        parse_config(text, "config.yaml", tmp_path)


def test_real_series_are_what_their_names_say(shared, tmp_path):
    formats = shared / "data/formats"
    if not formats.is_dir():
        pytest.skip("the real files are not here")
    series = tmp_path / "leica"
    shutil.copytree(formats / "leica_export_series", series)
    pattern.declare({series: EXPORT})
    first = min(series.glob("*.tif"))

    assert describe(first).axes == "ZYX"
    assert describe(first).shape[:3] == (3, 256, 256)
    assert np.array_equal(load(first).pixels[0, 0, 1].squeeze(), load_alone(series))


def load_alone(series):
    pattern.declare({})
    return load(sorted(series.glob("*.tif"))[1]).pixels[0, 0].squeeze()
