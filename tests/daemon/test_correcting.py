"""A dropped file that is not at fault itself is not rejected: it is read again later."""

import queue
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellwatch.daemon import desk, office
from cellwatch.daemon.answering import record, tidy
from cellwatch.daemon.correcting import read_correction
from cellwatch.daemon.desk import FromDesk
from cellwatch.daemon.nights import Nights
from cellwatch.records import ChannelChoice, CorrectionAsked, PlaneIndex
from cellwatch.storage import reviews
from cellwatch.storage.maskstore import read_plane
from tests.discs import disc_picture
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

    office.look_after(room, lab.now)
    assert room.again.get_nowait()["id"] == first["id"]
    office.look_after(room, lab.now)  # not within the same minute
    with pytest.raises(queue.Empty):
        room.again.get_nowait()
    again = record(
        lab.db, folder, FromDesk(drop, None, waits.waiting, "nothing", first["id"]), lab.now
    )

    assert again["id"] == first["id"]
    assert "the disk is full" in (folder / "a_masks.tif.rejected.txt").read_text()
    assert lab.db.table("corrections").count == 1


def test_answers_to_files_that_were_taken_away_go_with_them(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    good = lab.correct("a.tif")
    bad = lab.correct("a.tif", labels=np.zeros((9, 9), np.int32), prefix="anna")
    folder = lab.folder / "corrections"
    for row in (good, bad):
        (folder / row["file"]).unlink()

    tidy(lab.db, folder, lab.now)

    assert [path for path in folder.rglob("*") if path.is_file()] == []
    states = {row["id"]: row["state"] for row in lab.db.table("corrections").rows}
    assert states == {good["id"]: "trainable", bad["id"]: "withdrawn"}


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda found: found, "nothing was changed"),
        (lambda found: np.roll(found, 11, (0, 1)), "shifted, or of another image"),
    ],
)
def test_a_correction_that_is_probably_a_slip_is_accepted_with_a_note(lab, change, note):
    lab.arrive("a.tif", *disc_picture(0, size=160, n=12))
    lab.segment_all()
    (store,) = lab.db.execute("SELECT store FROM acquisitions").fetchone()
    found = read_plane(Path(store), "cells", (0, 0, 0))
    assert found.max() >= 5

    row = lab.correct("a.tif", labels=np.ascontiguousarray(change(found)))

    assert row["state"] == "trainable"
    assert note in row["notes"]


def test_an_answer_that_cannot_be_written_does_not_end_the_daemon(lab, caplog):
    folder = lab.folder / "corrections"
    (folder / "a_masks.tif").touch()
    (folder / "a_masks.tif.rejected.txt").mkdir()  # something stands in the way
    waits = FromDesk(reviews.Drop("a_masks.tif", 1, 1), None, "no image", "wait")
    row = record(lab.db, folder, waits, lab.now)
    assert row["state"] == "orphan"
    assert "cannot be written" in caplog.text
