"""What a training and its judge are fed, how they give way, and how their time is told."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from cellwatch.daemon.corrections.inbox import Inbox, answer_requests
from cellwatch.daemon.retraining import judge as judging
from cellwatch.daemon.retraining.data import images_of, weightier
from cellwatch.daemon.retraining.evaluation import evidence_for
from cellwatch.daemon.retraining.judge import Judge
from cellwatch.daemon.retraining.nights import Nights
from cellwatch.daemon.retraining.pacing import Pacer
from cellwatch.daemon.retraining.selection import KEY, groups_of, job_of, sides_for
from cellwatch.records import AskedRun, Crop, ModelCard, Side, TrainingItem, TrainJob
from cellwatch.storage.ledger import corrections, flags, requests, superseding, training_runs
from cellwatch.storage.ledger.database import open_ledger
from cellwatch.storage.ledger.precedence import above, ids_in_effect, in_effect
from cellwatch.storage.masks.store import read_labels
from cellwatch.storage.reports.station import LEDGER, reader
from cellwatch.training.plans import FitPlan
from cellwatch.workflows import train
from cellwatch.workflows.train import Prepared, within_budget
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

    whole = judging.segment
    monkeypatch.setattr(judging, "segment", spied)
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


CROP = (8, 4, 40, 48)


def edited(lab):
    """Return what a person who takes a cell within the crop away makes of the prediction."""
    store = Path(next(lab.db.table("acquisitions").rows)["store"])
    untouched = read_labels(store, "cells")[0, 0, 0]
    untouched[tuple(np.argwhere(untouched > 0)[0])] = 0  # to the pixel it would be refused
    return untouched, np.where(untouched == untouched[8:48, 4:52].max(), 0, untouched)


def counted(lab, lead=""):
    return [row.id for row in in_effect(corrections.trainable(lab.db, lab.group), lead)]


def use(lab, name):
    folder = lab.folder / "corrections"
    return json.loads((folder / f"{name}.accepted.json").read_text())["use"]


def test_where_a_later_crop_speaks_the_whole_image_counts_no_more(lab_of_one):
    lab = lab_of_one
    lab.correct("a.tif")
    lab.correct("a.tif", crop=CROP)

    job = TrainJob.from_json(json.loads(json.dumps(job_for(lab).to_json())))
    images = images_of(job.items, 1)
    whole, crop = (images[item.correction_id] for item in job.items)
    judge = Judge(job, CPU)
    judge.add(job.base)
    seen = judge.look(job.base.sha256, job.items[0], "smoke")

    assert crop.checked is None
    assert not whole.checked[8:48, 4:52].any()
    truth = lab.truth["a.tif"]
    left = [np.isin(truth, n) & whole.checked for n in range(1, 4)]
    assert [bool(part.any()) for part in left] == [
        2 * outside(truth == n).sum() >= (truth == n).sum() for n in range(1, 4)
    ]
    n_left = sum(bool(part.any()) for part in left)
    assert (whole.n_rois, judge.rois(job.items[0]), seen.found.hits.size) == (n_left,) * 3
    assert use(lab, "a_masks.tif").endswith(
        ", but for the pixels of correction 2 (a__y8x4h40w48_masks.tif)"
    )


def outside(mask):
    kept = mask.copy()
    kept[8:48, 4:52] = False
    return kept


@pytest.mark.timeout(120)
def test_a_crop_within_a_later_whole_image_waits_until_that_is_withdrawn(lab_of_one):
    lab = lab_of_one
    lab.correct("a.tif", crop=CROP)
    lab.correct("a.tif")
    lab.arrive("b.tif", *disc_picture(1, size=64, n=3))
    lab.segment_all()
    lab.correct("b.tif")
    lab.plan = {**lab.plan, "epochs": 2}
    answer = "not used: correction 2 (a_masks.tif) covers the same area"
    assert (counted(lab), use(lab, "a__y8x4h40w48_masks.tif")[: len(answer)]) == ([2, 3], answer)
    assert ids_in_effect(lab.db, "") == {2, 3}

    report = lab.night()

    assert {score.correction_id for score in report.scores} == {2, 3}
    assert training_runs.new_rois(lab.db, lab.group) == 0
    with reader(lab.config.state.folder / LEDGER) as db:
        assert [[over.id for over in above(db, key)] for key in (1, 2)] == [[2], []]
    room = Inbox(lab.db, lab.config, Nights(lab.db, lab.config, lab.models))
    requests.ask(lab.db, "withdraw", {"id": 2}, "anna", lab.now)
    answer_requests(room, lab.now)
    said = next(lab.db.table("requests").rows)["answer"]
    assert "correction 1 (a__y8x4h40w48_masks.tif) now applies to its pixels" in said
    assert counted(lab) == [1, 3]
    assert (
        training_runs.new_rois(lab.db, lab.group)
        == len(np.unique(lab.truth["a.tif"][8:48, 4:52])) - 1
    )


def test_what_was_used_has_more_to_teach_when_what_counted_over_it_is_withdrawn(lab_of_one, now):
    lab = lab_of_one
    lab.correct("a.tif")
    lab.correct("a.tif", crop=CROP)
    lab.db.execute("UPDATE corrections SET state = 'used'")
    assert training_runs.new_rois(lab.db, lab.group) == 0

    superseding.withdraw(lab.db, 2, now)

    assert training_runs.new_rois(lab.db, lab.group) == 3


@pytest.mark.parametrize("is_worked_on", [True, False])
def test_untouched_labels_do_not_count_over_work_on_a_part_of_them(lab_of_one, is_worked_on):
    lab = lab_of_one
    untouched, fewer = edited(lab)
    assert lab.correct("a.tif", labels=fewer, crop=CROP).removed == 1
    lab.correct("a.tif", labels=fewer if is_worked_on else untouched)

    assert counted(lab) == ([2] if is_worked_on else [2, 1])


def test_of_two_annotators_one_counts_the_lead_or_who_did_something(lab_of_one):
    lab = lab_of_one
    untouched, fewer = edited(lab)
    lab.correct("a.tif", labels=fewer, prefix="anna")
    lab.correct("a.tif", labels=untouched, prefix="bob")
    lab.correct("a.tif", labels=fewer, crop=CROP, prefix="eve")

    assert counted(lab) == [1, 3]
    assert counted(lab, "bob") == [2]
    assert counted(lab, "eve") == [1, 3]


def test_labels_that_are_read_anew_under_a_region_are_not_said_anew(lab_of_one):
    lab = lab_of_one
    lab.correct("a.tif")
    lab.correct("a.tif", crop=CROP)
    region = np.zeros((64, 64), np.uint8)
    region[:, :40] = 1
    tifffile.imwrite(lab.folder / "corrections" / "a_region.tif", region)
    lab.drop("a_region.tif")
    row = lab.drop("a_masks.tif")

    assert (row.id, counted(lab)) == (4, [4, 2])
    images = images_of(job_for(lab).items, 1)
    inside = np.zeros((64, 64), np.bool_)
    inside[:, :40] = True
    inside[8:48, 4:52] = False
    assert not (images[4].checked & ~inside).any()


def dropped_region(lab, name):
    region = np.zeros((64, 64), np.uint8)
    region[:, :40] = 1
    (lab.folder / "corrections" / name).parent.mkdir(exist_ok=True)
    tifffile.imwrite(lab.folder / "corrections" / name, region)
    return lab.drop(name)


def test_the_answer_to_a_region_says_whose_masks_it_is_for(lab_of_one):
    lab = lab_of_one
    dropped_region(lab, "a_region.tif")
    assert use(lab, "a_region.tif").startswith("none yet: it waits for masks")

    lab.correct("a.tif", prefix="anna")
    assert "none: it is not for correction 2 (anna/a_masks.tif)" in use(lab, "a_region.tif")
    dropped_region(lab, "anna/a_region.tif")
    waits = "only this region, once correction 2 (anna/a_masks.tif) is read again"
    assert use(lab, "anna/a_region.tif").startswith(waits)
    lab.drop("anna/a_masks.tif")
    ours = "only this region of correction 4 (anna/a_masks.tif)"
    assert use(lab, "anna/a_region.tif").startswith(ours)

    lab.correct("a.tif", prefix="ben")
    told = use(lab, "anna/a_region.tif")
    assert told.startswith("not used: correction 5 (ben/a_masks.tif) takes precedence"), told
    assert told.endswith("(unless retrain.lead names this one's annotator)")
    assert counted(lab) == [5]
    assert counted(lab, "anna") == [4]


def test_a_region_that_was_rejected_keeps_that_answer_whatever_comes_beside_it(lab_of_one):
    lab = lab_of_one
    dropped_region(lab, "a_region.tif")
    tifffile.imwrite(lab.folder / "corrections" / "a_region.tif", np.zeros((64, 64), np.uint8))
    assert lab.drop("a_region.tif").state == "rejected"

    lab.correct("a.tif", prefix="anna")

    assert (lab.folder / "corrections" / "a_region.tif.rejected.txt").exists()
    assert not (lab.folder / "corrections" / "a_region.tif.accepted.json").exists()


def test_labels_that_are_read_anew_under_a_region_take_no_flag_off(lab_of_one):
    lab = lab_of_one
    lab.correct("a.tif")
    flags.raise_flag(lab.db, flags.Flag("a.tif", "still wrong", raised_by="anna"), lab.now)
    dropped_region(lab, "a_region.tif")
    row = lab.drop("a_masks.tif")

    def standing_flags():
        return [row["why"] for row in lab.db.table("flags").rows_where("lowered_at IS NULL")]

    assert "only the checked region is used" in " ".join(row.notes)
    assert standing_flags() == ["still wrong"]
    lab.correct("a.tif", labels=np.where(lab.truth["a.tif"] == 1, 0, lab.truth["a.tif"]))
    assert standing_flags() == []


def test_a_part_is_not_covered_by_what_was_checked_in_a_region_only(lab_of_one):
    lab = lab_of_one
    region = np.zeros((64, 64), np.uint8)
    region[:, :40] = 1
    lab.correct("a.tif", crop=CROP)
    tifffile.imwrite(lab.folder / "corrections" / "a_region.tif", region)
    lab.drop("a_region.tif")
    lab.correct("a.tif")

    job = job_for(lab)
    crop = images_of(job.items, 1)[1]

    assert [item.correction_id for item in job.items] == [1, 3]
    assert not crop.checked[:, :36].any()
    assert crop.checked[:, 36:].any()


def test_a_twin_that_was_asked_about_all_of_an_image_is_no_measure_of_a_part(lab_of_one):
    lab = lab_of_one
    lab.correct("a.tif")
    compared = []
    for _ in range(2):
        job = job_for(lab)
        items = tuple(replace(item, side=Side.HELD_OUT) for item in job.items)
        seen = {job.incumbent.sha256: (items[0].content_key,)}
        job = replace(job, items=items, seen=seen, earlier={"1": ("111", 0)})
        found = evidence_for(job, Path(job.base.folder), {}, Judge(job, CPU))
        compared.append(found.decision.numbers.get("images", 0))
        y, x = np.argwhere(lab.truth["a.tif"] == 1).mean(axis=0).astype(int).tolist()
        part = lab.truth["a.tif"].copy()
        part[y, x] = 0
        lab.correct(
            "a.tif", labels=part, crop=(y, x, 2, 2)
        )  # too small for a cell to be lost: ROIs as before

    assert compared == [1, 0]
    assert [item.correction_id for item in job.items] == [1, 2]


def test_what_other_planes_and_targets_say_is_their_own():
    def item(key, crop=None):
        return TrainingItem(1, "k", "a", "scope", "", Side.TRAIN, plane_key=key, crop=crop)

    left, right = Crop(0, 0, 8, 8), Crop(0, 8, 8, 8)
    items = [item("1/cells/0/0/0", left), item("1/cells/0/1/0", left), item("1/nuclei/0/0/0"),
             item("1/cells/0/0/0", right), item(""), item("")]  # fmt: skip

    assert [weightier(one, items) for one in items] == [[]] * 6
    assert weightier(items[0], [*items, item("1/cells/0/0/0")]) == [item("1/cells/0/0/0")]


def test_sides_follow_the_dates_of_corrections_not_their_weight(tmp_path, now):
    rows = [SimpleNamespace(id=n, content_key=f"content-{n}") for n in range(1, 31)]
    decided = []
    for number, order in enumerate((rows, rows[::-1])):
        db = open_ledger(tmp_path / str(number))
        db.table("station").insert({"key": KEY, "value": "5c" * 32})
        decided.append(sides_for(db, "scope", order, now))
        db.close()

    assert decided[0] == decided[1]
    assert Side.HELD_OUT in decided[0].values()


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
    monkeypatch.setattr(train, "train_step", step)
    plan = FitPlan("online", 100, crop=64, batch_size=2, images_per_epoch=2)
    prepared = Prepared(disc_images(1), [], load_model(tiny_model), [], None, 1)

    found = within_budget(prepared, plan, 1200.0, CPU, is_fixed=True)

    # 11 timed, 20 batches that no step follows, and one image's style of 128 x 128 px or less
    assert 1200 - 11 - 7 - 2 <= found.steps <= 1200 - 11 - 7
