"""Inputs that users of such software reported as failing, and what is right for each."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cellwatch.errors import UnreadableImage
from cellwatch.images import describe, load, sets
from cellwatch.images.whole import why_not_whole
from tests.daemon.stations import Station

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

OWN_PLANES = "a part of a set of 2 files"
GUESSED = "pages are taken for time points"
# maker, file below its folder, axes, shape, and what is noted
SHAPES = [
    ("10", "thin_1x1.tif", "YX", (1, 1), ""),
    ("10", "thin_220x3.tif", "YX", (200, 3), ""),
    ("10", "one_one_yx.tif", "YX", (200, 220), ""),
    ("10", "one_yx.tif", "YX", (200, 220), ""),
    ("10", "yx_one.tif", "YX", (200, 220), ""),
    ("10", "one_two_yx.tif", "TYX", (2, 200, 220), GUESSED),
    ("10", "five_one.tif", "TYX", (5, 200, 220), GUESSED),
    ("10", "three_pages.tif", "TYX", (3, 200, 220), GUESSED),
    ("10", "pil_pages.tif", "TYX", (3, 200, 220), GUESSED),
    ("10", "channels_last_two.tif", "YXC", (200, 220, 2), ""),
    ("10", "channels_last_four.tif", "YXC", (200, 220, 4), ""),
    ("10", "crop_of_shaped.tif", "YX", (100, 100), ""),
    ("10", "crop_of_shaped2.tif", "YX", (100, 100), ""),
    ("10", "apng.png", "YX", (200, 220), ""),
    ("10", "grey_alpha.png", "YX", (200, 220), "its transparency is left out"),
    ("10", "palette.png", "YX", (200, 220), "read through its palette"),
    ("01", "well_1_MMStack_Pos0.ome.tif", "YX", (200, 220), OWN_PLANES),
    ("01", "well_1_MMStack_Pos1.ome.tif", "YX", (200, 220), OWN_PLANES),
    ("01", "time_1_MMStack_Pos0.ome.tif", "TCYX", (3, 2, 200, 220), OWN_PLANES),
    ("01", "time_1_MMStack_Pos1.ome.tif", "TCYX", (3, 2, 200, 220), OWN_PLANES),
    ("02", "companion/companion.companion.ome", "TYX", (2, 200, 220), ""),
    ("02", "full/full_Ch1_000000.ome.tif", "TYX", (2, 200, 220), ""),
    ("02", "prairie/prairie_Ch1_000000.ome.tif", "CYX", (2, 200, 220), ""),
    ("02", "renamed/site A 0.ome.tif", "YX", (200, 220), OWN_PLANES),
    ("02", "renamed/site A 1.ome.tif", "YX", (200, 220), OWN_PLANES),
]
TYPES = {
    "sum_uint64": "uint16", "int64": "uint16", "big_int64": "uint16", "int32": "int32",
    "uint32": "uint32", "int8": "int8", "uint8": "uint8", "bool": "uint8", "float16": "float16",
    "float32": "float32", "float64": "float64",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(shared, tmp_path_factory):
    """Return a function that runs a maker once and gives the folder of what it made."""
    cases = shared / "cases"
    if not cases.is_dir():
        pytest.skip("the cases are not here")
    folders = {}

    def of(number):
        if number not in folders:
            folders[number] = tmp_path_factory.mktemp(number)
            (maker,) = cases.glob(f"{number}_*.py")
            command = [sys.executable, "-B", str(maker), str(folders[number])]
            subprocess.run(command, check=True, cwd=cases)
        return folders[number]

    return of


@pytest.mark.parametrize(("maker", "name", "axes", "shape", "note"), SHAPES)
def test_a_file_is_what_it_says_itself(made, maker, name, axes, shape, note):
    path = made(maker) / name

    info = describe(path)

    assert why_not_whole(path) == ""
    assert (info.axes, info.shape) == (axes, shape)
    assert note in " ".join(info.notes)
    assert bool(note) == bool(info.notes)
    assert load(path).pixels.any()


def test_what_a_file_means_does_not_depend_on_the_files_beside_it(made, tmp_path):
    path = made("01") / "time_1_MMStack_Pos1.ome.tif"
    alone = shutil.copy(path, tmp_path)

    beside, apart = load(path), load(Path(alone))

    assert np.array_equal(beside.pixels, apart.pixels)
    assert beside.info.axes == apart.info.axes
    assert sets.index_of(path) is None


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("companion/companion_Ch1_000001.ome.tif", "companion.companion.ome"),
        ("full/full_Ch1_000001.ome.tif", "full_Ch1_000000.ome.tif"),
        ("prairie/prairie_Ch2_000000.ome.tif", "prairie_Ch1_000000.ome.tif"),
    ],
)
def test_a_part_of_a_set_is_no_image_of_its_own(made, name, index):
    found = sets.index_of(made("02") / name)

    assert found is not None
    assert found.name == index


def test_a_plane_that_lies_in_no_file_is_not_invented(made):
    path = made("02") / "lonely/lonely_Ch1_000000.ome.tif"

    assert why_not_whole(path) == "1 of 2 files are not there: lonely_Ch1_000001.ome.tif"
    assert describe(path).shape == (200, 220)


def test_a_path_out_of_the_folder_is_not_followed(made):
    folder = made("16")

    image = load(folder / "mine/a.ome.tif")

    assert image.shape == (1, 1, 1, 1, 200, 220)
    assert "files are not there: secret.tif" in why_not_whole(folder / "mine/a.ome.tif")


def test_three_slices_that_were_saved_as_colours_can_be_declared_to_be_slices(made):
    path = made("10") / "three_slices.tif"

    assert load(path).is_rgb
    assert load(path, "ZYX").shape == (1, 1, 3, 1, 200, 220)


@pytest.mark.parametrize("name", TYPES)
def test_numbers_of_every_type_are_read(made, name):
    image = load(made("11") / f"{name}.tif")

    assert image.dtype == TYPES[name]
    assert image.pixels.max() > 0


def test_complex_numbers_are_refused_by_name(made):
    with pytest.raises(UnreadableImage, match="pixels of type complex64 are not intensities"):
        load(made("11") / "complex64.tif")


def test_one_bad_image_ends_no_batch(made, tiny_model, tmp_path):
    station = Station(tmp_path / "s", tiny_model.path)
    for path in made("11").iterdir():
        shutil.copy(path, station.images)

    station.command("run", "--once", check=False)

    assert station.counts() == {"done": 11, "failed": 1}


@pytest.mark.parametrize("limit", ["instances", "watches"])
def test_images_are_found_where_the_kernel_gives_no_events(made, limit, tmp_path):
    may = subprocess.run(["unshare", "-Ur", "true"], capture_output=True, check=False)
    if may.returncode:
        pytest.skip("user namespaces are not allowed here")
    folder = shutil.copytree(made("13"), tmp_path / "case")
    command = tmp_path / "cellwatch"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m cellwatch "$@"\n')
    command.chmod(0o755)

    done = subprocess.run(
        ["sh", str(folder / "run.sh"), limit, str(command)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONUTF8": "1"},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert f"fs.inotify.max_user_{limit}" in done.stderr
    assert "1 done" in done.stderr
    assert "Traceback" not in done.stderr
