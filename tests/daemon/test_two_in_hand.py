"""While one image's masks are written the next one is computed: what that may not change."""

import itertools
import os
import signal
import sqlite3
import time
from contextlib import closing

import pytest

from tests.daemon.stations import Station
from tests.daemon.stylezoo import write_style_zoo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
IMAGES = [f"{n:02d}.tif" for n in range(24)]


@pytest.fixture
def station(tmp_path, tiny_model):
    station = Station(tmp_path / "station", tiny_model.path)
    station.write(*IMAGES)
    return station


def asked(station, question):
    with closing(sqlite3.connect(station.folder / "state/cellwatch.db", timeout=20)) as db:
        return db.execute(question).fetchall()


def until_two_are_running(station, seconds=60):
    until = time.monotonic() + seconds
    ledger = station.folder / "state/cellwatch.db"
    while time.monotonic() < until:
        if ledger.exists() and station.worker_of_ledger():
            rows = asked(station, "SELECT path FROM acquisitions WHERE state = 'running'")
            if len(rows) == 2:
                return [path for (path,) in rows]
        time.sleep(0.002)
    raise AssertionError("never were two images in hand")


def overlapping(station):
    """Return how many attempts began before the one before had ended."""
    times = asked(station, "SELECT started_at, ended_at FROM attempts ORDER BY id")
    return sum(later[0] < earlier[1] for earlier, later in itertools.pairwise(times))


def alone(station, keys):
    """Say whether nothing else was begun while these images were done the second time."""
    sql = "SELECT acquisition_id, number, started_at, ended_at FROM attempts"
    attempts = asked(station, sql)
    again = [row for row in attempts if row[0] in keys and row[1] == 2]
    assert len(again) == len(keys)
    return not any(row[2] < other[2] < row[3] for row in again for other in attempts)


def test_the_next_image_is_computed_while_the_last_one_is_written(station):
    with station.daemon("--once") as daemon:
        assert daemon.wait(120) == 0

    assert station.counts() == {"done": len(IMAGES)}
    assert overlapping(station) >= 1
    assert "0 problems" in station.command("verify").stderr


def test_a_worker_that_dies_hands_both_back_and_each_is_tried_again_alone(station):
    with station.daemon() as daemon:
        lost = until_two_are_running(station)
        os.kill(station.worker_of_ledger(), signal.SIGKILL)
        done = station.until(lambda: station.counts() == {"done": len(IMAGES)}, 90)
        assert done, station.log()
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(15) == 0

    died = asked(
        station, "SELECT acquisition_id, number FROM attempts WHERE outcome = 'worker_died'"
    )
    deaths = asked(station, "SELECT path FROM acquisitions WHERE worker_deaths = 1")
    # One may have been answered between the look and the kill, and the next one been begun.
    assert 1 <= len(died) == len(deaths) <= 2
    assert {path for (path,) in deaths} & set(lost)
    assert all(number == 1 for _, number in died)
    assert alone(station, {key for key, _ in died})
    assert "0 problems" in station.command("verify").stderr


def test_a_stop_finishes_or_hands_back_both(station):
    with station.daemon() as daemon:
        until_two_are_running(station)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(15) == 0
    assert set(station.counts()) <= {"done", "queued"}

    station.command("run", "--once", "--strict")

    assert station.counts() == {"done": len(IMAGES)}
    assert asked(station, "SELECT max(worker_deaths), max(daemon_deaths) FROM acquisitions") == [
        (0, 0)
    ]


def test_images_wait_for_the_one_whose_style_chooses_their_model(tiny_model, tmp_path):
    zoo = write_style_zoo(tmp_path / "zoo", tiny_model)
    station = Station(tmp_path / "station", zoo / "auto")
    station.write("first.tif", "second.tif", "third.tif")

    with station.daemon("--once") as daemon:
        assert daemon.wait(120) == 0

    first, second, _ = asked(station, "SELECT started_at, ended_at FROM attempts ORDER BY id")
    assert second[0] >= first[1]
    assert len(asked(station, "SELECT * FROM pins")) == 1
