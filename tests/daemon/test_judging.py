"""What a training and its judge are fed, how they give way, and how their time is told."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from cellwatch.daemon import evidence, learning
from cellwatch.daemon.evidence import Judge
from cellwatch.daemon.learning import Prepared, steps_within
from cellwatch.daemon.lessons import images_of
from cellwatch.daemon.lineup import groups_of, job_of
from cellwatch.daemon.pacing import Pacer
from cellwatch.records import AskedRun, ModelCard, TrainJob
from cellwatch.storage import reviews, runs
from cellwatch.storage.maskstore import read_labels
from cellwatch.training.plans import FitPlan
from cellwatch.zoo.catalog import add_model, load_model
from tests.discs import disc_images, disc_picture
from tests.lab import CPU, Lab

BOTH = ("cell", "nucleus")


def job_for(lab):
    asked = AskedRun(lab.group, "asked", "2026-11-25")
    group = groups_of(lab.config)[lab.group]
    return job_of(lab.db, 1, asked, group, lab.config, lab.models, lab.now)


@pytest.mark.parametrize(("takes", "fed"), [(("cell",), 1), (BOTH, 2)])
def test_a_second_channel_is_learned_from_and_judged_with_where_the_base_takes_it(
    tmp_path, tiny_model, now, monkeypatch, takes, fed
):
    model = tmp_path / "model"
    add_model(model, load_model(tiny_model), ModelCard("base", "", 0.0, 0.0, channels=takes))
    lab = Lab(tmp_path / "lab", model, now, extra=", axes: CYX")
    pixels, labels = disc_picture(0, size=64, n=3)
    lab.arrive("a.tif", np.stack([pixels, pixels[::-1]]), labels)
    lab.segment_all()
    lab.correct("a.tif")
    job = job_for(lab)
    shapes = []

    def spied(plane, *args, limits, **more):
        shapes.append((len(plane), len(limits)))
        return whole(plane, *args, limits=limits, **more)

    whole = evidence.segment
    monkeypatch.setattr(evidence, "segment", spied)
    judge = Judge(job, CPU)
    judge.add(job.base)
    judge.look(job.base.sha256, job.items[0], "smoke")

    assert [lesson.plane.shape[0] for lesson in images_of(job.items, job.channels).values()] == [
        fed
    ]
    assert shapes == [(fed, fed)]
    lab.close()


@pytest.fixture
def lab_of_one(tmp_path, tiny_model, now):
    lab = Lab(tmp_path / "lab", tiny_model.path, now)
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    yield lab
    lab.close()


def test_where_a_later_crop_speaks_the_whole_image_counts_no_more(lab_of_one):
    lab = lab_of_one
    lab.correct("a.tif")
    notes = lab.correct("a.tif", crop=(8, 4, 40, 48))["notes"]

    job = TrainJob.from_json(json.loads(json.dumps(job_for(lab).to_json())))
    whole, crop = (images_of(job.items, 1)[item.correction_id] for item in job.items)
    judge = Judge(job, CPU)
    judge.add(job.base)

    assert "correction 1 (a_masks.tif) speaks of some of these pixels too" in notes
    assert crop.checked is None
    assert not whole.checked[8:48, 4:52].any()
    assert whole.checked.sum() == 64 * 64 - 40 * 48
    outside = np.where(whole.checked, lab.truth["a.tif"], 0)
    seen = judge.look(job.base.sha256, job.items[0], "smoke")
    assert seen.found.hits.size == judge.rois(job.items[0]) == len(np.unique(outside)) - 1


@pytest.mark.timeout(120)
def test_a_crop_under_a_later_whole_image_is_taken_as_told_and_costs_no_second_night(lab_of_one):
    lab = lab_of_one
    lab.correct("a.tif", crop=(8, 4, 40, 48))
    lab.correct("a.tif")
    assert list(images_of(job_for(lab).items, 1)) == [2]
    lab.arrive("b.tif", *disc_picture(1, size=64, n=3))
    lab.segment_all()
    lab.correct("b.tif")
    lab.plan = {**lab.plan, "epochs": 2}

    report = lab.night()

    assert {score.correction_id for score in report.scores} == {2, 3}
    assert runs.new_rois(lab.db, lab.group) == 0


@pytest.mark.parametrize(("worked_on", "order"), [(True, [1, 2]), (False, [2, 1])])
def test_untouched_labels_do_not_count_over_work_on_a_part_of_them(lab_of_one, worked_on, order):
    lab = lab_of_one
    store = Path(next(lab.db.table("acquisitions").rows)["store"])
    untouched = read_labels(store, "cells")[0, 0, 0]
    fewer = np.where(untouched == untouched[8:48, 4:52].max(), 0, untouched)
    assert lab.correct("a.tif", labels=fewer, crop=(8, 4, 40, 48))["removed"] == 1
    notes = lab.correct("a.tif", labels=fewer if worked_on else untouched)["notes"]

    rows = reviews.lead_only(reviews.trainable(lab.db, lab.group), "")
    assert [row["id"] for row in rows] == order
    assert ("as worked on" in notes) is not worked_on


def test_of_two_annotators_the_lead_counts_also_where_only_parts_overlap(lab_of_one):
    lab = lab_of_one
    lab.correct("a.tif", prefix="anna")
    lab.correct("a.tif", crop=(8, 4, 40, 48), prefix="bob")
    rows = reviews.trainable(lab.db, lab.group)

    assert [row["annotator"] for row in reviews.lead_only(rows, "anna")] == ["bob", "anna"]
    assert [row["annotator"] for row in reviews.lead_only(rows, "")] == ["anna", "bob"]


def test_scoring_gives_way_between_images(tmp_path, tiny_model, now):
    lab = Lab(tmp_path / "lab", tiny_model.path, now)
    for name in ("a.tif", "b.tif"):
        lab.arrive(name, *disc_picture(len(name), size=64, n=3))
    lab.segment_all()
    for name in ("a.tif", "b.tif"):
        lab.correct(name)
    job = job_for(lab)
    pacer, seen = Pacer(lambda _: None), []
    judge = Judge(job, CPU, pacer.give_way)
    judge.add(job.base)

    def score():
        seen.extend(judge.look(job.base.sha256, item, "smoke") for item in job.items)

    pacer.obey("pause")
    thread = threading.Thread(target=score)
    thread.start()
    thread.join(1.0)
    assert (thread.is_alive(), len(seen)) == (True, 0)  # it waits after the first

    pacer.obey("resume")
    thread.join(60)

    assert [one.score.correction_id for one in seen] == [1, 2]
    lab.close()


def test_a_step_in_which_the_process_was_stopped_does_not_shorten_a_training(
    tiny_model, monkeypatch
):
    clock = [0.0]
    taken = iter([9.0, 1.0, 1.0, 1.0, 300.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])  # the first is slower

    def step(*_args):
        clock[0] += next(taken)

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(learning, "train_step", step)
    plan = FitPlan("online", 100, crop=64, batch_size=2, images_per_epoch=2)
    prepared = Prepared(disc_images(1), [], load_model(tiny_model), [], None, 1)

    assert steps_within(prepared, plan, 1200.0, CPU) == 1200 - 10 - 1
