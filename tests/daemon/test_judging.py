"""What a training and its judge are fed, how they give way, and how their time is told."""

import threading
import time

import numpy as np
import pytest

from cellwatch.daemon import evidence, learning
from cellwatch.daemon.evidence import Judge
from cellwatch.daemon.learning import Prepared, steps_within
from cellwatch.daemon.lessons import images_of
from cellwatch.daemon.lineup import groups_of, job_of
from cellwatch.daemon.pacing import Pacer
from cellwatch.records import AskedRun, ModelCard
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
