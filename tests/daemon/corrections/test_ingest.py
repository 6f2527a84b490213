"""A dropped file that is not at fault itself is not rejected: it is read again later."""

import json
import os
import queue
import shutil
import signal
import sqlite3
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellwatch.daemon.corrections import drop_watcher, inbox
from cellwatch.daemon.corrections.answers import answer, missing_answers, record
from cellwatch.daemon.corrections.drop_watcher import all_answered
from cellwatch.daemon.corrections.events import DropRead
from cellwatch.daemon.corrections.ingest import read_correction
from cellwatch.daemon.corrections.presence import Presence
from cellwatch.daemon.corrections.reader import Reader
from cellwatch.daemon.retraining.judge import Judge
from cellwatch.daemon.retraining.nights import Nights
from cellwatch.daemon.retraining.selection import groups_of, job_of
from cellwatch.records import AskedRun, ChannelChoice, CorrectionAsked, CorrectionKind, PlaneIndex
from cellwatch.storage.corrections.checkout import Wanted, take_out
from cellwatch.storage.ledger import (
    annotations,
    checkouts,
    confirmations,
    corrections,
    dropped_files,
    requests,
    superseding,
)
from cellwatch.storage.masks.content import StoreContent
from cellwatch.storage.masks.store import read_plane, read_provenance, write_store
from cellwatch.storage.reports import corrections as reports
from cellwatch.storage.reports.station import LEDGER
from cellwatch.watching.names import FileFilter
from cellwatch.watching.scanner import look
from tests.discs import disc_picture
from tests.lab import CPU, Lab


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


def test_a_file_larger_than_any_label_image_is_refused_before_it_is_copied(asked, tmp_path):
    with Path(asked.path).open("r+b") as file:
        file.truncate((1 << 30) + 1)  # sparse: it takes no room
    (tmp_path / "many.zarr").mkdir()
    with (tmp_path / "many.zarr/0").open("wb") as file:
        file.truncate((1 << 30) + 1)

    for path in (asked.path, str(tmp_path / "many.zarr")):
        found = read_correction(replace(asked, path=path))
        assert "no label image needs" in found.reason or "not whole" in found.reason
        assert list(Path(asked.keep).iterdir()) == []


def test_a_reader_that_somebody_killed_is_asked_once_more(asked):
    fifo = Path(asked.path)
    fifo.unlink()
    os.mkfifo(fifo)
    reader = Reader()
    process = reader._child._started()

    def kill():
        time.sleep(1.0)  # it waits for the other end by now
        fifo.unlink()
        tifffile.imwrite(fifo, np.ones((8, 8), np.uint16))
        process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    found = reader.ask(asked)
    killer.join()
    reader.close()

    assert "died" not in found.reason
    assert "prediction cannot be read" in found.reason  # it came as far as the mask store


@pytest.fixture
def lab(tmp_path, tiny_model, now):
    lab = Lab(tmp_path / "lab", tiny_model.path, now)
    yield lab
    lab.close()


def test_one_that_waits_for_a_disk_has_one_row_however_often_it_is_tried(lab):
    drop = dropped_files.Drop("a_masks.tif", 1, 1)
    folder = lab.folder / "corrections"
    (folder / "a_masks.tif").touch()
    waits = DropRead(drop, None, "the disk is full", "nothing", is_blocked=True)
    first = record(lab.db, folder, waits, lab.now)
    room = inbox.Inbox(lab.db, lab.config, Nights(lab.db, lab.config, lab.models))

    inbox.look_after(room)
    assert room.again.get_nowait().id == first.id
    inbox.look_after(room)  # not within the same minute
    with pytest.raises(queue.Empty):
        room.again.get_nowait()
    again = record(
        lab.db, folder, DropRead(drop, None, waits.waiting, "nothing", first.id), lab.now
    )

    assert again.id == first.id
    assert "the disk is full" in (folder / "a_masks.tif.rejected.txt").read_text()
    assert lab.db.table("corrections").count == 1


def test_answers_to_files_that_were_taken_away_go_with_them(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    good = lab.correct("a.tif")
    bad = lab.correct("a.tif", labels=np.zeros((9, 9), np.int32), prefix="anna")
    tifffile.imwrite(lab.folder / "corrections/nobody_masks.tif", lab.truth["a.tif"])
    orphan = lab.drop("nobody_masks.tif")
    (lab.folder / "corrections/nobody_masks.tif").unlink()
    folder, aside = lab.folder / "corrections", lab.folder / "aside"
    room, presence = presence_of(lab)
    assert moved(lab, room, presence).gone == {"nobody_masks.tif"}
    for row in (good, bad):
        (folder / row.file).rename(aside.with_name(f"aside-{row.id}"))

    assert moved(lab, room, presence).gone == {good.file, bad.file}

    assert [path for path in folder.rglob("*") if path.is_file()] == []
    states = {row["id"]: row["state"] for row in lab.db.table("corrections").rows}
    assert states == {good.id: "trainable", bad.id: "withdrawn", orphan.id: "withdrawn"}
    for row in (good, bad):
        aside.with_name(f"aside-{row.id}").rename(folder / row.file)
    assert moved(lab, room, presence).back == {good.file, bad.file}
    assert (folder / f"{good.file}.accepted.json").exists()
    assert room.again.get_nowait().id == bad.id
    assert room.again.empty()
    record(lab.db, folder, lab.desk.look_again(bad), lab.now)
    assert (folder / f"{bad.file}.rejected.txt").exists()


def test_a_share_that_is_not_mounted_takes_nothing_away(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    bad = lab.correct("a.tif", labels=np.zeros((9, 9), np.int32))
    room, presence = presence_of(lab)
    (lab.folder / "corrections").rename(lab.folder / "unmounted")
    (lab.folder / "corrections").mkdir()

    assert moved(lab, room, presence) is None

    assert lab.db.table("corrections").get(bad.id)["state"] == "rejected"


def presence_of(lab):
    room = inbox.Inbox(lab.db, lab.config, Nights(lab.db, lab.config, lab.models))
    return room, Presence(lab.config.state.folder / LEDGER, lab.folder / "corrections")


def moved(lab, room, presence):
    found = drop_watcher._moved(presence, lab.folder / "corrections")
    if found is not None:
        inbox.take(room, found, lab.now)
    return found


def test_a_second_look_is_measured_by_the_same_annotators_first_one(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    fewer = np.where(lab.truth["a.tif"] == 1, 0, lab.truth["a.tif"]).astype(np.int32)
    rows = [lab.correct("a.tif", prefix="Anna"), lab.correct("a.tif", labels=fewer, prefix="ben")]
    facts = {"acquisition_id": rows[0].acquisition_id, "target": rows[0].target}
    part = rows[0].plane
    again = dropped_files.Drop("x_masks.tif", 1, 1, CorrectionKind.SECOND_LOOK, plane=part, **facts)

    def first_look(who):
        return annotations.other_look(lab.db, replace(again, annotator=who))

    assert [row.annotator for row in rows] == ["anna", "ben"]
    assert [first_look(who) for who in ("anna", "ben")] == [row.folder for row in rows]
    assert first_look("") == ""  # whose it is nobody knows


def test_two_looks_agree_by_what_both_have_checked(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    labels = lab.truth["a.tif"].copy()
    lab.correct("a.tif", prefix="anna")
    labels[32:] = 0
    half = np.zeros((64, 64), np.uint8)
    half[:32] = 1
    place = lab.folder / "corrections/ben"
    place.mkdir()
    tifffile.imwrite(place / "a_region.tif", half)
    lab.drop("ben/a_region.tif")

    assert lab.correct("a.tif", labels=labels, prefix="ben").agreement == 1.0


def test_the_minutes_end_when_the_file_was_saved_however_late_it_is_read(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    taken_out(lab, "a")
    lab.correct("a.tif")
    saved = lab.now + timedelta(minutes=12)
    path = lab.folder / "corrections/a_masks.tif"
    labels = tifffile.imread(path)
    tifffile.imwrite(path, np.where(labels == 1, 0, labels).astype(labels.dtype))
    os.utime(path, (saved.timestamp(), saved.timestamp()))
    lab.now += timedelta(days=3)

    assert lab.drop("a_masks.tif").minutes == 12.0


def test_a_stale_answer_is_written_anew_at_start(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    row = lab.correct("a.tif")
    folder = lab.folder / "corrections"
    (folder / f"{row.file}.accepted.json").unlink()
    (folder / f"{row.file}.rejected.txt").write_text("of the file before")  # a crash between

    (missing,) = missing_answers(lab.db, folder)
    answer(lab.db, folder, missing)

    assert missing_answers(lab.db, folder) == []
    assert not (folder / f"{row.file}.rejected.txt").exists()


def test_a_region_counts_whenever_it_comes_and_no_more_when_it_is_withdrawn(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    row = lab.correct("a.tif")
    folder = lab.folder / "corrections"
    (folder / row.file).unlink()  # the kept original is enough
    part = np.zeros((64, 64), np.uint16)
    for y in (0, 20, 40):
        for x in (0, 30):
            part[y : y + 15, x : x + 25] = 1  # six pieces: black and white is right here
    tifffile.imwrite(folder / "a_region.tif", part)
    seen = look(folder, "a_region.tif", FileFilter(("**",), (), (".tif",)))
    region = record(lab.db, folder, lab.desk.look(seen), lab.now)
    assert region.state == "trainable", region.reason

    (stale,) = annotations.out_of_step(lab.db)
    again = record(lab.db, folder, lab.desk.look_again(stale), lab.now)
    assert "only the checked region is used" in " ".join(again.notes)
    assert annotations.out_of_step(lab.db) == []

    superseding.withdraw(lab.db, region.id, lab.now)
    (stale,) = annotations.out_of_step(lab.db)
    whole = record(lab.db, folder, lab.desk.look_again(stale), lab.now)
    assert (whole.rois, whole.state) == (row.rois, "trainable")
    assert annotations.out_of_step(lab.db) == []


def test_a_request_that_is_cut_off_before_its_answer_has_done_nothing(lab):
    room = inbox.Inbox(lab.db, lab.config, Nights(lab.db, lab.config, lab.models))
    requests.ask(lab.db, "flag", {"name": "a.tif"}, "anna", lab.now)
    cut = "CREATE TRIGGER cut BEFORE UPDATE ON requests BEGIN SELECT RAISE(ABORT, 'x'); END"
    lab.db.execute(cut)
    with pytest.raises(sqlite3.IntegrityError):
        inbox.answer_requests(room, lab.now)
    assert lab.db.table("flags").count == 0

    lab.db.execute("DROP TRIGGER cut")
    room.seen_version = -1
    inbox.answer_requests(room, lab.now)
    assert lab.db.table("flags").count == 1


def test_a_flag_on_an_roi_that_is_not_there_is_refused(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    room = inbox.Inbox(lab.db, lab.config, Nights(lab.db, lab.config, lab.models))
    for roi in (99, 1):
        requests.ask(lab.db, "flag", {"name": "a.tif", "roi": roi}, "anna", lab.now)
    inbox.answer_requests(room, lab.now)

    said = [row["answer"] for row in lab.db.table("requests").rows]
    assert "there is no ROI 99" in said[0]
    assert lab.db.execute("SELECT roi FROM flags").fetchall() == [(1,)]


def test_a_flag_on_a_name_that_is_nearly_known_asks_what_was_meant(lab):
    lab.arrive("well_b03.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    room = inbox.Inbox(lab.db, lab.config, Nights(lab.db, lab.config, lab.models))
    for kind, name in (("flag", "well_b3.tif"), ("unflag", "wel_b03"), ("flag", "later.tif")):
        requests.ask(lab.db, kind, {"name": name}, "anna", lab.now)
    inbox.answer_requests(room, lab.now)

    said = [row["answer"] for row in lab.db.table("requests").rows]
    assert ["did you mean well_b03.tif?" in text for text in said] == [True, True, False]
    assert "not known yet" in said[2]


def test_images_of_one_name_in_one_folder_are_told_apart_by_a_checkout(lab):
    for name in ("exp/a.tif", "exp/a.tiff"):
        lab.arrive(name, *disc_picture(len(name), size=64, n=3))
    lab.segment_all()
    row = lab.correct("exp/a.tif")
    assert (row.state, "cellwatch checkout" in row.remedy) == ("rejected", True)

    lab.arrive("b.tif", *disc_picture(0, size=64, n=3))
    lab.arrive("day/b.tif", *disc_picture(1, size=64, n=3))
    lab.segment_all()
    assert lab.correct("b.tif").remedy.endswith("the folder of its image: images or day")

    for name in ("x/day/c.tif", "y/day/c.tif"):
        lab.arrive(name, *disc_picture(len(name), size=64, n=3))
    lab.segment_all()
    assert lab.correct("x/day/c.tif").remedy.endswith(": x/day or y/day")
    assert lab.correct("x/day/c.tif", prefix="y/day").state == "trainable"


def test_a_picture_format_is_refused_and_what_the_file_held_before_is_used(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    folder = lab.folder / "corrections"
    lab.correct("a.tif")
    tifffile.imwrite(folder / "a_masks.tif", lab.truth["a.tif"] > 0)
    (folder / "a_masks.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    assert not all_answered(lab.db, folder)

    states = [lab.drop(name).state for name in ("a_masks.tif", "a_masks.jpg")]

    assert states == ["rejected", "rejected"]
    assert not (folder / "a_masks.tif.accepted.json").exists()
    told = (folder / "a_masks.tif.rejected.txt").read_text()
    assert "Until then correction 1 is used, which the file held before" in told
    assert "as TIFF or as PNG of 16 bits" in (folder / "a_masks.jpg.rejected.txt").read_text()
    assert all_answered(lab.db, folder)
    assert reports.dropped_in_vain(lab.db) == {"rejected": 2}


def test_a_crop_that_lacks_a_number_is_told_so(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    tifffile.imwrite(lab.folder / "corrections/a__y8x4_masks.tif", lab.truth["a.tif"])

    reason = lab.drop("a__y8x4_masks.tif").reason

    assert "no target 'y8x4' (a crop says four numbers: y, x, h, w)" in reason


def test_an_answer_says_when_it_holds_no_more(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    folder = lab.folder / "corrections"
    first = lab.correct("a.tif")
    lab.correct("a.tif", tool="fiji")
    answers = {path.name: json.loads(path.read_text()) for path in folder.glob("*.accepted.json")}
    assert "correction 2 (a_rois.zip) took" in answers["a_masks.tif.accepted.json"]["use"]
    (new,) = (told for name, told in answers.items() if "a_masks" not in name)
    assert new["replaces"] == ["correction 1 (a_masks.tif)"]
    assert missing_answers(lab.db, folder) == []

    room = inbox.Inbox(lab.db, lab.config, Nights(lab.db, lab.config, lab.models))
    requests.ask(lab.db, "withdraw", {"id": 1}, "anna", lab.now)
    requests.ask(lab.db, "withdraw", {"id": 2}, "anna", lab.now)
    inbox.answer_requests(room, lab.now)

    said = [row["answer"] for row in lab.db.table("requests").rows]
    assert "correction 2 took its place" in said[0]
    assert "correction 1 (a_masks.tif: 3 ROIs) is active again" in said[1]
    (left,) = folder.glob("*.accepted.json")
    assert "the group learns from it" in json.loads(left.read_text())["use"]
    assert lab.db.table("corrections").get(first.id)["state"] == "trainable"


def test_the_answer_to_a_file_is_to_what_it_holds_now(lab):
    pixels, labels = disc_picture(0, size=160, n=12)
    labels[labels == 12] = 0  # whatever the network finds, this was worked on
    lab.arrive("a.tif", pixels, labels)
    lab.segment_all()
    folder = lab.folder / "corrections"
    lab.correct("a.tif")
    (store,) = lab.db.execute("SELECT store FROM acquisitions").fetchone()
    found = but_for_a_pixel(read_plane(Path(store), "cells", (0, 0, 0)))
    untouched = lab.correct("a.tif", labels=found)
    assert "nothing was changed in it" in untouched.reason
    lab.correct("a.tif", tool="fiji")
    room = inbox.Inbox(lab.db, lab.config, Nights(lab.db, lab.config, lab.models))

    def rejected():
        assert missing_answers(lab.db, folder) == []
        assert not (folder / "a_masks.tif.accepted.json").exists()
        return (folder / "a_masks.tif.rejected.txt").read_text()

    assert "correction 1 (a_masks.tif: 11 ROIs" in rejected()
    requests.ask(lab.db, "withdraw", {"id": 3}, "anna", lab.now)
    inbox.answer_requests(room, lab.now)
    assert "save this one again" in rejected()

    assert lab.correct("a.tif", labels=found).state == "trainable"  # nothing stands any more


def test_a_namesake_that_comes_after_a_checkout_takes_nothing_from_it(lab):
    lab.arrive("x/a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    out = {"acquisition_id": 1, "target": "cells", "stem": "a", "position": 0, "t": 0, "z": 0}
    out |= {"crop": None, "is_mirrored": 0, "format": "napari", "folder": "out"}
    lab.db.table("checkouts").insert({**out, "checked_out_at": lab.now.isoformat()})
    lab.arrive("y/a.tif", *disc_picture(1, size=64, n=3))
    lab.segment_all()

    row = lab.correct("x/a.tif")

    assert (row.acquisition_id, row.state) == (1, "trainable")
    assert "it is the one that was handed out" in " ".join(row.notes)


def test_pauses_are_no_time_that_a_network_takes(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    lab.correct("a.tif")
    group = groups_of(lab.config)[lab.group]
    asked = AskedRun(lab.group, "asked", "2026-11-25")
    job = job_of(lab.db, 1, asked, group, lab.config, lab.models, lab.now)
    judge = Judge(job, CPU)
    judge.add(job.base)
    previous = signal.signal(signal.SIGALRM, lambda *_: time.sleep(3.0))  # as if it were stopped
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    began = time.monotonic()
    seen = judge.look(job.base.sha256, job.items[0], "smoke")
    signal.signal(signal.SIGALRM, previous)

    assert time.monotonic() - began >= 3.0
    assert seen.seconds < 2.5


def but_for_a_pixel(found):
    """Return labels that differ from those that were found in one pixel."""
    labels = np.array(found)
    labels[tuple(np.argwhere(labels > 0)[0])] = 0
    return labels


def but_for_one(labels, found):
    """Return labels of which the first alone is as it was found."""
    return np.where(found == 1, 1, np.where(labels == 1, 0, labels))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda found: np.roll(found, 11, (0, 1)), "moved by"),
        (lambda found: np.ascontiguousarray(found[:, ::-1]), "mirrored left to right"),
        (lambda found: np.ascontiguousarray(found.T), "transposed"),
    ],
    ids=["shifted", "mirrored", "transposed"],
)
def test_c22_rois_that_lie_elsewhere_are_learned_from_only_when_confirmed(lab, change, told):
    lab.arrive("a.tif", *disc_picture(0, size=160, n=12))
    lab.segment_all()
    (store,) = lab.db.execute("SELECT store FROM acquisitions").fetchone()
    found = read_plane(Path(store), "cells", (0, 0, 0))

    row = lab.correct("a.tif", labels=np.ascontiguousarray(change(found)))

    assert row.state == "rejected"
    assert told in row.reason
    assert f"corrections confirm {row.id}" in row.remedy
    assert corrections.trainable(lab.db, lab.group) == []
    confirmations.confirm(lab.db, row.id, "anna", lab.now)
    assert lab.drop(row.file).state == "trainable"


def test_labels_copied_back_untouched_teach_nothing_also_after_a_rerun(lab, tmp_path):
    pixels, labels = disc_picture(0, size=96, n=5)
    lab.arrive("a.tif", pixels, labels)
    lab.segment_all()
    (row,) = reports.acquisitions(lab.db, "1", [])
    made = take_out(Wanted(row, "cells", "", "fiji", "k7f3"), tmp_path, lab.folder / "corrections")
    checkouts.record(lab.db, made, lab.now)
    store = Path(row.store)
    content = StoreContent({"cells": labels[None, None, None]}, "", read_provenance(store))
    write_store(store, content, tmp_path / "old")  # as if it had been done again meanwhile
    shutil.copy(Path(made["folder"]) / "a~k7f3_rois.zip", lab.folder / "corrections/a_rois.zip")

    dropped = lab.drop("a_rois.zip")

    assert dropped.state == "rejected"
    assert "it is what was handed out" in dropped.reason
    assert corrections.trainable(lab.db, lab.group) == []


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda found: but_for_a_pixel(found), "nothing was changed"),
        (np.ones_like, "shifted, or of another image"),
    ],
)
def test_a_correction_that_is_probably_a_slip_is_accepted_with_a_note(lab, change, note):
    lab.arrive("a.tif", *disc_picture(0, size=160, n=12))
    lab.segment_all()
    (store,) = lab.db.execute("SELECT store FROM acquisitions").fetchone()
    found = read_plane(Path(store), "cells", (0, 0, 0))
    assert found.max() >= 5

    row = lab.correct("a.tif", labels=np.ascontiguousarray(change(found)))

    assert row.state == "trainable"
    assert note in " ".join(row.notes)


def test_an_answer_that_cannot_be_written_does_not_end_the_daemon(lab, caplog):
    folder = lab.folder / "corrections"
    (folder / "a_masks.tif").touch()
    (folder / "a_masks.tif.rejected.txt").mkdir()  # something stands in the way
    waits = DropRead(dropped_files.Drop("a_masks.tif", 1, 1), None, "no image", "wait")
    row = record(lab.db, folder, waits, lab.now)
    assert row.state == "orphan"
    assert "cannot be written" in caplog.text


def test_a_file_that_cannot_be_looked_at_waits_and_holds_up_no_other(lab, monkeypatch, caplog):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    matched = drop_watcher.match_drop

    def fails(db, config, relative, name):
        if relative.parent.name == "anna":
            raise sqlite3.OperationalError("database is locked")
        return matched(db, config, relative, name)

    monkeypatch.setattr(drop_watcher, "match_drop", fails)
    waits = lab.correct("a.tif", prefix="anna")
    lab.correct("a.tif", prefix="anna")  # saved again meanwhile
    good = lab.correct("a.tif")

    assert (waits.state, good.state) == ("orphan", "trainable")
    assert waits.is_blocked  # so it is tried again
    assert caplog.text.count("cannot be looked at") == 1
    (waits,) = corrections.orphans(lab.db)

    monkeypatch.undo()
    found = lab.desk.look_again(waits)
    assert found.drop.acquisition_id == 1
    assert record(lab.db, lab.folder / "corrections", found, lab.now).state == "trainable"
    assert corrections.orphans(lab.db) == []


def test_what_cannot_be_read_anew_stands_as_it_was_read(lab, monkeypatch):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    row = lab.correct("a.tif")
    (lab.folder / "corrections" / row.file).unlink()

    def fails(*_):
        raise sqlite3.OperationalError("database is locked")

    with monkeypatch.context() as patched:
        patched.setattr(drop_watcher, "match_drop", fails)
        assert lab.desk.look_again(row) is None

    assert lab.desk.look_again(row).drop.acquisition_id == 1


def test_watching_the_corrections_begins_anew_after_it_failed():
    begun, stop = [], threading.Event()

    def work():
        begun.append(1)
        if len(begun) == 1:
            raise OSError("the disk went away")
        stop.set()

    stop.wait = lambda _seconds: False  # without the pause
    drop_watcher._guarded(work)(stop)

    assert len(begun) == 2


def test_a_checkout_that_came_back_does_not_speak_for_a_namesake(lab):
    for number, day in enumerate(("day1", "day2")):
        lab.arrive(f"{day}/a.tif", *disc_picture(number, size=64, n=3))
        lab.segment_all()
        if day == "day1":
            taken_out(lab, "a")
            assert lab.correct("day1/a.tif").acquisition_id == 1
    again = lab.correct("day1/a.tif")
    typo = lab.correct("day2/a.tif", prefix="dya2")

    assert (again.state, again.acquisition_id) == ("trainable", 1)
    assert typo.state == "rejected"
    assert "2 images are named 'a'" in typo.reason


def test_a_sub_folder_named_as_a_watched_folder_is_a_place_and_no_annotator(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    watched = lab.config.watch[0]
    cyto = watched.model_copy(update={"name": "Cyto", "folder": lab.folder / "cyto"})
    lab.desk._config = lab.config.model_copy(update={"watch": (watched, cyto)})

    row = lab.correct("a.tif", prefix="cyto")

    assert (row.state, row.annotator) == ("orphan", "")
    assert "no image named 'a' is known in Cyto yet" in row.reason
    assert "put it into corrections/images/" in row.reason
    assert lab.correct("a.tif", prefix="images").annotator == ""
    assert lab.correct("a.tif", prefix="anna").annotator == "anna"


def test_a_watched_folders_name_means_any_image_below_it(lab):
    watched = lab.config.watch[0]
    other = watched.model_copy(update={"name": "a", "folder": lab.folder / "a"})
    lab.desk._config = lab.config.model_copy(update={"watch": (watched, other)})
    lab.arrive("day1/a.tif", *disc_picture(0, size=64, n=3))
    lab.arrive("day1/b.tif", *disc_picture(1, size=64, n=3))
    lab.segment_all()

    rows = [lab.correct(f"day1/{name}.tif", prefix="images") for name in "ab"]
    assert [(row.state, row.annotator) for row in rows] == [("trainable", "")] * 2
    copied = lab.correct("day1/a.tif", prefix="a")  # a whole checkout folder
    assert (copied.state, copied.annotator) == ("trainable", "")
    assert lab.correct("day1/b.tif", prefix="a").state == "orphan"


def test_a_whole_checkout_folder_that_is_copied_is_no_annotator(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()

    assert lab.correct("a.tif", prefix="a").annotator == ""


@pytest.mark.parametrize("prefix", ["a__y8x4h40w48", "A__y8x4h40w48"])
def test_nor_is_that_of_a_part(lab, prefix):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()

    row = lab.correct("a.tif", crop=(8, 4, 40, 48), prefix=prefix)
    assert (row.state, row.annotator) == ("trainable", "")


def test_a_checkout_stands_for_its_region_and_for_what_is_mended_too(lab):
    lab.arrive("day1/a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    taken_out(lab, "a")
    lab.arrive("day2/a.tif", *disc_picture(1, size=64, n=3))
    lab.segment_all()
    blank = np.zeros((64, 64), np.int32)

    rejected = lab.correct("day1/a.tif", labels=blank)
    tifffile.imwrite(lab.folder / "corrections/a_empty.tif", blank)
    mended = lab.drop("a_empty.tif")
    tifffile.imwrite(lab.folder / "corrections/a_region.tif", blank + 1)
    region = lab.drop("a_region.tif")

    assert [row.state for row in (rejected, mended, region)] == [
        "rejected", "trainable", "trainable",
    ]  # fmt: skip
    assert "holds no ROI" in rejected.reason
    assert {row.acquisition_id for row in (rejected, mended, region)} == {1}


def test_what_was_away_is_looked_at_when_it_is_back_also_by_the_next_daemon(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    folder = lab.folder / "corrections"
    (folder / "kept.txt").touch()  # so that the folder is not bare
    tifffile.imwrite(folder / "a_masks.tif", lab.truth["a.tif"])
    waits = lab.drop("a_masks.tif")
    room, presence = presence_of(lab)
    (folder / "a_masks.tif").rename(lab.folder / "aside")
    moved(lab, room, presence)
    lab.segment_all()
    (lab.folder / "aside").rename(folder / "a_masks.tif")
    room, presence = presence_of(lab)  # the daemon starts again

    assert moved(lab, room, presence).back == {"a_masks.tif"}
    row = room.again.get_nowait()
    assert (row.id, row.state) == (waits.id, "withdrawn")
    assert record(lab.db, folder, lab.desk.look_again(row), lab.now).state == "trainable"
    assert moved(lab, room, presence) is None


def test_what_a_person_withdrew_stays_so_wherever_its_file_goes(lab):
    folder = lab.folder / "corrections"
    (folder / "kept.txt").touch()
    tifffile.imwrite(folder / "a_masks.tif", disc_picture(0, size=64, n=3)[1])
    waits = lab.drop("a_masks.tif")
    superseding.withdraw(lab.db, waits.id, lab.now)
    room, presence = presence_of(lab)
    here, there = folder / "a_masks.tif", lab.folder / "x"
    for source, target in ((here, there), (there, here)):
        source.rename(target)
        moved(lab, room, presence)

    assert room.again.empty()


def test_another_ones_damaged_file_is_no_reason_to_wait(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    first = lab.correct("a.tif", prefix="anna")
    (Path(first.folder) / "arrays.npz").write_bytes(b"")
    labels = np.where(lab.truth["a.tif"] == 1, 0, lab.truth["a.tif"]).astype(np.int32)

    row = lab.correct("a.tif", labels=labels, prefix="ben")

    assert (row.state, row.agreement) == ("trainable", None)
    assert "the other look cannot be compared" in " ".join(row.notes)


def taken_out(lab, stem):
    facts = {"acquisition_id": 1, "target": "cells", "stem": stem, "position": 0, "t": 0, "z": 0}
    more = {"crop": None, "is_mirrored": 0, "format": "napari", "folder": "", "plane_sha256": None}
    lab.db.table("checkouts").insert({**facts, **more, "checked_out_at": lab.now.isoformat()})


def test_what_was_handed_out_is_no_rival_of_work_that_was_done_even_when_it_is_confirmed(lab):
    pixels, labels = disc_picture(0, size=96, n=5)
    lab.arrive("a.tif", pixels, labels)
    lab.segment_all()
    done = lab.correct("a.tif", labels=np.where(labels == 1, 0, labels).astype(np.int32))
    (row,) = reports.acquisitions(lab.db, "1", [])
    found = read_plane(Path(row.store), "cells", (0, 0, 0)).astype(np.uint16)
    tifffile.imwrite(lab.folder / "corrections/a_cp_masks.tif", found)

    untouched = lab.drop("a_cp_masks.tif")

    assert untouched.state == "rejected"
    assert f"correction {done.id} (a_masks.tif" in untouched.reason
    assert f"corrections withdraw {done.id}" in untouched.remedy
    assert confirmations.confirm(lab.db, untouched.id, "anna", lab.now) is None


def test_the_image_that_was_taken_out_is_told_from_its_labels(lab):
    tifffile.imwrite(lab.folder / "corrections/a~k7f3.tif", np.zeros((8, 8), np.uint16))

    dropped = lab.drop("a~k7f3.tif")

    assert "is named as an image that was taken out, not as its labels" in dropped.reason
