"""A disk that is taken away and comes back, with good and bad files on it."""

import subprocess
import time

import pytest

from tests.daemon.stations import Station
from tests.daemon.test_identity import asked

pytestmark = pytest.mark.drill
CUT = b"II*\0\x08\0\0\0\x05\0"
BAD = {
    "empty": b"",
    "text": b"this is no picture\n" * 30,
    "cut": CUT,
    "zeros": bytes(4096),
    "huge": b"II*\0\x08\0\0\0\xff\xff" + bytes(64),
}


@pytest.fixture
def disk(tmp_path):
    """Return a folder on a disk of its own, and functions that take it away and bring it back."""
    real, place = tmp_path / "disk", tmp_path / "s/images"
    real.mkdir()
    place.mkdir(parents=True)

    def mount():
        return subprocess.run(["mount", "--bind", real, place], capture_output=True, check=False)

    def unmount():
        subprocess.run(["umount", "-l", place], capture_output=True, check=False)

    if mount().returncode:
        pytest.skip("nothing can be mounted here")
    yield mount, unmount
    unmount()


def put(station, n_good, n_bad):
    station.write(*(f"good_{n:04d}.tif" for n in range(n_good)))
    kinds = list(BAD.items())
    for n in range(n_bad):
        name, data = kinds[n % len(kinds)]
        (station.images / f"bad_{n:03d}_{name}.tif").write_bytes(data)


def holds(tmp_path, tiny_model, disk, n_good, n_bad, seconds):
    mount, unmount = disk
    station = Station(tmp_path / "s", tiny_model.path)
    put(station, n_good, n_bad)
    with station.daemon():
        some = n_good // 3
        assert station.until(lambda: station.counts().get("done", 0) >= some, seconds)
        unmount()
        assert station.until(lambda: station.status()["folders"][0]["state"] == "offline", 60)
        time.sleep(3)
        assert station.counts().get("missing", 0) == 0
        mount()
        finished = "SELECT count(*) FROM acquisitions WHERE state = 'done'"
        assert station.until(lambda: asked(station, finished) == [(n_good,)], seconds)
    attempts = "SELECT count(*) FROM attempts WHERE outcome = 'done'"
    assert asked(station, attempts) == [(n_good,)]
    bad = asked(station, "SELECT state, reason FROM acquisitions WHERE state != 'done'")
    assert len(bad) == n_bad
    assert {state for state, _ in bad} <= {"failed", "waiting", "interrupted", "quarantined"}
    assert all(reason and "\n" not in reason for _, reason in bad)
    assert "0 problems" in station.command("verify").stderr


@pytest.mark.timeout(180)
def test_a_disk_that_is_taken_away_loses_nothing_and_repeats_nothing(tmp_path, tiny_model, disk):
    holds(tmp_path, tiny_model, disk, n_good=15, n_bad=5, seconds=60)


@pytest.mark.timeout(1200)
def test_a_thousand_good_and_fifty_bad_files_on_it(tmp_path, tiny_model, disk):
    holds(tmp_path, tiny_model, disk, n_good=1000, n_bad=50, seconds=800)
