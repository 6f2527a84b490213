"""What ends no station: signals, disks, links, damaged ledgers. Real processes throughout."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellwatch.daemon.inspector import Inspector
from cellwatch.daemon.results import Stored, changes
from tests.daemon.stations import Station
from tests.discs import disc_picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def station(tmp_path, tiny_model):
    return Station(tmp_path / "station", tiny_model.path)


def is_done(station, n):
    return lambda: station.counts().get("done", 0) >= n


def reload_the_configuration(station, process):  # F89
    good = station.config.read_text()
    station.config.write_text(good.replace("settle", "settel"))
    process.send_signal(signal.SIGHUP)
    assert station.until(lambda: "old one stays in force" in station.log())
    station.config.write_text(good)
    assert "is wrong; the one before is in force" in station.command("status").stdout
    shown = station.command("status").stdout
    assert "1 file of a kind that is not read: .zvi (1, as " in shown

    station.config.write_text(good.replace("settle: 0.3 s", "settle: 0.4 s"))
    process.send_signal(signal.SIGHUP)
    assert station.until(lambda: "is in force now" in station.log())
    station.write("b.tif", seed=1)
    assert station.until(is_done(station, 2)), station.log()
    assert "is wrong" not in station.command("status").stdout


def damage_the_ledger(station, ledger):  # F64
    data = ledger.read_bytes()
    for ending in ("-wal", "-shm"):
        ledger.with_name(f"{ledger.name}{ending}").unlink(missing_ok=True)
    ledger.write_bytes(data[:3000] + b"\0" * (len(data) - 3000))
    masks = station.masks / "images/a.tif.zarr/zarr.json"
    before = masks.stat().st_ino
    station.command("run", "--once")
    assert station.counts() == {"done": 3}
    assert "the ledger was damaged" in station.command("status", check=False).stdout
    assert masks.stat().st_ino == before  # nothing was segmented again
    assert "0 problems" in station.command("verify").stderr


@pytest.mark.drill  # twenty seconds; its faults are tried one by one too
def test_one_station_lives_through_all_of_this(station):
    """One daemon, one after the other: a link, a bad and a good configuration, a held ledger."""
    (station.images / "x.tif").symlink_to("x.tif")  # F29, X3: to itself
    (station.images / "a.zvi").write_bytes(b"a slide scanner's")  # C21
    station.write("a.tif")
    with station.daemon() as process:
        assert station.until(is_done(station, 1)), station.log()

        reload_the_configuration(station, process)
        ledger = station.folder / "state/cellwatch.db"  # F63, X4
        with closing(sqlite3.connect(ledger, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            station.write("c.tif", seed=2)
            assert station.until(lambda: "ledger cannot be written" in station.log(), 20)
            db.execute("ROLLBACK")
        assert station.until(is_done(station, 3)), station.log()

        with closing(sqlite3.connect(ledger, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
            assert time.monotonic() - began < 12
            db.execute("ROLLBACK")

    assert len(list((station.folder / "state/backups").glob("*.db"))) == 1
    damage_the_ledger(station, ledger)


def test_f7_a_file_that_was_overwritten_with_its_old_time_is_done_again(station):
    pixels = np.random.default_rng(0).integers(0, 999, (512, 512)).astype(np.uint16)
    path = station.images / "a.tif"
    tifffile.imwrite(path, pixels)
    station.command("run", "--once")
    status = path.stat()
    pixels[200:300] = 7  # neither its head nor its tail
    tifffile.imwrite(path, pixels)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    station.command("run", "--once")

    assert "0 problems" in station.command("verify").stderr
    kept = list((station.masks / ".superseded").glob("a.tif.zarr.*"))
    assert len(kept) == 1


def test_f9_an_image_of_zeros_waits_to_be_filled_and_then_counts(station):
    text = station.config.read_text()  # longer than a worker takes to start on a slow machine
    station.config.write_text(text.replace("settle: 0.3 s", "settle: 3 s"))
    tifffile.imwrite(station.images / "zeros.tif", np.zeros((64, 64), np.uint16))

    station.command("run", "--once")

    with sqlite3.connect(station.folder / "state/cellwatch.db") as db:
        outcomes = [outcome for (outcome,) in db.execute("SELECT outcome FROM attempts")]
    assert set(outcomes[:-1]) == {"waiting"}
    assert outcomes[-1] == "done"
    assert station.counts() == {"done": 1}
    assert "constant" in station.command("explain", str(station.images / "zeros.tif")).stdout


def test_f25_a_folder_without_its_disk_is_offline_and_nothing_is_missing(station):
    station.write("a.tif")
    station.command("run", "--once")
    aside = station.folder / "disk"
    station.images.rename(aside)
    station.images.mkdir()

    station.command("run", "--once", check=False)

    assert station.counts() == {"done": 1}
    assert "its disk may not be mounted" in str(station.status()["folders"])
    station.images.rmdir()
    aside.rename(station.images)
    station.write("b.tif", seed=1)
    station.command("run", "--once", "--strict")
    assert station.counts() == {"done": 2}


def test_f90_a_folder_that_moved_is_known_at_its_new_place(station):
    station.write("a.tif", "b.tif")
    station.command("run", "--once")
    station.images.rename(station.folder / "new")
    text = station.config.read_text()
    station.config.write_text(text.replace("folder: images,", "folder: new, name: images,"))

    ended = station.command("run", "--once", "--strict")

    assert "0 done" in ended.stderr
    assert station.counts() == {"done": 2}
    assert "5 ROIs" in station.command("explain", str(station.folder / "new/a.tif")).stdout


def test_f91_two_stations_never_share_an_output_folder(station, tmp_path, tiny_model):
    station.write("a.tif")
    station.command("run", "--once")
    other = Station(tmp_path / "other", tiny_model.path)
    text = other.config.read_text().replace("folder: masks", f"folder: {station.masks}")
    other.config.write_text(text)
    other.write("a.tif", seed=5)

    refused = other.command("run", "--once", check=False)

    assert refused.returncode == 78
    assert "holds the masks of another station" in refused.stderr
    assert "0 problems" in station.command("verify").stderr


def test_f55_a_gpu_that_is_not_there_is_waited_for_and_said(station, monkeypatch):
    station.config.write_text(f"{station.config.read_text()}\ndevice: cuda\n")
    station.write("a.tif")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert station.command("run", "--once", check=False).returncode == 1
    with station.daemon():
        assert station.until(lambda: station.status()["state"] == "degraded"), station.log()
        shown = station.command("status").stdout
        assert "no image is segmented at the moment: device: cuda, but torch finds no" in shown
        assert station.counts() == {"queued": 1}


def test_f68_f69_a_store_that_was_deleted_or_edited_is_noticed(station):
    station.write("a.tif", "b.tif", "c.tif", "d.tif", "e.tif")
    station.command("run", "--once")
    shutil.rmtree(station.masks / "images/a.tif.zarr")
    chunk = next(p for p in (station.masks / "images/b.tif.zarr/labels").rglob("c/*/*"))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    later = time.time() + 60
    os.utime(chunk, (later, later))
    shutil.rmtree(next((station.masks / "images/c.tif.zarr/labels").rglob("c")))
    os.utime(station.masks / "images/c.tif.zarr/labels", (later, later))
    for name, change in (("d", 1), ("e", 0)):  # one is drawn in, the other is only saved again
        beside = station.masks / f"images/{name}_masks.tif"
        labels = tifffile.imread(beside)
        labels[:9, :9] += change
        tifffile.imwrite(beside, labels)
        os.utime(beside, (later, later))
    with sqlite3.connect(station.folder / "state/cellwatch.db") as db:
        sql = "SELECT id, store, finished_at, '' FROM acquisitions ORDER BY path"
        stores = [Stored(*row) for row in db.execute(sql)]
    inspector = Inspector()

    found = changes(stores, station.masks, inspector)

    inspector.close()
    assert [change.mark for change in found] == ["missing", "edited", "edited", "edited"]


def test_x1_verify_knows_masks_that_another_program_put_in_place(station):
    station.write("a.tif")
    station.command("run", "--once")
    pixels, _ = disc_picture(9, size=96, n=5)
    tifffile.imwrite(station.folder / "a.tif", pixels)
    shutil.rmtree(station.masks / "images/a.tif.zarr")
    words = ["segment", str(station.folder / "a.tif"), "--out", str(station.masks / "images")]
    model = station.config.read_text().split("model: ")[1].split(",")[0]
    subprocess.run(
        [sys.executable, "-m", "cellwatch", *words, "--format", "zarr", "--model", model,
         "--diameter", "model"], check=True, capture_output=True,
    )  # fmt: skip

    checked = station.command("verify", check=False)

    assert checked.returncode == 1
    assert "another image than the ledger says" in checked.stdout


def test_f54_a_stopped_worker_is_replaced_and_its_image_done_by_the_next(station):
    station.write("a.tif")
    impatient = "from cellwatch.compute import deadlines; deadlines.LEAST_S = 2.0"
    with station.daemon(begun_by=impatient):
        assert station.until(is_done(station, 1)), station.log()
        stopped = station.worker_pid()
        os.kill(stopped, signal.SIGSTOP)
        station.write("b.tif", seed=1)
        assert station.until(is_done(station, 2)), station.log()
        assert station.worker_pid() not in (stopped, None)
        assert not Path(f"/proc/{stopped}").exists()
    with sqlite3.connect(station.folder / "state/cellwatch.db") as db:
        assert [n for (n,) in db.execute("SELECT attempts FROM acquisitions")] == [1, 2]


def test_f56_a_worker_that_grew_is_followed_by_a_new_one_and_nothing_fails(station, tmp_path):
    grown = "from cellwatch.compute import memory\nmemory.resident = lambda: 1 << 40\n"
    (tmp_path / "sitecustomize.py").write_text(grown)
    station.write("a.tif", "b.tif")
    with station.daemon(env={**os.environ, "PYTHONPATH": str(tmp_path)}):
        assert station.until(is_done(station, 2)), station.log()
    assert station.log().count("the worker is replaced: it still holds 1024.0 GiB") >= 1
    assert "died" not in station.log()
    with sqlite3.connect(station.folder / "state/cellwatch.db") as db:
        assert [n for (n,) in db.execute("SELECT attempts FROM acquisitions")] == [1, 1]


def test_f31_names_with_newlines_and_escapes_are_one_line_and_give_no_orders(station):
    name = "c\nd \x1b[31m.tif"
    station.write(name)
    whole = (station.images / name).read_bytes()
    (station.images / f"cut {name}").write_bytes(whole[:-99])
    station.command("run", "--once", check=False)

    shown = station.command("status", check=False).stdout
    told = station.command("explain", str(station.images / name)).stdout

    assert r"cut c\nd \x1b[31m.tif: " in shown
    assert r"/c\nd \x1b[31m.tif" in told
    assert "\x1b" not in shown + told
    assert station.counts() == {"done": 1, "interrupted": 1}


def test_f66_a_ledger_on_a_network_share_is_refused(station):
    shared = (
        "from cellwatch.daemon.service import startup\nstartup.is_network = lambda path: True\n"
    )
    station.write("a.tif")
    with station.daemon("--once", begun_by=shared) as process:
        assert process.wait(60) == 78
    assert "is on a network file system" in station.log()
    assert not (station.folder / "state/cellwatch.db").exists()


@pytest.mark.drill  # twenty seconds
def test_f63_a_ledger_that_is_held_when_the_daemon_starts_or_reads_its_configuration_again(station):
    station.write("a.tif")
    station.command("run", "--once")
    ledger = station.folder / "state/cellwatch.db"
    station.write("b.tif", seed=1)
    with closing(sqlite3.connect(ledger, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        with station.daemon() as process:
            assert station.until(lambda: "ledger cannot be written yet" in station.log(), 30)
            db.execute("ROLLBACK")
            assert station.until(is_done(station, 2)), station.log()

            db.execute("BEGIN IMMEDIATE")
            good = station.config.read_text()
            station.config.write_text(good.replace("settle", "settel"))
            process.send_signal(signal.SIGHUP)
            time.sleep(4)
            assert process.poll() is None
            db.execute("ROLLBACK")
            assert station.until(
                lambda: "is wrong; the one before" in station.command("status").stdout
            )
            station.config.write_text(good.replace("settle: 0.3 s", "settle: 0.4 s"))
            db.execute("BEGIN IMMEDIATE")
            process.send_signal(signal.SIGHUP)
            time.sleep(4)
            assert process.poll() is None
            db.execute("ROLLBACK")
            assert station.until(lambda: "is in force now" in station.log())
            assert station.until(lambda: station.status()["state"] == "running")


@pytest.mark.drill  # all kernels are compiled from nothing
def test_f59_a_read_only_installation_without_a_home_keeps_its_kernels_in_the_state(station):
    blind = "import os\nreal = os.access\n"
    blind += "os.access = lambda path, mode: 'daemon' not in str(path) and real(path, mode)\n"
    station.write("a.tif")
    with station.daemon("--once", begun_by=blind) as process:
        assert process.wait(120) == 0, station.log()
    assert list((station.folder / "state/numba").rglob("*.nbc"))


def test_masks_of_what_a_file_held_before_are_never_passed_off_as_its_own(station):
    dropped = "\ncorrections: {folder: corrections}\n"
    station.config.write_text(station.config.read_text() + dropped)
    (station.folder / "corrections").mkdir()
    station.write("a.tif", "b.tif")
    station.command("run", "--once")
    (station.images / "x.zvi").write_bytes(b"a file of another program")
    whole = (station.images / "b.tif").read_bytes()
    (station.images / "a.tif").write_bytes(whole[: len(whole) // 2])
    station.command("run", "--once")

    shown = station.command("status", check=False).stdout
    refused = station.command("checkout", "a", "--to", str(station.folder / "out"), check=False)
    checked = station.command("verify").stderr
    told = station.command("explain", "x.zvi", check=False).stderr

    assert "1 image was written to since: until done again, the masks in place are of" in shown
    assert refused.returncode == 1
    assert "a.tif was changed after its masks were made" in refused.stderr
    assert "2 mask stores checked, 0 problems" in checked
    assert "1 more: masks of earlier contents" in checked
    assert "files of this kind are not read: '.zvi'" in told
    shutil.rmtree(station.masks / "images/a.tif.zarr")
    assert "a.tif.zarr" in station.command("verify", check=False).stdout
