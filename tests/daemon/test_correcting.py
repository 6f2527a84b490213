"""A dropped file that is not at fault itself is not rejected: it is read again later."""

import queue
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellwatch.daemon import desk, office
from cellwatch.daemon.correcting import read_correction
from cellwatch.daemon.desk import FromDesk, record
from cellwatch.daemon.nights import Nights
from cellwatch.records import ChannelChoice, CorrectionAsked, PlaneIndex
from cellwatch.storage import reviews
from tests.lab import Lab


@pytest.fixture
def asked(tmp_path):
    dropped = tmp_path / "a_masks.tif"
    tifffile.imwrite(dropped, np.ones((8, 8), np.uint16))
    (tmp_path / "keep").mkdir()
    return CorrectionAsked(
        str(dropped), "labels", False, "", "", "", "cells", ChannelChoice(), PlaneIndex(), None,
        False, str(tmp_path / "keep"),
    )  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_promise_7_a_full_disk_rejects_no_correction(asked):
    (Path(asked.keep) / "original.tif").symlink_to("/dev/full")
    found = read_correction(asked)
    assert found.is_blocked
    assert "No space left" in found.reason


def test_a_file_that_was_taken_away_meanwhile_is_not_rejected(asked):
    Path(asked.path).unlink()
    found = read_correction(asked)
    assert found.is_blocked


@pytest.fixture
def lab(tmp_path, tiny_model, now):
    lab = Lab(tmp_path / "lab", tiny_model.path, now)
    yield lab
    lab.close()


def test_one_that_waits_for_a_disk_has_one_row_however_often_it_is_tried(lab):
    drop = reviews.Drop("a_masks.tif", 1, 1)
    folder = lab.folder / "corrections"
    (folder / "a_masks.tif").touch()
    waits = FromDesk(drop, None, f"{desk.BLOCKED}the disk is full", "nothing")
    first = record(lab.db, folder, waits, lab.now)
    room = office.Office(lab.db, lab.config, Nights(lab.db, lab.config, lab.models))

    office.try_blocked(room)
    assert room.again.get_nowait()["id"] == first["id"]
    office.try_blocked(room)  # not within the same minute
    with pytest.raises(queue.Empty):
        room.again.get_nowait()
    again = record(
        lab.db, folder, FromDesk(drop, None, waits.waiting, "nothing", first["id"]), lab.now
    )

    assert again["id"] == first["id"]
    assert "the disk is full" in (folder / "a_masks.tif.rejected.txt").read_text()
    assert lab.db.table("corrections").count == 1


def test_an_answer_that_cannot_be_written_does_not_end_the_daemon(lab, caplog):
    folder = lab.folder / "corrections"
    (folder / "a_masks.tif").touch()
    (folder / "a_masks.tif.rejected.txt").mkdir()  # something stands in the way
    waits = FromDesk(reviews.Drop("a_masks.tif", 1, 1), None, "no image", "wait")
    row = record(lab.db, folder, waits, lab.now)
    assert row["state"] == "orphan"
    assert "cannot be written" in caplog.text
