"""Files that hold several images, stores and pictures, from a watched folder to their masks."""

import csv
import json
import random
import shutil
import time

import numpy as np
import ome_zarr_models.v05.hcs
import pytest
import tifffile
import yaozarrs
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from PIL import Image as Pillow

from cellwatch.storage.masks.store import read_provenance
from tests.daemon.stations import Station
from tests.discs import disc_picture
from tests.images import plates
from tests.images.projects import write_lif
from tests.images.test_ome_zarr import write_image

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]


def picture(seed):
    return disc_picture(seed, size=96, n=5)[0]


@pytest.fixture
def station(tmp_path, tiny_model):
    station = Station(tmp_path / "s", tiny_model.path)
    station.take_corrections()
    return station


def also(station, key):
    """Add a key to the watched folder's part of the configuration."""
    text = station.config.read_text()
    station.config.write_text(text.replace("{folder: images,", f"{{folder: images, {key},"))


def explained(station, name):
    return station.command("explain", name).stdout


def test_the_images_of_a_project_are_segmented_once_each_while_it_grows(station):
    project = station.images / "day.lif"
    images = {"Series 1": ("YX", picture(0)), "Tiles/Series 2": ("YX", picture(1))}
    write_lif(project, images)
    whole = project.read_bytes()
    project.write_bytes(whole[:-50])
    station.command("run", "--once", check=False)
    assert station.counts() == {"interrupted": 1}
    project.write_bytes(whole)

    station.command("run", "--once")

    assert station.counts() == {"done": 2}
    first = station.masks / "images/day.lif/Series 1.zarr/zarr.json"
    assert (station.masks / "images/day.lif/Tiles/Series 2.zarr").is_dir()
    made = first.stat().st_ino
    write_lif(project, {**images, "Series 3": ("YX", picture(2))})

    station.command("run", "--once")

    assert station.counts() == {"done": 3}
    assert first.stat().st_ino == made
    assert explained(station, "day.lif").count(": done\n") == 3
    assert explained(station, "day.lif").count(": unchanged\n") == 2
    assert "Series 3" in explained(station, "day.lif/Series 3")

    out = station.folder / "out"
    station.command("checkout", "Series 1", "--to", str(out))
    (labels,) = out.rglob("*_masks.tif")
    corrected = tifffile.imread(labels)
    corrected[corrected == corrected.max()] = 0
    tifffile.imwrite(station.folder / "corrections" / labels.name, corrected)
    station.command("run", "--once")
    (answer,) = (station.folder / "corrections").glob("*.accepted.json")
    assert "day.lif/Series 1" in answer.read_text()
    assert "0 problems" in station.command("verify").stderr


def test_a_project_that_was_there_before_is_left_alone_with_its_images(station):
    also(station, "existing: ignore")
    write_lif(station.images / "old.lif", {"Series 1": ("YX", picture(0))})

    station.command("run", "--once")
    station.write("new.tif")
    station.command("run", "--once")

    assert station.counts()["done"] == 1
    assert "it was there before" in explained(station, "old.lif/Series 1")


def test_stores_are_taken_and_jpegs_where_they_are_named(station):
    write_image(zarr.create_group(station.images / "a.zarr"), picture(0), "yx")
    Pillow.fromarray(picture(1).astype(np.uint8)).save(station.images / "b.jpg", quality=95)
    begun = station.images / "c.zarr"
    write_image(zarr.create_group(begun), picture(2), "yx", chunks=(48, 48))
    shutil.rmtree(begun / "s0/c/1")

    station.command("run", "--once", check=False)

    assert station.counts() == {"done": 1, "interrupted": 1}
    assert "2 of 4 chunks are there" in explained(station, "c.zarr")
    told = station.command("explain", "b.jpg", check=False).stderr
    assert "to read them: name them in include:" in told
    shown = station.command("status", check=False).stdout
    assert "1 file of a kind that is not read: .jpg" in shown

    also(station, "include: ['*.jpg']")
    station.command("run", "--once", check=False)
    assert station.counts()["done"] == 2


def test_a_plate_is_taken_field_by_field_and_waits_for_the_file_that_lists_it(station):
    folder = station.images / "plate1/Images"
    index, _ = plates.write_operetta(folder, channels=("DAPI",), make=picture)
    listed, late = index.read_bytes(), folder / "r03c03f02p01-ch1sk1fk1fl1.tiff"
    index.unlink()
    kept = late.read_bytes()
    late.unlink()

    station.command("run", "--once", check=False)

    assert station.counts() == {"waiting": 1}
    told = station.command("explain", "plate1/Images/Index.idx.xml").stdout
    assert "which lists the files of the set, is not here: 3 files wait for it" in told

    index.write_bytes(listed)
    station.command("run", "--once", check=False)

    assert station.counts() == {"done": 3, "interrupted": 1}
    assert "1 of 4 files are not there: r03c03f02p01" in explained(station, index.name)
    plate = station.masks / "images/plate1/Images/Index.idx.xml.zarr"
    made = (plate / "B/02/1/zarr.json").stat().st_ino

    late.write_bytes(kept)
    station.command("run", "--once")

    assert station.counts() == {"done": 4}
    assert (plate / "B/02/1/zarr.json").stat().st_ino == made
    assert_it_is_a_plate(plate)
    told = station.command("explain", str(late))
    assert f"belongs to the set of {index}" in told.stderr
    assert told.stdout.count(" done since ") == 4
    assert "4 mask stores checked, 0 problems" in station.command("verify").stderr
    assert_wells_are_counted(station)
    assert_fields_go_with_their_plate(station, index.name)


def assert_fields_go_with_their_plate(station, index):
    done = station.n_computed()
    (station.images / "plate1").rename(station.images / "plate2")
    station.command("run", "--once")
    assert station.n_computed() == done
    assert station.counts() == {"done": 4}
    assert_it_is_a_plate(station.masks / f"images/plate2/Images/{index}.zarr")
    assert not list(station.masks.glob("images/plate1/Images/*.zarr/*/*/*/zarr.json"))
    (plate,) = json.loads(station.command("plates", "--json").stdout)
    assert plate["plate"] == "plate2"


def assert_wells_are_counted(station):
    (plate,) = json.loads(station.command("plates", "--json").stdout)
    assert (plate["plate"], plate["wells"], plate["fields"], plate["done"]) == ("plate1", 2, 4, 4)
    said = json.loads(station.command("plates", "plate1", "--json").stdout)
    by_well = {each["well"]: each for each in said["well_counts"]}
    assert list(by_well) == ["B02", "C03"]
    assert sum(each["rois"] for each in by_well.values()) == plate["rois"] > 0
    rows = list(csv.DictReader(station.command("plates", "plate1", "--csv").stdout.splitlines()))
    assert [(row["well"], row["fields"]) for row in rows] == [("B02", "2"), ("C03", "2")]
    lines = station.command("plates", "plate1").stdout.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["02", "03"],
        ["B", str(by_well["B02"]["rois"])],
        ["C", str(by_well["C03"]["rois"])],
    ]
    shown = station.command("status", check=False).stdout
    assert "plate plate1: 4 of 4 fields in 2 wells done" in shown
    assert "plate plate1, well B02, field 1" in station.command("explain", "B02/1").stdout
    wrong = station.command("plates", "plate9", check=False)
    assert "there is no plate 'plate9'" in wrong.stderr


@pytest.mark.drill
@pytest.mark.timeout(300)
def test_a_plate_survives_kills_stray_order_and_a_plane_that_is_written_again(tmp_path, tiny_model):
    station = Station(tmp_path / "s", tiny_model.path, ", channels: {cell: DAPI}")
    plates.write_operetta(tmp_path / "made", make=picture)
    files = sorted((tmp_path / "made").iterdir())
    random.Random(4).shuffle(files)
    folder = station.images / "p"
    folder.mkdir()
    with station.daemon() as process:
        copy_slowly(files[:5], folder)
        time.sleep(1)
        process.kill()

    with station.daemon():
        copy_slowly(files[5:], folder)
        assert station.until(lambda: station.counts() == {"done": 4}), station.log()
        plane = min(folder.glob("*ch1*"))
        tifffile.imwrite(plane, picture(77))
        old = station.masks / ".superseded"
        assert station.until(lambda: any(old.rglob("zarr.json"))), station.log()
        assert station.until(lambda: station.counts() == {"done": 4}), station.log()

    done = station.log().count("segmented ")
    station.command("run", "--once")
    assert station.counts() == {"done": 4}
    assert (done, station.log().count("segmented ")) == (5, 5)


def copy_slowly(files, folder):
    for file in files:
        shutil.copy(file, folder)
        time.sleep(0.4)


def assert_it_is_a_plate(folder):
    """Let others who read OME-Zarr judge it."""
    yaozarrs.validate_zarr_store(str(folder))
    plate = ome_zarr_models.v05.hcs.HCS.from_zarr(zarr.open_group(folder, mode="r"))
    wells = plate.attributes.ome.plate.wells
    assert [well.path for well in wells] == ["B/02", "C/03"]
    (node, *_) = Reader(parse_url(str(folder)))()
    assert node.metadata["metadata"]["plate"]["wells"][1]["path"] == "C/03"
    assert node.data[0].shape[-2:] == (2 * 96, 2 * 96)  # two rows, two columns


def test_files_that_a_pattern_joins_are_one_image_though_the_first_comes_last(station):
    also(station, "files: '(?P<well>[A-H]\\d\\d)_f(?P<field>\\d)_(?P<c>DAPI|GFP)[.]tif'")
    also(station, "channels: {cell: 0}")
    station.write("p/A01_f1_GFP.tif", "p/A01_f2_DAPI.tif", "p/A01_f2_GFP.tif", "p/map.tif")
    station.command("run", "--once", check=False)
    assert station.counts() == {"done": 2, "interrupted": 1}
    assert "no file of channel DAPI is there" in explained(station, "p/A01_f1_GFP.tif")
    assert "copy it again, or delete it" in explained(station, "p/A01_f1_GFP.tif")
    (well,) = json.loads(station.command("plates", "p", "--json").stdout)["well_counts"]
    assert (well["well"], well["fields"], well["done"]) == ("A01", 2, 1)

    station.write("p/A01_f1_DAPI.tif", seed=9)
    station.command("run", "--once", check=False)

    assert station.counts() == {"done": 3}
    (plate,) = json.loads(station.command("plates", "--json").stdout)
    assert (plate["plate"], plate["wells"], plate["fields"], plate["done"]) == ("p", 1, 2, 2)
    told = station.command("explain", str(station.images / "p/A01_f1_GFP.tif"))
    assert "belongs to the set of" in told.stderr
    assert "CYX [2, 96, 96]" in told.stdout
    assert "0 problems" in station.command("verify").stderr


def test_an_aborted_series_is_segmented_as_far_as_it_is_whole_where_the_folder_says_so(station):
    path = station.images / "a.ome.tif"
    frames = np.stack([disc_picture(seed, size=96, n=5)[0] for seed in range(3)])
    tifffile.imwrite(path, frames, ome=True, metadata={"axes": "TYX"}, photometric="minisblack")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'SizeT="3"', b'SizeT="5"'))
    station.command("run", "--once", check=False)
    assert station.counts() == {"interrupted": 1}

    also(station, "interrupted: process")
    station.command("run", "--once", check=False)

    assert station.counts() == {"done": 1}
    told = explained(station, "a.ome.tif")
    assert "TYX [3, 96, 96]" in told
    assert "the series was aborted: 3 of 5 time points are whole" in told

    path.write_bytes(whole)
    station.command("run", "--once", check=False)

    assert station.counts() == {"done": 1}
    facts = read_provenance(station.masks / "images/a.ome.tif.zarr")["targets"]["cells"]
    assert not any("aborted" in note for note in facts["notes"])
    assert facts["planes_unchanged"] == 3
    assert "0 problems" in station.command("verify").stderr


def test_a_copy_that_was_cut_stays_interrupted_also_where_aborted_series_are_read(station):
    also(station, "interrupted: process")
    frames = np.stack([disc_picture(seed, size=96, n=5)[0] for seed in range(6)])
    options = {"imagej": {"imagej": True}, "ome": {"ome": True}, "plain": {"metadata": None}}
    for name, kind in options.items():
        path = station.images / f"{name}.tif"
        tifffile.imwrite(path, frames, photometric="minisblack", **kind)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    Pillow.fromarray(frames[0].astype(np.uint8)).save(station.images / "a.png")
    whole = (station.images / "a.png").read_bytes()
    (station.images / "a.png").write_bytes(whole[: len(whole) // 2])

    station.command("run", "--once", check=False)

    assert station.counts() == {"interrupted": 4}


def test_lists_of_time_points_below_a_plate_are_no_plates_of_their_own(station):
    plates.write_imagexpress(station.images / "p", planned=6)
    also(station, "channels: {cell: 0}")

    station.command("run", "--once", check=False)

    assert station.counts() == {"done": 2, "interrupted": 1}
    (waiting,) = station.status()["failures"]
    assert waiting["path"] == str(station.images / "p/9987.HTD")
    assert "2 of 6 time points are there" in waiting["reason"]
    inside = station.command("explain", str(station.images / "p/TimePoint_1/9987.HTD"), check=False)
    assert "belongs to the set of" in inside.stderr


def test_fields_are_segmented_while_their_plate_is_still_being_written(station):
    made = station.folder / "made"
    plates.write_operetta(made, channels=("DAPI",), make=picture)
    folder = station.images / "p"
    folder.mkdir()
    with station.daemon():
        for file in [made / "Index.idx.xml", *made.glob("r02*")]:
            shutil.copy(file, folder)
        assert station.until(lambda: station.counts() == {"done": 2, "waiting": 1}), station.log()
        assert "2 of 4 files are not there" in station.status()["waiting"][0]["reason"]
        copy_slowly(sorted(made.glob("r03*")), folder)
        assert station.until(lambda: station.counts() == {"done": 4}), station.log()
    assert station.log().count("segmented ") == 4
