"""The promises of the design, each by its name; the longer proofs stand where they are named."""

import ast
import hashlib
import socket
import sqlite3
from pathlib import Path

import pytest
import tifffile

from cellwatch.storage.masks.store import check_store
from tests.daemon.stations import Station
from tests.discs import disc_picture

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def station(tmp_path_factory, tiny_model):
    station = Station(tmp_path_factory.mktemp("promise") / "station", tiny_model.path)
    station.write("exp/a.tif", "b.tif")
    (station.images / "bad.tif").write_text("my notes")
    station.digest = digest(station.images)
    station.weights = digest(tiny_model.path)
    station.command("run", "--once")
    return station


def digest(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def test_promise_1_watched_folders_are_never_written_to(station):
    assert digest(station.images) == station.digest


def test_promise_2_a_label_image_appears_whole_or_not_at_all(station):
    stores = list(station.masks.rglob("*.zarr"))

    assert len(stores) == 2
    assert [check_store(store).problems for store in stores] == [(), ()]
    assert [p for p in station.masks.rglob(".*") if p.name != ".superseded"] == []


def test_promise_3_each_label_image_names_what_made_it(station):
    for store in station.masks.rglob("*.zarr"):
        said = check_store(store).provenance
        facts = said["targets"]["cells"]
        assert {"path", "sha256", "fingerprint"} <= set(said["source"])
        assert {"model", "params", "channels", "algorithm_version"} <= set(facts)
        assert said["cellwatch_version"]


def test_promise_4_weights_never_change_after_they_are_added(station, tiny_model):
    assert digest(tiny_model.path) == station.weights


def test_promise_5_no_network_traffic_unless_asked():
    """One module can open a network connection, and two groups of commands lead to it."""
    banned = {"requests", "urllib", "http", "pooch", "ftplib", "aiohttp"}
    opener = "cellwatch/zoo/published.py"
    askers = {
        "zoo.published": {"cellwatch/cli/models.py", "cellwatch/storage/datasets/fetch.py"},
        "datasets.fetch": {"cellwatch/cli/dataset.py"},
    }
    for path in (ROOT / "cellwatch").rglob("*.py"):
        if path == ROOT / opener:
            continue
        for name, allowed in askers.items():
            if path.relative_to(ROOT).as_posix() not in allowed:
                assert name not in path.read_text(encoding="utf-8"), path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            assert not banned & {name.split(".")[0] for name in names}, path
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"AF_INET", "AF_INET6", "create_connection"}, path
    assert socket.AF_UNIX


def test_promise_7_a_killed_daemon_and_worker_lose_no_acquisition(tmp_path, tiny_model):
    station = Station(tmp_path / "s", tiny_model.path)
    names = [f"{i}.tif" for i in range(10)]
    with station.daemon() as first:
        station.write(*names)
        station.until(lambda: station.counts().get("done", 0) >= 1)
        station.kill_worker()
        station.until(lambda: station.counts().get("done", 0) >= 3)
        first.kill()
        first.wait()
    with station.daemon():
        assert station.until(lambda: station.counts() == {"done": 10}), station.log()
    with sqlite3.connect(station.folder / "state/cellwatch.db") as db:
        rows = db.execute("SELECT path, count(*) FROM acquisitions GROUP BY path").fetchall()
    assert sorted(rows) == [(str(station.images / name), 1) for name in sorted(names)]
    assert "0 problems" in station.command("verify").stderr


def test_promise_8_one_bad_file_never_stops_the_others(station):
    assert station.counts() == {"done": 2, "interrupted": 1}


def test_simulated_and_real_pictures_of_one_name_in_two_folders_do_not_collide(
    tmp_path, tiny_model
):
    station = Station(tmp_path / "s", tiny_model.path)
    station.write("x/a.tif", "y/a.tif", "y/A.tif")
    tifffile.imwrite(station.images / "y/a.tiff", disc_picture(7, size=96, n=5)[0])

    station.command("run", "--once", "--strict")

    assert station.counts() == {"done": 4}
    places = [str(p.relative_to(station.masks)).lower() for p in station.masks.rglob("*_masks.tif")]
    assert len(set(places)) == 4
