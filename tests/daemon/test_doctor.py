import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from cellwatch.compute.machine import Verdict, examine_machine
from cellwatch.daemon.service import doctor
from cellwatch.daemon.service.doctor import examine
from cellwatch.images.suffixes import WITH_LIBRARY
from cellwatch.storage.ledger import service
from cellwatch.storage.ledger.database import open_ledger
from cellwatch.storage.ledger.locking import state_lock
from tests.daemon.stations import Station

pytestmark = pytest.mark.timeout(60)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def station(tmp_path, tiny_model):
    return Station(tmp_path, tiny_model.path)


def found(station, now=NOW):
    return [f for f in examine(station.config, now) if f.verdict != Verdict.OK]


def only(station, now=NOW):
    (one,) = found(station, now)
    return one


def test_a_station_that_has_not_run_yet_is_well_and_says_what_it_has(station):
    texts = {f.subject: f.text for f in examine(station.config, NOW)}

    assert not found(station)
    assert texts["watch images"].startswith(f"{station.images} (")
    assert texts["output"] == f"{station.masks} is not there yet; the daemon makes it"
    assert texts["ledger"] == "there is none yet; the daemon makes it at its start"


def test_a_broken_configuration_is_the_first_problem(station):
    station.config.write_text("watch: [{folder: images, modle: x}]")

    problem = only(station)

    assert problem.subject == "configuration"
    assert "modle" in problem.text


def test_damaged_weights_are_named(station, tiny_model, tmp_path):
    copy = tmp_path / "model"
    copy.mkdir()
    for file in tiny_model.path.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    weights = copy / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    station.config.write_text(station.config.read_text().replace(str(tiny_model.path), str(copy)))

    assert (only(station).subject, only(station).verdict) == ("model", Verdict.PROBLEM)


def test_folders_that_are_not_there_and_disks_that_are_full_are_told(station):
    station.images.rmdir()
    lines = station.config.read_text().replace("folder: masks", "folder: gone/masks, reserve: 1 GB")
    station.config.write_text(lines)
    there, away = found(station)
    assert (there.subject, there.verdict) == ("watch images", Verdict.NOTE)
    assert (away.subject, away.verdict) == ("output", Verdict.PROBLEM)
    assert f"nor is {station.folder / 'gone'}" in away.text

    station.images.mkdir()
    (station.folder / "gone/masks").mkdir(parents=True)
    station.config.write_text(lines.replace("1 GB", "1000000 GB"))
    assert "are to stay free" in only(station).text
    assert list((station.folder / "gone/masks").iterdir()) == []


def test_a_folder_that_does_not_answer_is_given_up(station, monkeypatch):
    monkeypatch.setattr(doctor, "ANSWER_WITHIN_S", 0.1)

    finding = doctor._answered("output", station.masks, lambda _: time.sleep(1))

    assert finding.verdict == Verdict.PROBLEM
    assert "does not answer within" in finding.text


def test_a_damaged_ledger_is_told_and_left_as_it_is(station):
    (station.folder / "state").mkdir()
    ledger = station.folder / "state/cellwatch.db"
    ledger.write_bytes(b"no database at all" * 100)

    problem = only(station)

    assert (problem.subject, problem.verdict) == ("ledger", Verdict.PROBLEM)
    assert ledger.read_bytes() == b"no database at all" * 100


@pytest.fixture
def ran(station):
    """Give the ledger of a station whose daemon runs."""
    db = open_ledger(station.folder / "state")
    facts = service.DaemonFacts(1, "host", "boot", "0.1.0", "cpu", str(station.config))
    service.daemon_started(db, facts, NOW)
    with state_lock(station.folder / "state", NOW):
        yield db
    db.close()


def test_a_daemon_without_a_sign_of_life_is_dead_and_one_of_the_future_has_another_clock(
    station, ran
):
    assert not found(station)
    dead = only(station, NOW + timedelta(hours=1))
    early = only(station, NOW - timedelta(hours=1))

    assert (dead.subject, dead.verdict) == ("daemon", Verdict.PROBLEM)
    assert (early.subject, early.remedy) == ("clock", "set the clock: timedatectl")


def test_files_that_wait_for_something_are_counted_by_their_reasons(station, ran):
    service.unread_found(ran, "images", {".zvi": ["a.zvi", "b.zvi"]})
    service.folder_scanned(ran, "images", str(station.images), files=2, reason="", now=NOW)
    row = {
        "watch": "images", "relative_path": "a.tif", "experiment": "x", "fingerprint": "0",
        "size": 1, "mtime_ns": 1, "state_since": "", "arrived_at": "", "priority": 0,
    }  # fmt: skip
    for number, (state, reason) in enumerate(
        [("failed", "it is no TIFF"), ("failed", "it is no TIFF"), ("blocked", "no disk")]
    ):
        each = {**row, "path": f"/{number}.tif", "state": state, "reason": reason}
        ran.table("acquisitions").insert(each)

    told = [f.text for f in found(station) if f.subject == "files"]

    assert told[:2] == ["2 failed: it is no TIFF", "1 blocked: no disk"]
    assert told[2] == f"2 .zvi are not read, as {station.images}/a.zvi"


def test_formats_whose_library_is_missing_say_what_to_install(monkeypatch):
    monkeypatch.setitem(WITH_LIBRARY, ".czi", ("no_such_library", "czi"))

    (lacking,) = [f for f in examine_machine() if f.text.startswith("not read")]

    assert (lacking.text, lacking.remedy[-27:]) == (
        "not read: .czi",
        "pip install 'cellwatch[czi]'"[-27:],
    )


def test_a_device_that_is_not_there_is_a_problem():
    (device,) = [f for f in examine_machine(["cuda:7"]) if f.subject == "device"]

    assert device.verdict == Verdict.PROBLEM
    assert device.remedy


def test_the_command_prints_findings_and_ends_with_1_on_a_problem(station, tmp_path):
    def doctored(*words, at=tmp_path):
        asked = [sys.executable, "-m", "cellwatch", "doctor", *words]
        return subprocess.run(asked, cwd=at, capture_output=True, text=True, check=False)

    (tmp_path / "empty").mkdir()
    alone, well = doctored(at=tmp_path / "empty"), doctored()
    station.config.write_text("watch: 3")
    bad = doctored("--json")

    assert alone.returncode == well.returncode == 0
    assert "for a station: cellwatch doctor --config FILE" in alone.stderr
    assert "ok       configuration:" in well.stdout
    assert bad.returncode == 1
    assert json.loads(bad.stdout)["findings"][0]["verdict"] == "problem"
