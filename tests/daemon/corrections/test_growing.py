"""One file, one sample: also while it is rewritten, and whatever it held before."""

import os
from datetime import UTC, datetime

import numpy as np
import pytest
import tifffile

from cellwatch.cli.retrain import would_train
from cellwatch.daemon.corrections.answers import record
from cellwatch.daemon.retraining.selection import groups_of, job_of
from cellwatch.images import plane_digest
from cellwatch.records import AskedRun, ImageInfo, PlaneIndex
from cellwatch.storage.corrections.checkout import Wanted, take_out
from cellwatch.storage.ledger import acquisitions, checkouts, corrections, flags, training_runs
from cellwatch.storage.reports import corrections as reports
from tests.discs import disc_picture
from tests.lab import Lab


@pytest.fixture
def lab(tmp_path, tiny_model, now):
    lab = Lab(tmp_path / "lab", tiny_model.path, now)
    yield lab
    lab.close()


def job_for(lab):
    asked = AskedRun(lab.group, "asked", "2026-11-25")
    group = groups_of(lab.config)[lab.group]
    return job_of(lab.db, 1, asked, group, lab.config, lab.models, lab.now)


def being_written(lab, relative):
    path = lab.folder / "images" / relative
    info = ImageInfo(str(path))
    arrival = acquisitions.Arrival("images", str(path), relative, "exp", "", 9, 9, info)
    acquisitions.note_waiting(lab.db, arrival, "waiting", "it is not whole yet", lab.now)


def test_a_correction_is_taken_while_its_file_is_written_anew(lab):
    lab.arrive("exp/a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    being_written(lab, "exp/a.tif")
    assert lab.db.execute("SELECT count(*) FROM acquisitions").fetchone() == (2,)

    assert lab.correct("exp/a.tif").state == "trainable"
    assert flags.acquisitions_named(lab.db, "a") == [1]


def test_promise_6_a_file_that_grows_stays_one_sample_on_one_side(lab):
    keys = []
    for seed in range(3):
        lab.arrive("exp/a.tif", *disc_picture(seed, size=64, n=3))
        lab.segment_all()
        keys.append(lab.correct("exp/a.tif").content_key)
        job_for(lab)  # decides the sides
    lab.arrive("copy/b.tif", *disc_picture(2, size=64, n=3))  # the same pixels as the last
    lab.segment_all()
    keys.append(lab.correct("copy/b.tif").content_key)

    assert len(set(keys)) == 1
    assert len(corrections.sides(lab.db, lab.group)) == 1
    pixels = lab.db.execute("SELECT DISTINCT pixels_sha256 FROM corrections").fetchall()
    assert len(pixels) == 3


def test_a_model_that_learned_from_a_file_is_not_tested_on_what_it_grew_into(lab):
    lab.arrive("exp/a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    first = lab.correct("exp/a.tif")
    (sha256,) = lab.db.execute("SELECT model_sha256 FROM targets").fetchone()
    lab.db.table("trained_on").insert(
        {"model_sha256": sha256, "correction_id": first.id, "content_key": first.content_key}
    )
    lab.arrive("exp/a.tif", *disc_picture(1, size=64, n=3))
    lab.segment_all()
    lab.correct("exp/a.tif")

    assert lab.db.execute("SELECT correction_id FROM scores").fetchall() == [(first.id,)]


def test_a_flag_on_a_file_that_was_overwritten_can_be_taken_off(lab):
    lab.arrive("exp/a.tif", *disc_picture(0, size=64, n=3))
    flags.raise_flag(lab.db, flags.Flag("a.tif"), lab.now)
    lab.segment_all()
    lab.arrive("exp/a.tif", *disc_picture(1, size=64, n=3))
    lab.segment_all()

    lab.correct("exp/a.tif")

    assert lab.db.execute("SELECT count(*) FROM review_queue").fetchone() == (0,)


def test_only_what_the_next_training_would_take_counts_as_new(lab):
    lab.arrive("exp/a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    lab.correct("exp/a.tif", prefix="anna")
    lab.correct("exp/a.tif", prefix="bob")

    assert (
        training_runs.new_rois(lab.db, lab.group)
        == training_runs.new_rois(lab.db, lab.group, "anna")
        > 0
    )
    assert [item.correction_id for item in job_for(lab).items] == [2]
    lab.db.execute("UPDATE corrections SET state = 'used' WHERE id = 2")
    assert training_runs.new_rois(lab.db, lab.group) == 0
    assert training_runs.new_rois(lab.db, lab.group, "anna") > 0


def test_a_dry_run_says_when_nothing_would_be_trained_by_itself(lab):
    lab.arrive("exp/a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    assert would_train(lab.config, lab.group)["says"] == "no new corrections"
    lab.correct("exp/a.tif")
    assert "retrain.at is never" in would_train(lab.config, lab.group)["says"]
    training_runs.begin(lab.db, AskedRun(lab.group, "asked", "2026-11-25"), lab.now)
    training_runs.plan(lab.db, job_for(lab))
    assert "is trained now" in would_train(lab.config, lab.group)["says"]


def test_the_judge_is_told_the_pixel_size_of_the_configuration(tmp_path, tiny_model, now):
    lab = Lab(tmp_path / "lab", tiny_model.path, now, extra=", pixel_size: 0.5 um")
    lab.arrive("exp/a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    lab.correct("exp/a.tif")
    assert [item.pixel_size_um for item in job_for(lab).items] == [0.5]
    lab.close()


def test_intensities_are_scaled_for_training_as_for_segmenting(tmp_path, tiny_model, now):
    from pathlib import Path

    from cellwatch.storage.corrections.kept import read_kept

    limits = []
    for high in (99, 90):
        extra = f", normalise: {{low: 1, high: {high}}}"
        lab = Lab(tmp_path / f"lab{high}", tiny_model.path, now, extra=extra)
        lab.arrive("exp/a.tif", *disc_picture(0, size=64, n=3))
        lab.segment_all()
        kept = read_kept(Path(lab.correct("exp/a.tif").folder))
        limits.append(kept.limits[0, 1])
        assert kept.limits[0, 1] == pytest.approx(np.percentile(kept.plane[0], high), rel=0.02)
        lab.close()
    assert limits[1] < limits[0]


def test_what_is_being_overwritten_waits_and_takes_no_correction_of_what_it_was(lab):
    lab.arrive("exp/a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    path = lab.folder / "images/exp/a.tif"
    whole = path.read_bytes()
    other, _ = disc_picture(1, size=64, n=3)
    old = path.stat()

    path.write_bytes(whole[: len(whole) // 2])  # a slow writer
    half = lab.correct("exp/a.tif")
    tifffile.imwrite(path, other, photometric="minisblack")
    overwritten = lab.correct("exp/a.tif")
    path.unlink()
    gone = lab.correct("exp/a.tif")
    path.write_bytes(whole)
    os.utime(path, ns=(old.st_mtime_ns + 10**9, old.st_mtime_ns + 10**9))  # only touched
    back = lab.correct("exp/a.tif")

    assert [row.state for row in (half, overwritten, gone)] == ["orphan"] * 3
    assert all(row.reason.startswith("blocked: ") for row in (half, overwritten, gone))
    assert "the file is being rewritten" in overwritten.reason
    assert back.state == "trainable"


def test_promise_10_a_time_lapse_that_is_written_through_midnight_is_one_experiment(lab):
    frames = np.stack([disc_picture(n, size=64, n=3)[0] for n in range(3)])
    path = lab.folder / "images/t.tif"

    def at(day, pixels):
        moment = datetime(2026, 11, day, 12, tzinfo=UTC).timestamp()
        lab.arrive("t.tif", pixels, None, mtime=moment)
        lab.segment_all()
        sql = "SELECT experiment FROM acquisitions WHERE path = ? ORDER BY id DESC"
        return lab.db.execute(sql, [str(path)]).fetchone()[0]

    assert at(23, frames[:2]) == "2026-11-23"
    assert at(24, frames) == "2026-11-23"  # it has grown
    assert at(25, frames[::-1]) == "2026-11-25"  # the name is used again


@pytest.mark.parametrize("has_ids", [True, False])  # a checkout of an earlier version has none
def test_a_frame_that_a_growing_file_still_holds_can_be_corrected(lab, tmp_path, has_ids):
    frames = [disc_picture(n, size=64, n=3) for n in range(3)]
    pixels = np.stack([picture for picture, _ in frames])
    lab.arrive("t.tif", pixels[:2], None)
    lab.segment_all()
    for t, is_again, short_id in ((0, False, "b222"), (1, False, "b223"), (1, True, "b224")):
        row = reports.acquisitions(lab.db, "1", [])[0]
        wanted = Wanted(
            row, "cells", "", "napari", short_id, PlaneIndex(0, t, 0), is_again=is_again
        )
        made = take_out(wanted, tmp_path, lab.folder / "corrections")
        if not has_ids:
            made |= {"short_id": None, "stem": "again-b224" if is_again else made["stem"]}
        checkouts.record(lab.db, made, lab.now)
    changed = pixels.copy()
    changed[1] += 1
    lab.arrive("t.tif", changed, None)
    lab.segment_all()

    rows = []
    for t in range(2):
        name = f"t__p000_t00{t}_z00{f'~b22{2 + t}' if has_ids else ''}_masks.tif"
        tifffile.imwrite(lab.folder / "corrections" / name, frames[t][1].astype(np.uint16))
        rows.append(lab.drop(name))
    again = "again~b224_masks.tif" if has_ids else "again-b224_masks.tif"
    tifffile.imwrite(lab.folder / "corrections" / again, frames[1][1].astype(np.uint16))
    rows.append(lab.drop(again))

    assert [row.state for row in rows] == ["trainable", "rejected", "rejected"]
    assert (rows[0].acquisition_id, rows[0].checkout_id) == (2, 1)
    for row in rows[1:]:
        assert "was overwritten: this is a correction of what it held before" in row.reason


def test_what_waited_while_its_image_was_overwritten_is_no_correction_of_the_new_one(lab):
    lab.arrive("exp/a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    labels = lab.truth["exp/a.tif"]
    path = lab.folder / "images/exp/a.tif"
    path.write_bytes(path.read_bytes()[:500])
    waits = lab.correct("exp/a.tif", labels=labels)
    lab.arrive("exp/a.tif", *disc_picture(1, size=64, n=3))
    lab.segment_all()

    folder = lab.folder / "corrections"
    then = record(lab.db, folder, lab.desk.look_again(waits), lab.now)

    assert (waits.state, waits.acquisition_id) == ("orphan", 1)
    assert then.state == "rejected"
    assert "was overwritten" in then.reason
    assert lab.drop("a_masks.tif").state == "trainable"  # said once more, of what is there now


def test_the_only_frame_that_was_handed_out_is_known_when_others_have_come(lab):
    frames = [disc_picture(n, size=64, n=3) for n in range(3)]
    lab.arrive("t.tif", frames[0][0], None)
    lab.segment_all()
    hand_out(lab, "t", plane_sha256=plane_digest(frames[0][0][None]))
    lab.arrive("t.tif", np.stack([picture for picture, _ in frames]), None)
    lab.segment_all()

    rows = []
    for t, name in ((0, "t_masks.tif"), (1, "t__p000_t001_z00_masks.tif")):
        tifffile.imwrite(lab.folder / "corrections" / name, frames[t][1].astype(np.uint16))
        rows.append(lab.drop(name))

    assert [row.state for row in rows] == ["trainable"] * 2
    assert [(row.t, row.checkout_id) for row in rows] == [(0, 1), (1, None)]


def hand_out(lab, stem, acquisition=1, **facts):
    whole = {
        "acquisition_id": acquisition, "target": "cells", "stem": stem, "position": 0, "t": 0,
        "z": 0, "crop": None, "is_mirrored": 0, "format": "napari", "folder": "",
        "plane_sha256": None, "checked_out_at": lab.now.isoformat(),
    }  # fmt: skip
    lab.db.table("checkouts").insert({**whole, **facts})
