"""Images are known by what they hold: under whatever name, each is segmented once."""

import os
import shutil
import sqlite3
import time
from contextlib import closing

import pytest
import tifffile

from tests.daemon.stations import Station
from tests.discs import disc_picture
from tests.images import plates

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]


@pytest.fixture
def station(tmp_path, tiny_model):
    station = Station(tmp_path / "s", tiny_model.path)
    dropped = "\ncorrections: {folder: corrections}\n"
    station.config.write_text(station.config.read_text() + dropped)
    (station.folder / "corrections").mkdir()
    return station


def asked(station, sql):
    with closing(sqlite3.connect(station.folder / "state/cellwatch.db")) as db:
        return db.execute(sql).fetchall()


def computations(station):
    """Count the attempts at which the network had something to do."""
    sql = "SELECT count(*) FROM attempts WHERE outcome = 'done' AND reason IS NULL"
    return asked(station, sql)[0][0]


def inode(path):
    return (path / "zarr.json").stat().st_ino


def test_a_renamed_folder_keeps_its_masks_flags_and_corrections(station):
    names = [f"day 1/img_{n}.tif" for n in range(4)]
    station.write(*names)
    station.command("run", "--once")
    station.command("flag", "img_2.tif", "--why", "look")
    shutil.copy(
        station.masks / "images/day 1/img_1_masks.tif",
        station.folder / "corrections/img_1_masks.tif",
    )
    station.command("run", "--once")
    before = {n: inode(station.masks / f"images/day 1/img_{n}.tif.zarr") for n in range(4)}

    (station.images / "day 1").rename(station.images / "monday")
    (station.images / "monday/img_3.tif").rename(station.images / "last.tif")
    station.command("run", "--once")

    assert computations(station) == 4
    assert station.counts() == {"done": 4}
    places = [station.masks / f"images/monday/img_{n}.tif.zarr" for n in range(3)]
    places.append(station.masks / "images/last.tif.zarr")
    assert [inode(place) for place in places] == list(before.values())
    assert (station.masks / "images/monday/img_0_masks.tif").exists()
    assert (station.masks / "images/monday/img_0_measurements.csv").exists()
    assert (station.masks / "images/last_masks.tif").exists()
    assert not (station.masks / "images/day 1").exists()
    rows = asked(station, "SELECT experiment, relative_path FROM acquisitions ORDER BY stem")
    assert rows[:2] == [("monday", "monday/img_0.tif"), ("monday", "monday/img_1.tif")]
    corrected = "SELECT relative_path FROM acquisitions a JOIN corrections ON a.id = acquisition_id"
    assert asked(station, corrected) == [("monday/img_1.tif",)]
    assert "img_2.tif" in station.command("review").stdout
    old = station.command("explain", str(station.images / "day 1/img_0.tif")).stdout
    assert "monday/img_0.tif\n  done" in old
    assert "it was" in old
    assert "day 1/img_0.tif before" in old
    assert "0 problems" in station.command("verify").stderr


def test_a_copy_is_not_computed_and_has_masks_of_its_own(station):
    station.write("a.tif")
    station.command("run", "--once")
    shutil.copy(station.images / "a.tif", station.images / "b.tif")

    station.command("run", "--once")

    assert computations(station) == 1
    assert station.counts() == {"done": 2}
    told = station.command("explain", "b.tif").stdout
    assert "the same content as" in told
    assert "a.tif: its masks were copied" in told
    first, second = (tifffile.imread(station.masks / f"images/{n}_masks.tif") for n in "ab")
    assert (first == second).all()
    assert inode(station.masks / "images/a.tif.zarr") != inode(station.masks / "images/b.tif.zarr")
    assert "0 problems" in station.command("verify").stderr


def test_a_copy_under_other_settings_is_computed(station, tmp_path):
    station.write("a.tif")
    station.command("run", "--once")
    other = station.folder / "other"
    other.mkdir()
    shutil.copy(station.images / "a.tif", other / "a.tif")
    text = station.config.read_text()
    folder = "{folder: other, settle: 0.3 s, cellprob_threshold: 1, "
    model = text[text.index("model:") : text.index("}]")]
    station.config.write_text(text.replace("}]", f"}}, {folder}{model}}}]", 1))

    station.command("run", "--once")

    assert computations(station) == 2
    assert station.counts() == {"done": 2}


def test_a_name_that_is_used_again_after_its_file_was_renamed(station):
    station.write("a.tif")
    station.command("run", "--once")
    made = inode(station.masks / "images/a.tif.zarr")
    (station.images / "a.tif").rename(station.images / "b.tif")
    station.command("run", "--once")
    station.write("a.tif", seed=7)
    (station.images / "b.tif").rename(station.images / "c.tif")

    station.command("run", "--once")

    assert computations(station) == 2
    assert inode(station.masks / "images/c.tif.zarr") == made
    rows = asked(station, "SELECT relative_path, state, superseded_by FROM acquisitions")
    assert sorted(rows) == [("a.tif", "done", None), ("c.tif", "done", None)]
    assert "0 problems" in station.command("verify").stderr


def test_a_file_that_takes_the_place_of_another(station):
    station.write("a.tif", "b.tif")
    station.command("run", "--once")
    made = inode(station.masks / "images/b.tif.zarr")

    (station.images / "b.tif").rename(station.images / "a.tif")
    station.command("run", "--once")

    assert computations(station) == 2
    assert inode(station.masks / "images/a.tif.zarr") == made
    rows = asked(station, "SELECT relative_path, superseded_by FROM acquisitions ORDER BY id")
    assert rows == [("a.tif", 2), ("a.tif", None)]
    assert len(list((station.masks / ".superseded").glob("a.tif.zarr.*"))) == 1
    assert "0 problems" in station.command("verify").stderr


def test_other_content_with_size_and_time_of_the_old_is_computed_once(station):
    station.write("a.tif", "b.tif")
    station.command("run", "--once")
    path = station.images / "a.tif"
    status = path.stat()
    pixels, _ = disc_picture(9, size=96, n=5)
    tifffile.imwrite(path, pixels)
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    station.command("run", "--once")

    assert computations(station) == 3
    assert station.counts() == {"done": 2}


def test_a_renamed_plate_takes_its_fields_along(station):
    index, _ = plates.write_operetta(
        station.images / "p1/Images",
        channels=("DAPI",),
        make=lambda seed: disc_picture(seed, size=96, n=5)[0],
    )
    station.command("run", "--once")
    n_done = station.counts()["done"]

    (station.images / "p1").rename(station.images / "p2")
    station.command("run", "--once")

    assert computations(station) == n_done == station.counts()["done"]
    assert (station.masks / f"images/p2/Images/{index.name}.zarr/B/02/1/zarr.json").exists()
    assert not list((station.masks / "images").glob("p1/Images/*.zarr/*/*/*/zarr.json"))
    named = asked(station, "SELECT DISTINCT plate FROM acquisitions WHERE plate IS NOT NULL")
    assert named == [("p2",)]
    assert "0 problems" in station.command("verify").stderr


@pytest.mark.drill
def test_kills_while_masks_are_given_their_new_place(station):
    names = [f"a/img_{n:02d}.tif" for n in range(40)]
    station.write(*names)
    station.command("run", "--once")
    (station.images / "a").rename(station.images / "b")
    for _ in range(6):
        with station.daemon() as daemon:
            station.until(lambda: asked(station, "SELECT 1 FROM attempts WHERE ended_at IS NULL"))
            time.sleep(0.4)
            daemon.kill()

    station.command("run", "--once")

    assert computations(station) == 40
    assert station.counts() == {"done": 40}
    assert "0 problems" in station.command("verify").stderr
