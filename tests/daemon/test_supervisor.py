"""The daemon as a process, with real signals."""

import hashlib
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellwatch.storage.masks.store import check_store
from tests.daemon.stations import Station
from tests.discs import disc_picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def station(tmp_path, tiny_model):
    return Station(tmp_path / "station", tiny_model.path)


def digest(folder):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def test_images_become_masks_and_their_folder_is_never_written_to(station):
    station.write("exp/a.tif", "exp/b.tif", "c.tif")
    before = digest(station.images)

    done = station.command("run", "--once", "--strict")

    assert "3 done" in done.stderr
    assert digest(station.images) == before
    store = station.masks / "images/exp/a.tif.zarr"
    assert check_store(store).problems == ()
    assert check_store(store).rois == {"cells": 5}
    labels = tifffile.imread(station.masks / "images/exp/a_masks.tif")
    assert labels.max() == 5
    assert station.command("verify").stderr.startswith("3 mask stores checked, 0 problems")


def test_running_again_does_nothing_again(station):
    station.write("a.tif")
    station.command("run", "--once")
    report = station.masks / "report.html"
    assert report.exists()
    report.unlink()
    before = digest(station.masks)

    again = station.command("run", "--once")

    assert "0 done" in again.stderr
    assert report.exists()
    report.unlink()
    assert digest(station.masks) == before


def test_one_bad_file_never_stops_the_others(station):
    pixels, _ = disc_picture(0)
    station.write("good.tif")
    whole = (station.images / "good.tif").read_bytes()
    (station.images / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (station.images / "empty.tif").write_bytes(b"")
    (station.images / "notes.tif").write_text("my notes")
    tifffile.imwrite(station.images / "constant.tif", np.full((64, 64), 9, np.uint16))
    tifffile.imwrite(station.images / "four.tif", np.stack([pixels] * 4), ome=True,
                     metadata={"axes": "CYX"}, photometric="minisblack")  # fmt: skip
    noise = np.random.default_rng(0).poisson(100, (3, 64, 64)).astype(np.uint16)
    for index, field in enumerate(noise):
        tifffile.imwrite(station.images / f"blank{index}.tif", field)

    ended = station.command("run", "--once", "--strict", check=False)

    assert ended.returncode == 1
    assert station.counts() == {"done": 5, "failed": 1, "interrupted": 3}
    reasons = {
        row["path"].rpartition("/")[2]: row["reason"] for row in station.status()["failures"]
    }
    assert "pixels should reach byte" in reasons["cut.tif"]
    assert "empty" in reasons["empty.tif"]
    assert "not a TIFF file" in reasons["notes.tif"]
    assert "4 channels" in reasons["four.tif"]
    explained = station.command("explain", str(station.images / "constant.tif")).stdout
    assert "0 ROIs" in explained
    assert "the image is constant" in explained


def test_a_killed_worker_is_replaced_and_nothing_is_lost(station):
    with station.daemon():
        station.write(*(f"{i}.tif" for i in range(8)))
        assert station.until(lambda: station.counts().get("done", 0) >= 2)
        station.kill_worker()
        assert station.until(lambda: station.counts() == {"done": 8}), station.log()
    assert "0 problems" in station.command("verify").stderr


def test_a_killed_daemon_takes_its_worker_along_and_its_successor_goes_on(station):
    names = [f"{i}.tif" for i in range(8)]
    with station.daemon() as first:
        station.write(*names)
        assert station.until(lambda: station.counts().get("done", 0) >= 2)
        first.kill()
        first.wait()
        assert station.status()["state"] == "dead"
    with station.daemon():
        assert station.until(lambda: station.counts() == {"done": 8}), station.log()
    assert "0 problems" in station.command("verify").stderr


def test_sigterm_ends_the_daemon_within_ten_seconds_and_hands_back(station):
    with station.daemon() as process:
        station.write(*(f"{i}.tif" for i in range(30)))
        assert station.until(lambda: station.counts().get("done", 0) >= 1)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)

        assert process.wait(10) == 0
        assert time.monotonic() - started < 10
    facts = station.status()
    assert facts["state"] == "stopped"
    assert facts["counts"]["running"] == 0
    assert facts["counts"]["queued"] + facts["counts"]["done"] == 30


def test_a_second_daemon_is_refused_and_names_the_first(station):
    with station.daemon() as first:
        assert station.until(lambda: station.status()["state"] == "running")

        second = station.command("run", check=False)

    assert second.returncode == 75
    assert f"pid {first.pid}" in second.stderr


def test_an_overwritten_image_is_segmented_again_and_the_old_masks_are_kept(station):
    station.write("a.tif", seed=0)
    station.command("run", "--once")
    station.write("a.tif", seed=9)

    station.command("run", "--once")

    assert station.counts() == {"done": 1}
    assert len(list((station.masks / ".superseded").glob("a.tif.zarr.*"))) == 1
    assert "0 problems" in station.command("verify").stderr


def test_an_image_that_failed_is_tried_again_when_the_configuration_is_mended(station):
    pixels, _ = disc_picture(0)
    tifffile.imwrite(station.images / "four.tif", np.stack([pixels] * 4), ome=True,
                     metadata={"axes": "CYX"}, photometric="minisblack")  # fmt: skip
    assert station.command("run", "--once", "--strict", check=False).returncode == 1
    assert station.command("run", "--once", "--strict", check=False).returncode == 1
    text = station.config.read_text().replace("diameter: model", "diameter: model, axes: TYX")
    station.config.write_text(text)

    station.command("run", "--once", "--strict")

    assert station.counts() == {"done": 1}


def test_images_of_a_folder_that_left_the_configuration_rest_and_come_back(station):
    station.write("a.tif")
    station.masks.write_text("a file where the folder should be")
    station.command("run", "--once")
    station.masks.unlink()
    text = station.config.read_text()
    station.config.write_text(text.replace("folder: images,", "folder: other,"))

    station.command("run", "--once")
    assert station.counts() == {"blocked": 1}
    assert "not in the configuration any more" in station.status()["failures"][0]["reason"]
    station.config.write_text(text)
    station.command("run", "--once", "--strict")

    assert station.counts() == {"done": 1}


def test_an_image_with_an_undecodable_name_is_segmented(station):
    station.write("plain.tif")
    odd = Path(os.fsdecode(os.fsencode(station.images) + b"/odd\xff.tif"))
    (station.images / "plain.tif").rename(odd)

    station.command("run", "--once", "--strict")

    assert station.counts() == {"done": 1}
    assert "0 problems" in station.command("verify").stderr


def test_a_folder_that_cannot_be_entered_does_not_hide_the_others(station):
    station.write("closed/a.tif", "b.tif")
    (station.images / "closed").chmod(0o600)
    try:
        station.command("run", "--once")
        assert station.counts()["done"] >= 1
    finally:
        (station.images / "closed").chmod(0o755)


def test_files_that_were_there_before_can_be_left_alone(tmp_path, tiny_model):
    station = Station(tmp_path / "s", tiny_model.path, ", existing: ignore")
    station.write("old.tif")
    station.command("run", "--once")
    assert station.counts() == {"skipped": 1}

    station.write("new.tif")
    station.command("run", "--once")
    assert station.counts() == {"skipped": 1, "done": 1}


def test_several_targets_of_one_image_each_have_a_label_image(tmp_path, tiny_model):
    segment = ", segment: [{name: nuclei, channels: {cell: DAPI}}, {name: cells, diameter: auto}]"
    station = Station(tmp_path / "s", tiny_model.path, segment)
    pixels, _ = disc_picture(0, size=96, n=5)
    tifffile.imwrite(
        station.images / "a.ome.tif", np.stack([pixels, pixels]), ome=True,
        photometric="minisblack", metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}},
    )  # fmt: skip

    station.command("run", "--once", "--strict")

    report = check_store(station.masks / "images/a.ome.tif.zarr")
    assert report.rois == {"nuclei": 5, "cells": 5}
    assert (station.masks / "images/a__nuclei_masks.tif").is_file()
    facts = report.provenance["targets"]
    assert facts["nuclei"]["channels"] == [{"index": 0, "name": "DAPI"}]
    assert "was trained without a nucleus channel; GFP is not used" in facts["cells"]["notes"][0]


def test_a_read_only_output_blocks_and_says_so(station):
    station.masks.write_text("a file where the folder should be")
    station.write("a.tif")

    station.command("run", "--once")

    assert station.counts() == {"blocked": 1}
    assert "cannot be written" in station.status()["failures"][0]["reason"]
