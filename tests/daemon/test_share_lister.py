"""A share is looked into by a process of its own, which may hang without anybody else hanging."""

import os
import signal
import time

import pytest

from cellwatch.daemon.share_lister import Answers, ShareLister
from cellwatch.watching import scanner
from cellwatch.watching.names import FileFilter
from tests.daemon.stations import Station

pytestmark = pytest.mark.timeout(60)
WANTED = FileFilter(("**",), ("*.part",), (".tif",))


@pytest.fixture
def lister():
    lister = ShareLister(scan_within_s=5.0, look_within_s=1.0)
    yield lister
    lister.close()


def test_a_share_is_listed_as_a_folder_of_this_machine_is(lister, tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.tif", "sub/b.tif", os.fsdecode(b"bad\xff.tif"), "c.tif.part", "d.txt"):
        (tmp_path / name).write_bytes(b"x")

    found = list(lister.scan(tmp_path, WANTED))

    assert sorted(found, key=str) == sorted(scanner.scan(tmp_path, WANTED), key=str)
    assert len(found) == 3
    for seen in found:
        assert lister.look(tmp_path, seen.path, WANTED) == seen
    assert lister.look(tmp_path, "gone.tif", WANTED) is None
    assert lister.place_of(tmp_path) == scanner.place_of(tmp_path)
    assert lister.place_of(tmp_path / "gone") is None
    assert not lister.is_bare(tmp_path)
    with pytest.raises(OSError, match="No such file or directory"):
        list(lister.scan(tmp_path / "gone", WANTED))


def test_a_share_that_does_not_answer_is_given_up_and_tried_again(lister, tmp_path):
    (tmp_path / "a.tif").write_bytes(b"x")
    list(lister.scan(tmp_path, WANTED))
    os.kill(lister._child._process.pid, signal.SIGSTOP)

    began = time.monotonic()
    with pytest.raises(OSError, match="it does not answer within 1 s"):
        lister.look(tmp_path, "a.tif", WANTED)
    assert time.monotonic() - began < 3
    assert len(list(lister.scan(tmp_path, WANTED))) == 1

    os.kill(lister._child._process.pid, signal.SIGSTOP)
    lister._scan_within_s = 0.5
    with pytest.raises(OSError, match=r"it does not answer within 0\.5 s"):
        list(lister.scan(tmp_path, WANTED))


def test_many_files_come_in_several_messages(lister, tmp_path, monkeypatch):
    for n in range(25):
        (tmp_path / f"{n}.tif").write_bytes(b"x")
    answers = Answers()
    monkeypatch.setattr("cellwatch.daemon.share_lister.PAGE", 10)
    wanted = {"include": ["**"], "exclude": [], "suffixes": [".tif"]}
    asked = {"root": str(tmp_path), "wanted": wanted}

    pages = [answers.to({"kind": "scan", **asked})["files"]]
    pages += [answers.to({"kind": "more", **asked})["files"] for _ in range(3)]

    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert len({path for page in pages for path, *_ in page}) == 25


def test_files_that_are_not_read_are_counted_there_too(lister, tmp_path):
    for name in ("a.zvi", "b.zvi", "c.tif"):
        (tmp_path / name).write_bytes(b"x")

    assert {s: len(f) for s, f in lister.unread_in(tmp_path, [], [".zvi"]).items()} == {".zvi": 2}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_polled_folder_is_segmented_without_events(tmp_path, tiny_model):
    station = Station(tmp_path / "s", tiny_model.path)
    text = station.config.read_text()
    station.config.write_text(text.replace("{folder: images,", "{folder: images, polling: always,"))
    with station.daemon():
        assert station.until(lambda: station.status()["state"] == "running")
        station.write("a.tif")
        assert station.until(lambda: station.counts().get("done") == 1)
