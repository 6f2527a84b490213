"""One worker on each device: they share the queue, and none stands for another."""

import os
import re
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cellwatch.daemon.jobs import has_to_wait
from cellwatch.daemon.life import Life, WorkerSlot
from cellwatch.records import AcquisitionId
from cellwatch.storage.ledger.queue import Claim
from tests.daemon.stations import Station
from tests.daemon.stylezoo import write_style_zoo
from tests.daemon.test_two_in_hand import asked

pytestmark = pytest.mark.timeout(180)
IMAGES = [f"{n:02d}.tif" for n in range(30)]
TWO = "\ndevice: [cpu, cpu]\n"
CLAIM = Claim(
    AcquisitionId(1), "scope", "/scope/a.tif", "day1", "f", "/masks/a.zarr", ("cells",), 0
)


def two_workers(folder, model):
    station = Station(folder, model)
    station.config.write_text(station.config.read_text() + TWO)
    return station


def until_both_are_ready(station):
    def are_ready():
        return station.log().count("the worker on cpu is ready") == 2

    assert station.until(are_ready, 90), station.log()


@pytest.mark.slow
def test_two_workers_share_the_images_and_each_is_done_once(tmp_path, tiny_model):
    station = two_workers(tmp_path / "station", tiny_model.path)

    with station.daemon() as daemon:
        until_both_are_ready(station)
        assert len(station.status()["daemon"]["workers"]) == 2
        station.write(*IMAGES)
        assert station.until(lambda: station.counts() == {"done": len(IMAGES)}, 90), station.log()
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(15) == 0

    attempts = asked(station, "SELECT acquisition_id, worker_pid FROM attempts")
    assert len(attempts) == len({key for key, _ in attempts}) == len(IMAGES)
    assert len({pid for _, pid in attempts}) == 2
    assert station.status()["daemon"]["workers"] == []
    assert "0 problems" in station.command("verify").stderr


@pytest.mark.slow
def test_a_worker_that_is_killed_takes_nothing_from_the_other(tmp_path, tiny_model):
    station = two_workers(tmp_path / "station", tiny_model.path)

    with station.daemon() as daemon:
        until_both_are_ready(station)
        station.write(*IMAGES)
        assert station.until(lambda: station.counts().get("done", 0) >= 2)
        os.kill(station.status()["daemon"]["workers"][0]["pid"], signal.SIGKILL)
        assert station.until(lambda: station.counts() == {"done": len(IMAGES)}, 90), station.log()
        assert station.until(lambda: len(station.status()["daemon"]["workers"]) == 2)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(15) == 0

    died = asked(station, "SELECT outcome FROM attempts WHERE outcome != 'done'")
    assert set(died) <= {("worker_died",)}
    assert len(died) <= 2  # what it had in hand, and nothing of the other's
    assert "0 problems" in station.command("verify").stderr


@pytest.mark.slow
def test_a_stop_hands_back_what_every_worker_has_in_hand(tmp_path, tiny_model):
    station = two_workers(tmp_path / "station", tiny_model.path)

    with station.daemon() as daemon:
        until_both_are_ready(station)
        station.write(*IMAGES)
        assert station.until(lambda: station.counts().get("done", 0) >= 1)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(15) == 0
    assert set(station.counts()) <= {"done", "queued", "waiting"}

    station.command("run", "--once", "--strict")

    assert station.counts() == {"done": len(IMAGES)}
    deaths = asked(station, "SELECT max(worker_deaths), max(daemon_deaths) FROM acquisitions")
    assert deaths == [(0, 0)]


@pytest.mark.slow
def test_an_experiment_has_one_model_whichever_worker_began_it(tiny_model, tmp_path):
    zoo = write_style_zoo(tmp_path / "zoo", tiny_model)
    station = two_workers(tmp_path / "station", zoo / "auto")
    station.images.joinpath("day").mkdir()

    with station.daemon() as daemon:
        until_both_are_ready(station)
        station.write(*[f"day/{name}" for name in IMAGES[:6]])
        assert station.until(lambda: station.counts() == {"done": 6}, 90), station.log()
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(15) == 0

    first, *others = asked(station, "SELECT started_at, ended_at FROM attempts ORDER BY started_at")
    assert len(asked(station, "SELECT DISTINCT model_sha256 FROM targets")) == 1
    pins = asked(station, "SELECT experiment, pinned_at FROM pins")
    assert [experiment for experiment, _ in pins] == ["day"]
    # Another may be claimed before, but it is given to its worker when the first is recorded.
    assert all(ended > first[1] for _, ended in others)


@pytest.mark.slow
def test_a_device_that_is_not_there_is_said_and_the_others_work(tmp_path, tiny_model):
    station = Station(tmp_path / "station", tiny_model.path)
    station.config.write_text(station.config.read_text() + "\ndevice: [cpu, cuda:7]\n")
    station.write(*IMAGES[:4])

    with station.daemon() as daemon:
        assert station.until(lambda: station.counts() == {"done": 4}, 90), station.log()
        said = r"(a device is not used|no image is segmented at the moment): device: cuda:7, but"
        assert station.until(lambda: re.search(said, station.log()))
        assert station.until(lambda: station.status()["state"] == "running")
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(15) == 0


def waits(claim, here, elsewhere, *, is_alone=False, is_choosing=False):
    return has_to_wait(claim, here, elsewhere, is_alone=is_alone, is_choosing=is_choosing)


def test_a_claim_waits_for_what_it_may_not_be_done_beside():
    place = {"store": "/masks/b.zarr", "fingerprint": "g"}
    other = replace(CLAIM, acquisition_id=AcquisitionId(2), **place)
    newer = replace(CLAIM, acquisition_id=AcquisitionId(3), fingerprint="h")
    alike = replace(CLAIM, acquisition_id=AcquisitionId(4), store="/masks/c.zarr")
    moved = replace(other, former_store=CLAIM.store)
    elsewhere = replace(other, experiment="day2")
    died_over = replace(other, daemon_deaths=3)

    assert not waits(CLAIM, [], [], is_alone=True, is_choosing=True)
    assert not waits(CLAIM, [other], [other])
    assert waits(newer, [], [CLAIM])  # of one file: its masks have one place
    assert waits(alike, [], [CLAIM])  # of one content: it is computed once
    assert waits(moved, [], [CLAIM])  # whose masks are still to be moved from there
    assert waits(CLAIM, [other], [], is_alone=True)
    assert not waits(CLAIM, [], [other], is_alone=True)  # a worker died over it: this one may
    assert waits(CLAIM, [], [other], is_alone=True, is_choosing=True)  # which may choose its model
    assert not waits(CLAIM, [], [elsewhere], is_alone=True, is_choosing=True)
    assert waits(CLAIM, [], [died_over])
    assert waits(died_over, [], [elsewhere], is_alone=True)


def test_workers_take_nothing_while_one_waits_to_have_the_station_to_itself():
    slots = [WorkerSlot("cpu"), WorkerSlot("cpu"), WorkerSlot("cpu")]
    life = SimpleNamespace(slots=slots)
    held = [lambda s=s: Life.is_held_for_another(life, s) for s in slots]

    slots[2].claimed = CLAIM
    assert [is_held() for is_held in held] == [False, False, False]
    slots[1].claimed = replace(CLAIM, daemon_deaths=1)
    slots[2].claimed = replace(CLAIM, daemon_deaths=1)
    assert [is_held() for is_held in held] == [True, False, True]  # one after the other


def test_a_list_of_devices_is_read_and_a_strange_one_refused(tmp_path, tiny_model):
    station = two_workers(tmp_path / "station", tiny_model.path)
    began = time.monotonic()

    station.command("config", "check")
    station.config.write_text(station.config.read_text().replace("[cpu, cpu]", "[cpu, tpu]"))
    done = station.command("config", "check", check=False)

    assert done.returncode == 78
    assert "a list such as [cuda:0, cuda:1]" in done.stderr
    assert time.monotonic() - began < 60
