"""The trainer: resumes after any death, judges without a leak, gives way."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from cellwatch.daemon.corrections.answers import record
from cellwatch.daemon.retraining import evaluation
from cellwatch.daemon.retraining import trainer as training
from cellwatch.daemon.retraining.data import replayed
from cellwatch.daemon.retraining.judge import Judge
from cellwatch.daemon.retraining.pacing import Pacer
from cellwatch.daemon.retraining.planning import planned
from cellwatch.daemon.retraining.selection import groups_of, job_of
from cellwatch.daemon.retraining.trainer import folds_of, retrain
from cellwatch.errors import TrainingError
from cellwatch.records import AskedRun, Crop, Side, TrainReport, Verdict
from cellwatch.storage.corrections.kept import read_kept
from cellwatch.storage.ledger import corrections, promotions, training_runs
from cellwatch.storage.ledger.promotions import Decision, ModelName
from cellwatch.training.fit import fit
from cellwatch.training.plans import ENOUGH_EPOCHS, FitPlan
from cellwatch.watching.names import FileFilter
from cellwatch.watching.scanner import look
from cellwatch.workflows import train
from cellwatch.zoo.cards import read_card
from tests.discs import disc_images, disc_picture
from tests.lab import Lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LONG = [pytest.mark.drill, pytest.mark.timeout(1200)]

PLAN = {"epochs": 6, "crop": 64, "batch_size": 4, "images_per_epoch": 4, "norm_batches": 2}


@pytest.fixture
def lab(tmp_path, tiny_model, now):
    lab = Lab(tmp_path / "lab", tiny_model.path, now, plan=PLAN)
    yield lab
    lab.close()


def teach(lab, n, first=0):
    for number in range(first, first + n):
        relative = f"exp/{number}.tif"
        if relative not in lab.truth:
            lab.arrive(relative, *disc_picture(number, size=64, n=3))
    lab.segment_all()
    for number in range(first, first + n):
        labels = lab.truth[f"exp/{number}.tif"].copy()
        labels[labels == 1] = 0
        assert lab.correct(f"exp/{number}.tif", labels=labels).state == "trainable"


def job_for_tonight(lab, folder="run"):
    asked = AskedRun(lab.group, "night", lab.now.date().isoformat())
    group = groups_of(lab.config)[lab.group]
    job = job_of(lab.db, 1, asked, group, lab.config, lab.models, lab.now)
    job = replace(job, plan={**job.plan, **PLAN}, folder=str(lab.folder / folder))
    Path(job.folder).mkdir()
    (Path(job.folder) / "job.json").write_text(json.dumps(job.to_json()))
    return job


def start(job):
    return subprocess.Popen(
        [sys.executable, "-m", "cellwatch.daemon.retraining.trainer", job.folder, str(os.getpid())],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def finish(process):
    code = process.wait()
    process.stdin.close()
    return code


def steps_done(job):
    # As its log and its finished networks tell; the moment itself is a matter of chance.
    folder = Path(job.folder)
    parts = [folder / "fit", *sorted(folder.glob("fold*"))]
    ended = sum((part / "network.safetensors").exists() for part in parts)
    logs = [part / "log.jsonl" for part in parts if not (part / "network.safetensors").exists()]
    under_way = sum(len(log.read_text().splitlines()) for log in logs if log.exists())
    return ended * PLAN["epochs"] + under_way


def report_of(job):
    return TrainReport.from_json(json.loads((Path(job.folder) / "report.json").read_text()))


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=LONG)])
def test_a_trainer_killed_at_random_moments_ends_with_the_same_bits(lab, kills, monkeypatch):
    monkeypatch.setitem(PLAN, "epochs", 3 * kills)
    teach(lab, 3)
    quiet, harried = job_for_tonight(lab, "quiet"), job_for_tonight(lab, "harried")
    assert finish(start(quiet)) == 0
    steps = 4 * PLAN["epochs"]  # the candidate and three that judge it
    moments = sorted(random.Random(0).sample(range(steps), kills))

    for moment in moments:
        process = start(harried)
        while process.poll() is None and steps_done(harried) < moment:
            time.sleep(0.02)
        process.kill()
        assert finish(process) == -signal.SIGKILL
        assert not (Path(harried.folder) / "report.json").exists()
    assert finish(start(harried)) == 0

    ours, theirs = report_of(harried), report_of(quiet)
    assert ours.model_sha256 == theirs.model_sha256
    assert ours.trained_on == theirs.trained_on
    assert ours.scores == theirs.scores
    assert (ours.verdict, ours.reason) == (theirs.verdict, theirs.reason)


def test_a_trainer_waits_when_it_is_told_to_and_leaves_when_its_parent_is_gone(lab):
    from cellwatch.compute.pipe import send

    teach(lab, 2)
    job = job_for_tonight(lab)
    process = start(job)
    progress = Path(job.folder) / "progress.json"
    while not progress.exists():
        time.sleep(0.1)
    send(process.stdin, {"do": "pause"})
    time.sleep(2.5)
    stood = progress.read_text()
    time.sleep(2.5)
    assert progress.read_text() == stood
    assert process.poll() is None

    process.stdin.close()

    assert process.wait(60) == 75


def test_promise_6_no_network_is_scored_on_what_it_was_trained_on(lab):
    teach(lab, 5)
    job = job_for_tonight(lab)
    assert finish(start(job)) == 0
    report = report_of(job)
    keys = {item.correction_id: item.content_key for item in job.items}

    assert len(report.trained_on) == 1 + 4
    for score in report.scores:
        seen = {keys[n] for n in report.trained_on.get(score.model_sha256, ())}
        assert score.content_key not in seen
    scored = {(s.model_id, s.correction_id) for s in report.scores}
    assert len(scored) == 2 * 5


def test_a_budget_that_is_too_short_to_learn_is_refused_with_what_it_takes(lab):
    teach(lab, 2)
    job = replace(job_for_tonight(lab), budget_s=0.001)
    told = (
        r"1 s allows 0 of 6 steps of 3 trainings here.*; 5 of them take about \d+ .*, all of them"
    )
    with pytest.raises(TrainingError, match=told):
        retrain(job, torch.device("cpu"), Pacer(lambda _: None))


def test_a_budget_pays_for_all_trainings_and_for_what_follows_their_last_step(lab, monkeypatch):
    teach(lab, 2)
    job = job_for_tonight(lab)
    # 4 steps were timed, each takes 6 s; what follows takes 2/3 of a step in each of 3 trainings.
    monkeypatch.setattr(train, "seconds_a_step", lambda *_: (6.0, 4))
    # Then two networks look at two images; there a step is 4 crops, three times as long as a look.
    (image,) = images = disc_images(1)
    diam_mean = read_card(Path(job.base.folder)).diam_mean
    scaled = image.labels.size * (diam_mean / image.diameter) ** 2
    scoring = 2 * 2 * scaled / (4 * 64**2) / 3
    for_five = 6 * (4 + 3 * (5 + 2 / 3) + scoring)

    def plan_within(seconds):
        given = replace(job, budget_s=seconds)
        return planned(given, images, 2, torch.device("cpu"), Pacer(lambda _: None))

    with pytest.raises(TrainingError, match="allows 4 of 6 steps"):
        plan_within(for_five - 1)
    assert plan_within(for_five + 1).epochs == 5


@pytest.mark.parametrize("n_images", [100, 1900, 4000])
def test_decision_40_a_budget_shortens_long_epochs_rather_than_refuse_a_large_group(
    lab, monkeypatch, n_images
):
    teach(lab, 2)
    job = job_for_tonight(lab, f"run{n_images}")
    plan = asdict(FitPlan("online", 100, images_per_epoch=n_images))
    job = replace(job, plan=plan, budget_s=4 * 3600.0)
    monkeypatch.setattr(train, "seconds_a_step", lambda *_: (12.0, 11))

    made = planned(job, disc_images(1), 0, torch.device("cpu"), Pacer(lambda _: None))

    assert made.epochs >= ENOUGH_EPOCHS
    assert 1000 < made.steps < 1200  # of 12 s


def test_one_damaged_correction_keeps_no_night_from_the_others(lab):
    teach(lab, 3)
    (Path(corrections.trainable(lab.db, lab.group)[0].folder) / "arrays.npz").write_bytes(b"")

    report = lab.night()

    assert "correction 1 is left out, what was kept of it is damaged" in report.reason
    damaged = lab.db.table("corrections").get(1)
    assert (damaged["state"], damaged["remedy"]) == ("rejected", "save its file again")
    assert "what was kept of it is damaged" in damaged["reason"]
    assert training_runs.new_rois(lab.db, lab.group) == 0  # the next night is not held for it
    assert set(report.trained_on[report.model_sha256]) == {2, 3}
    assert {score.correction_id for score in report.scores} == {2, 3}


@pytest.mark.parametrize("what", ["an export of the correction", "the image itself"])
def test_promise_6_what_is_replayed_shows_no_network_what_it_judges(
    lab, tmp_path, what, monkeypatch
):
    teach(lab, 3)
    rows = {row.id: row for row in corrections.trainable(lab.db, lab.group)}
    kept = {key: read_kept(Path(row.folder)) for key, row in rows.items()}
    for key in (1, 2):
        plane = kept[key].plane[0]
        picture = plane if what.startswith("an export") else plane.astype(np.uint16)
        tifffile.imwrite(tmp_path / f"{key}_img.tif", picture)
        tifffile.imwrite(tmp_path / f"{key}_masks.tif", kept[key].labels.astype(np.uint16))
    tifffile.imwrite(tmp_path / "9_img.tif", disc_picture(9, size=64, n=3)[0])
    tifffile.imwrite(tmp_path / "9_masks.tif", disc_picture(9, size=64, n=3)[1].astype(np.uint16))
    job = replace(job_for_tonight(lab), base_data=(str(tmp_path),))
    sides = {1: Side.HELD_OUT, 2: Side.TRAIN, 3: Side.TRAIN}
    job = replace(job, items=tuple(replace(i, side=sides[i.correction_id]) for i in job.items))

    offered = []

    def spied(network, images, *args, **more):
        offered.append(len(images))
        return fit(network, images, *args, **more)

    monkeypatch.setattr(training, "fit", spied)
    known = [image.content for image in replayed(job)]
    report = retrain(job, torch.device("cpu"), Pacer(lambda _: None))

    assert known == [rows[1].content_key, rows[2].content_key, ""]
    assert "1 of the replayed images are held out, and not replayed" in report.reason
    # The candidate: two corrections, and the replay without the one held out; each twin one less
    # correction, and one of them without its copy.
    assert (offered[0], sorted(offered[1:])) == (4, [2, 3])


def test_promise_7_the_next_corrections_confirm_a_model_and_not_those_that_let_it_in(lab):
    teach(lab, 2)
    job = job_for_tonight(lab)
    items = tuple(replace(item, side=Side.HELD_OUT) for item in job.items)
    before = replace(job.base, sha256="f" * 64)
    given = replace(job, items=items, predecessor=before)
    judge = Judge(given, torch.device("cpu"))
    judge.add(job.base)
    judge._networks[before.sha256] = judge._networks[job.base.sha256]
    let_in = tuple(item.content_key for item in items)

    assert evaluation._judged_again(replace(given, let_in_by=let_in), before, judge) is None
    found = evaluation._judged_again(replace(given, let_in_by=let_in[:1]), before, judge)
    assert found is not None
    assert found.numbers["images"] == 1


def test_the_contents_that_let_a_provisional_model_in_are_told_from_the_ledger(lab):
    teach(lab, 3)
    report = lab.night()
    name = ModelName(report.model_id, report.model_sha256)
    made = Decision(lab.group, Verdict.PROVISIONAL, name, None, "", {}, 1, "the gate")
    promotions.decide(lab.db, made, lab.now)

    scored = {score.content_key for score in report.scores}
    assert len(scored) == 3
    assert set(job_for_tonight(lab).let_in_by) == scored


def test_what_is_new_is_looked_at_by_the_network_that_was_trained_on_it(lab):
    teach(lab, 4)
    job = job_for_tonight(lab)
    sides = (Side.HELD_OUT, Side.TRAIN, Side.TRAIN, Side.TRAIN)
    items = tuple(replace(i, side=side) for i, side in zip(job.items, sides, strict=True))
    made = replace(job.base, sha256="f" * 64)
    judge = Judge(replace(job, items=items), torch.device("cpu"))
    judge.rois = lambda item: 2 if item is items[3] else 9
    judge.add(job.base)
    judge._networks[made.sha256] = judge._networks[job.base.sha256]

    def told_when(*seen):
        known = {job.base.sha256: tuple(item.content_key for item in seen)}
        given = replace(job, items=items, seen=known)
        return {(f.name, f.is_earlier) for f in evaluation._fits(given, made, job.base, judge)}

    assert told_when() == set()  # nothing that it could be compared with
    assert told_when(items[1]) == {(items[1].name, True), (items[2].name, False)}
    assert told_when(items[0], items[3]) == set()


def test_of_many_earlier_images_some_are_looked_at_and_of_new_ones_the_newest(lab, monkeypatch):
    teach(lab, 6)
    job = job_for_tonight(lab)
    made = replace(job.base, sha256="f" * 64)
    monkeypatch.setattr(evaluation, "FITS", 2)
    monkeypatch.setattr(evaluation, "FITTED_ROIS", 1)
    judge = Judge(job, torch.device("cpu"))
    judge.add(job.base)
    judge._networks[made.sha256] = judge._networks[job.base.sha256]
    seen = tuple(item.content_key for item in job.items[:3])

    given = replace(job, seen={job.base.sha256: seen})
    told = [(fit.name, fit.is_earlier) for fit in evaluation._fits(given, made, job.base, judge)]
    names = [item.name for item in job.items]
    assert told == [(names[4], False), (names[5], False), (names[0], True), (names[2], True)]


def test_a_network_that_finds_none_of_few_rois_fails_the_smoke_test(lab, monkeypatch):
    teach(lab, 3)
    job = job_for_tonight(lab)
    judge = Judge(job, torch.device("cpu"))
    judge.add(job.base)
    assert evaluation._smoke(job, job.base, job.base, judge).problems == ()
    nothing = replace(judge.look(job.base.sha256, job.items[0], "smoke"), n_rois=0)
    monkeypatch.setattr(judge, "look", lambda *_: nothing)

    (problem,) = evaluation._smoke(job, job.base, job.base, judge).problems
    assert problem == "it finds nothing in any of the 3 corrected images it was trained on"
    monkeypatch.setattr(judge, "rois", lambda _: 1)  # three of them may be missed by chance
    assert evaluation._smoke(job, job.base, job.base, judge).problems == ()


def test_a_group_whose_rois_lie_in_one_image_trains_all_the_same(lab):
    teach(lab, 1)
    lab.arrive("exp/blank.tif", *disc_picture(9, size=64, n=0))
    lab.segment_all()
    name = lab.folder / "corrections/blank_empty.tif"
    tifffile.imwrite(name, np.zeros((64, 64), np.uint16))
    seen = look(name.parent, name.name, FileFilter(("**",), (), (".tif",)))
    row = record(lab.db, name.parent, lab.desk.look(seen), lab.now)
    assert row.state == "trainable", row.reason

    report = lab.night()

    assert len(report.trained_on) == 2  # the candidate, and the network that left the blank out
    assert {score.correction_id for score in report.scores} == {2}  # by that network


def test_one_corrected_image_is_not_enough_to_judge_by(lab):
    teach(lab, 1)
    report = lab.night()

    assert report.verdict == Verdict.INCONCLUSIVE
    assert promotions.in_use(lab.db, lab.group) is None
    assert "neither model was trained on" in report.reason


def test_earlier_corrections_are_left_out_in_turn_beside_new_ones(lab):
    teach(lab, 3)
    job = job_for_tonight(lab)
    seen = {job.incumbent.sha256: tuple(item.content_key for item in job.items[:2])}

    folds = folds_of(replace(job, seen=seen))

    assert sorted(key for fold in folds for key in fold) == sorted(
        item.content_key for item in job.items
    )
    everything = {job.incumbent.sha256: tuple(item.content_key for item in job.items)}
    assert folds_of(replace(job, seen=everything)) == []


def test_a_crop_is_scaled_by_its_whole_plane_and_a_region_is_kept(lab):
    teach(lab, 1)
    crop = (8, 4, 40, 48)
    row = lab.correct("exp/0.tif", crop=crop)
    whole, part = (read_kept(Path(r.folder)) for r in corrections.trainable(lab.db, lab.group))

    assert part.plane.shape == (1, 40, 48)
    assert (part.limits == whole.limits).all()
    assert (part.plane == whole.plane[:, 8:48, 4:52]).all()
    assert row.crop == Crop(8, 4, 40, 48)


@pytest.mark.parametrize("nights", [6, pytest.param(30, marks=LONG)])
def test_a_held_out_acquisition_stays_so_under_any_name_plane_or_crop(lab, nights):
    """Nights of renamed, re-dropped and cropped copies leave no leak in the ledger."""
    rng = np.random.default_rng(0)
    lab.plan = {**PLAN, "epochs": 1}
    held, trained = set(), 0
    n_images = nights * 2 // 5
    for day in range(nights):
        number = day % n_images
        name = f"exp/{number}.tif" if day < n_images else f"copy{day}/renamed{day}.tif"
        lab.arrive(name, *disc_picture(number, size=64, n=3))
        lab.segment_all()
        crop = (0, 0, 48, 56) if rng.random() < 0.4 else None
        assert lab.correct(name, crop=crop).state == "trainable"
        if rng.random() < 0.3:
            lab.correct(name, "cellpose", crop=crop)
        trained += lab.night() is not None
        sides = corrections.sides(lab.db, lab.group)
        now_held = {key for key, side in sides.items() if side == Side.HELD_OUT}
        assert held <= now_held
        held = now_held
        lab.next_day()

    assert trained >= nights // 2
    assert len(corrections.sides(lab.db, lab.group)) == n_images
    assert lab.db.execute("SELECT count(*) FROM scores").fetchone()[0] > nights
    assert training_runs.leaks(lab.db) == []


def test_pauses_do_not_count_as_running_time():
    said = []
    pacer = Pacer(said.append)
    pacer.expect(20)
    for _ in range(5):
        time.sleep(0.01)
        pacer.step()
    time.sleep(0.6)  # stopped by the supervisor
    pacer.step()

    assert pacer.seconds < 0.3
