"""One file, one sample: also while it is written anew, and whatever it held before."""

import numpy as np
import pytest

from cellwatch.cli.loop import would_train
from cellwatch.daemon.lineup import groups_of, job_of
from cellwatch.records import AskedRun, ImageInfo
from cellwatch.storage import arrivals, flags, reviews, runs
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
    arrival = arrivals.Arrival("images", str(path), relative, "exp", "", 9, 9, info)
    arrivals.note_waiting(lab.db, arrival, "waiting", "it is not whole yet", lab.now)


def test_a_correction_is_taken_while_its_file_is_written_anew(lab):
    lab.arrive("exp/a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    being_written(lab, "exp/a.tif")
    assert lab.db.execute("SELECT count(*) FROM acquisitions").fetchone() == (2,)

    assert lab.correct("exp/a.tif")["state"] == "trainable"
    assert flags.acquisitions_named(lab.db, "a") == [1]


def test_promise_6_a_file_that_grows_stays_one_sample_on_one_side(lab):
    keys = []
    for seed in range(3):
        lab.arrive("exp/a.tif", *disc_picture(seed, size=64, n=3))
        lab.segment_all()
        keys.append(lab.correct("exp/a.tif")["content_key"])
        job_for(lab)  # decides the sides
    lab.arrive("copy/b.tif", *disc_picture(2, size=64, n=3))  # the same pixels as the last
    lab.segment_all()
    keys.append(lab.correct("copy/b.tif")["content_key"])

    assert len(set(keys)) == 1
    assert len(reviews.sides(lab.db, lab.group)) == 1
    pixels = lab.db.execute("SELECT DISTINCT pixels_sha256 FROM corrections").fetchall()
    assert len(pixels) == 3


def test_a_model_that_learned_from_a_file_is_not_tested_on_what_it_grew_into(lab):
    lab.arrive("exp/a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    first = lab.correct("exp/a.tif")
    (sha256,) = lab.db.execute("SELECT model_sha256 FROM targets").fetchone()
    lab.db.table("trained_on").insert(
        {"model_sha256": sha256, "correction_id": first["id"], "content_key": first["content_key"]}
    )
    lab.arrive("exp/a.tif", *disc_picture(1, size=64, n=3))
    lab.segment_all()
    lab.correct("exp/a.tif")

    assert lab.db.execute("SELECT correction_id FROM scores").fetchall() == [(first["id"],)]


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

    assert runs.new_rois(lab.db, lab.group) == runs.new_rois(lab.db, lab.group, "anna") > 0
    assert [item.correction_id for item in job_for(lab).items] == [2]
    lab.db.execute("UPDATE corrections SET state = 'used' WHERE id = 2")
    assert runs.new_rois(lab.db, lab.group) == 0
    assert runs.new_rois(lab.db, lab.group, "anna") > 0


def test_a_dry_run_says_when_nothing_would_be_trained_by_itself(lab):
    lab.arrive("exp/a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    assert would_train(lab.config, lab.group)["says"] == "no new corrections"
    lab.correct("exp/a.tif")
    assert "retrain.at is never" in would_train(lab.config, lab.group)["says"]
    runs.begin(lab.db, AskedRun(lab.group, "asked", "2026-11-25"), lab.now)
    runs.plan(lab.db, job_for(lab))
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
        kept = read_kept(Path(lab.correct("exp/a.tif")["folder"]))
        limits.append(kept.limits[0, 1])
        assert kept.limits[0, 1] == pytest.approx(np.percentile(kept.plane[0], high), rel=0.02)
        lab.close()
    assert limits[1] < limits[0]
