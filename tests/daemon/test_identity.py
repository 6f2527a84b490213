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

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]


@pytest.fixture
def station(tmp_path, tiny_model):
    station = Station(tmp_path / "s", tiny_model.path)
    station.take_corrections()
    return station


def asked(station, sql):
    with closing(sqlite3.connect(station.folder / "state/cellwatch.db")) as db:
        return db.execute(sql).fetchall()


def inode(path):
    return (path / "labels/cells/0/zarr.json").stat().st_ino


def watch_another_folder(station):
    """Add a folder that is segmented in another way, with a copy of an image of the first."""
    other = station.folder / "other"
    other.mkdir()
    shutil.copy(station.images / "copied.tif", other / "a.tif")
    text = station.config.read_text()
    model = text[text.index("model:") : text.index("}]")]
    folder = "{folder: other, settle: 0.3 s, cellprob_threshold: 1, "
    station.config.write_text(text.replace("}]", f"}}, {folder}{model}}}]", 1))


def overwrite(path):
    """Write another image into a file, with the size and the time of what was there."""
    status = path.stat()
    tifffile.imwrite(path, disc_picture(99, size=96, n=5)[0])
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_images_are_segmented_once_under_whatever_name(station):
    names = [f"day 1/img_{n}.tif" for n in range(4)]
    station.write(*names, "copied.tif", "replaced.tif", "comes over it.tif", "overwritten.tif")
    watch_another_folder(station)
    station.command("run", "--once")
    assert station.n_computed() == 9  # other settings are another result
    station.command("flag", "img_2.tif", "--why", "look")
    made = station.masks / "images"
    before = {n: inode(made / f"day 1/img_{n}.tif.zarr") for n in range(4)}
    over = inode(made / "comes over it.tif.zarr")

    (station.images / "day 1").rename(station.images / "monday")
    (station.images / "monday/img_3.tif").rename(station.images / "last.tif")
    shutil.copy(station.images / "copied.tif", station.images / "copy.tif")
    (station.images / "comes over it.tif").rename(station.images / "replaced.tif")
    overwrite(station.images / "overwritten.tif")
    shutil.copy(made / "day 1/img_1_masks.tif", station.folder / "corrections/img_1_masks.tif")
    station.command("run", "--once")

    assert station.n_computed() == 10
    assert station.counts() == {"done": 9}
    places = [made / f"monday/img_{n}.tif.zarr" for n in range(3)]
    assert [inode(place) for place in (*places, made / "last.tif.zarr")] == list(before.values())
    assert (made / "monday/img_0_masks.tif").exists()
    assert (made / "monday/img_0_measurements.csv").exists()
    assert (made / "monday/img_0_preview.webp").exists()
    assert (made / "last_masks.tif").exists()
    assert not (made / "day 1").exists()
    rows = asked(station, "SELECT experiment, relative_path FROM acquisitions ORDER BY stem")
    assert {("monday", "monday/img_0.tif"), ("monday", "monday/img_1.tif")} <= set(rows)
    corrected = "SELECT relative_path FROM acquisitions a JOIN corrections ON a.id = acquisition_id"
    assert asked(station, corrected) == [("monday/img_1.tif",)]
    assert "img_2.tif" in station.command("review").stdout
    old = station.command("explain", str(station.images / "day 1/img_0.tif")).stdout
    assert "monday/img_0.tif\n  done" in old
    assert "day 1/img_0.tif before" in old

    assert_a_copy_has_masks_of_its_own(station, made)
    assert inode(made / "replaced.tif.zarr") == over
    sql = "SELECT count(*), sum(superseded_by IS NULL) FROM acquisitions WHERE relative_path = ?"
    assert asked(station, sql.replace("?", "'replaced.tif'")) == [(2, 1)]
    assert len(list((station.masks / ".superseded").glob("replaced.tif.zarr.*"))) == 1
    assert "0 problems" in station.command("verify").stderr


def assert_a_copy_has_masks_of_its_own(station, made):
    copied = station.command("explain", "copy.tif").stdout
    assert "the same content as" in copied
    assert "copied.tif: its masks were copied" in copied
    first, second = (tifffile.imread(made / f"{n}_masks.tif") for n in ("copied", "copy"))
    assert (first == second).all()
    assert inode(made / "copied.tif.zarr") != inode(made / "copy.tif.zarr")
    again = station.command("reproduce", str(station.images / "last.tif"))
    assert "equal, pixel for pixel" in again.stdout


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

    assert station.n_computed() == 40
    assert station.counts() == {"done": 40}
    assert "0 problems" in station.command("verify").stderr
