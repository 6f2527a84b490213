"""Pause, resume, bump, skip and requeue: typed while no daemon runs, and while one does."""

import pytest

from tests.daemon.stations import Station

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def station(tmp_path, tiny_model):
    station = Station(tmp_path / "s", tiny_model.path)
    station.write("exp/a.tif", "exp/b.tif", "exp/c.tif")
    return station


def order_of(station):
    done = station.command("explain", "exp", check=False)
    assert done.returncode == 1  # a folder is no image
    stores = sorted(
        (station.masks / "images/exp").glob("*.zarr"), key=lambda p: p.stat().st_mtime_ns
    )
    return [store.name[0] for store in stores]


def test_a_pause_holds_images_and_what_is_put_first_goes_first(station):
    said = station.command("pause").stdout
    assert "paused: images are taken in, and none is begun (cellwatch resume)" in said

    told = station.command("run", "--once", check=False).stderr
    assert "everything is paused by " in told

    assert station.counts() == {"queued": 3}
    assert "all is paused by " in station.command("status", check=False).stdout
    assert "will be segmented next" in station.command("bump", "c").stdout
    assert "1 image left out" in station.command("skip", "exp/a.tif").stdout
    assert station.command("pause", "--folder", "nowhere", check=False).returncode == 1
    refused = station.command("resume", "--folder", "images", check=False).stderr
    assert "nothing is paused in 'images'; paused: everything" in refused

    assert "resumed everything" in station.command("resume").stdout
    station.command("run", "--once", check=False)

    assert station.counts() == {"done": 2, "skipped": 1}
    assert order_of(station) == ["c", "b"]
    refused = station.command("bump", "--experiment", "exp", check=False).stderr
    assert "none of the 3 images of 'exp' is in a state for it" in refused
    assert "no image nothing is known" in station.command("skip", "nothing", check=False).stderr
    assert station.command("skip", check=False).returncode == 2

    assert "1 image will be tried again" in station.command("requeue", "--experiment", "exp").stdout
    station.command("run", "--once")
    assert station.counts() == {"done": 3}


def test_a_running_daemon_holds_and_goes_on(station):
    station.command("pause", "--folder", "images")
    with station.daemon():
        assert station.until(lambda: station.counts() == {"queued": 3}), station.log()
        assert station.status()["pauses"][0]["watch"] == "images"
        station.command("resume")
        assert station.until(lambda: station.counts() == {"done": 3}), station.log()
