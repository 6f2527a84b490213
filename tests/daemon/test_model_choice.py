"""One model for an experiment, from its first image to its last; the next one gets the new."""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from cellwatch.config.parse import parse_config
from cellwatch.daemon.jobs import models_of
from cellwatch.daemon.model_choice import models_for, redo_if_repinned
from cellwatch.daemon.requests.dispatch import carry_out
from cellwatch.daemon.retraining import session
from cellwatch.daemon.retraining.nights import Nights
from cellwatch.daemon.retraining.selection import groups_of, job_of, overruled, unserved
from cellwatch.errors import RequestRefused, UnknownModel
from cellwatch.records import AskedRun, ModelCard, Outcome, TargetResult, Verdict
from cellwatch.storage.corrections.export import write_tiff
from cellwatch.storage.ledger import promotions, queue, training_runs
from cellwatch.storage.ledger.promotions import Decision, ModelName
from cellwatch.storage.ledger.requests import Request
from cellwatch.zoo.cards import find_model
from cellwatch.zoo.catalog import add_model
from tests.conftest import tiny_network
from tests.daemon.stylezoo import write_style_zoo
from tests.discs import disc_picture
from tests.lab import Lab
from tests.storage.ledger.test_queue import LEASE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def make_lab(tmp_path, tiny_model, now):
    labs = []

    def make(**options):
        lab = Lab(tmp_path / f"lab{len(labs)}", tiny_model.path, now, **options)
        labs.append(lab)
        return lab

    yield make
    for lab in labs:
        lab.close()


def ask(lab, kind, **arguments):
    nights = Nights(lab.db, lab.config, models_of(lab.config))
    return carry_out(lab.db, lab.config, nights, Request(1, kind, arguments, "anna"), lab.now)


def add(lab, name="images-20261124-1", seed=7):
    add_model(lab.config.zoo / name, tiny_network(seed), ModelCard(name, "", 0.0, 0.0))
    return name


def write(lab, *names):
    for name in names:
        lab.arrive(name, *disc_picture(len(lab.truth), size=64, n=3))


def test_promise_10_a_promotion_in_the_midst_of_an_experiment_changes_nothing_in_it(make_lab):
    lab = make_lab()
    write(lab, "exp1/a.tif")
    lab.segment_all()

    ask(lab, "promote", model=add(lab))
    write(lab, "exp1/b.tif", "exp2/a.tif")
    lab.segment_all()

    assert lab.experiments() == {"exp1": "tiny", "exp2": "images-20261124-1"}


def test_a_plate_folder_is_one_experiment_down_to_its_last_well(make_lab):
    lab = make_lab()
    write(lab, "plate1/A01/f1.tif")
    lab.segment_all()
    ask(lab, "promote", model=add(lab))
    write(lab, "plate1/A01/f2.tif", "plate1/B07/deep/f1.tif", "plate2/A01/f1.tif")
    lab.segment_all()

    assert lab.experiments() == {"plate1": "tiny", "plate2": "images-20261124-1"}


@pytest.mark.parametrize("pin", ["experiment", "acquisition"])
def test_a_time_lapse_that_grows_keeps_the_model_of_its_first_frame(make_lab, pin):
    lab = make_lab(pin=pin)
    frames = np.stack([disc_picture(n, size=64, n=3)[0] for n in range(4)])
    lab.arrive("movie/t.tif", frames[:2], None)
    lab.segment_all()
    ask(lab, "promote", model=add(lab))
    lab.arrive("movie/t.tif", frames, None)
    write(lab, "other/t.tif")
    lab.segment_all()

    assert lab.experiments() == {"movie": "tiny", "other": "images-20261124-1"}
    assert lab.db.execute("SELECT max(planes) FROM acquisitions").fetchone() == (4,)


def test_without_pins_each_image_gets_the_latest_model(make_lab):
    lab = make_lab(pin="none")
    write(lab, "exp1/a.tif")
    lab.segment_all()
    ask(lab, "promote", model=add(lab))
    write(lab, "exp1/b.tif")
    lab.segment_all()

    assert set(lab.experiments()["exp1"].split(",")) == {"tiny", "images-20261124-1"}


def test_a_pattern_names_the_experiment(make_lab):
    lab = make_lab(extra=', experiment: "^(.*?)_well"')
    write(lab, "p1_well1.tif", "p1_well2.tif", "p2_well1.tif")
    lab.segment_all()

    assert set(lab.experiments()) == {"p1", "p2"}


def test_a_model_that_is_not_in_the_zoo_is_put_to_no_use(make_lab, tmp_path):
    lab = make_lab()
    write(lab, "exp1/a.tif")
    lab.segment_all()
    add_model(tmp_path / "mine", tiny_network(3), ModelCard("mine", "", 0.0, 0.0))
    place = str(tmp_path / "mine")

    with pytest.raises(RequestRefused, match="is not in the station's zoo; copy its folder"):
        ask(lab, "promote", model=place, group="images")
    with pytest.raises(RequestRefused, match="is not in the station's zoo"):
        ask(lab, "rerun", experiment="exp1", model=place)
    assert lab.decisions() == []


@pytest.mark.parametrize("pin", ["experiment", "acquisition", "none"])
def test_a_rerun_takes_the_model_it_says_however_models_are_kept(make_lab, pin):
    lab = make_lab(pin=pin)
    write(lab, "exp1/a.tif", "exp1/b.tif")
    lab.segment_all()
    model = add(lab)

    ask(lab, "rerun", experiment="exp1", model=model)
    lab.segment_all()

    assert lab.experiments() == {"exp1": model}


def test_promise_10_an_image_in_work_at_a_rerun_is_done_again_too(make_lab, now):
    lab = make_lab()
    write(lab, "exp1/a.tif")
    lease = timedelta(minutes=5)
    claim = queue.claim(lab.db, device="cpu", worker_pid=1, now=lab.now, lease=lease)
    lab.now += timedelta(seconds=1)
    model = add(lab)
    assert ask(lab, "rerun", experiment="exp1", model=model).facts["images"] == 0
    result = TargetResult("cells", 3, 9.0, model_id="tiny", model_sha256="of the old one")
    outcome = Outcome(claim.acquisition_id, planes=1, content_sha256="c", targets=(result,))
    queue.finish(lab.db, outcome, {"cells": {"params": "{}"}}, lab.now)

    assert redo_if_repinned(lab.db, claim, outcome, lab.config, lab.now)
    lab.segment_all()
    assert lab.experiments() == {"exp1": model}


def test_a_rollback_leads_to_what_the_configuration_names_also_under_auto(
    tmp_path, tiny_model, now
):
    place = write_style_zoo(tmp_path / "zoo", tiny_model) / "auto"
    lab = Lab(tmp_path / "lab", place, now)
    name = add(lab)
    write(lab, "exp1/a.tif")
    lab.segment_all()
    with pytest.raises(RequestRefused, match="as the configuration says"):
        ask(lab, "rollback", group="images")
    ask(lab, "promote", model=name, group="images")
    with pytest.raises(RequestRefused, match="go back first: cellwatch models rollback images"):
        ask(lab, "rerun", experiment="exp1", model="auto")

    said = ask(lab, "rollback", group="images")

    assert "again, as the configuration says" in said.text
    assert promotions.in_use(lab.db, "images") is None
    ask(lab, "promote", model=name, group="images")
    assert "again, as the configuration says" in ask(lab, "promote", model="auto").text
    ask(lab, "rerun", experiment="exp1", model=name)
    lab.segment_all()
    assert lab.experiments() == {"exp1": name}
    assert ask(lab, "rerun", experiment="exp1", model="auto").facts["images"] == 1
    lab.segment_all()
    assert lab.experiments() == {"exp1": "discs"}
    lab.close()


def test_a_model_that_the_configuration_no_longer_names_is_told_of(make_lab):
    lab = make_lab()
    promotions.freeze_base(lab.db, "images", ModelName("nuclei", "0" * 64), lab.now)
    assert overruled(lab.db, lab.config) == []
    ask(lab, "promote", model=add(lab))

    (told,) = overruled(lab.db, lab.config)

    assert "uses 'images-20261124-1', which learned from 'nuclei'" in told
    assert "cellwatch models rollback images" in told


def test_a_rollback_is_a_decision_of_its_own(make_lab):
    lab = make_lab()
    with pytest.raises(RequestRefused, match="nothing was promoted"):
        ask(lab, "rollback", group="images")
    ask(lab, "promote", model=add(lab))

    said = ask(lab, "rollback", group="images", why="it merges cells")

    assert said.text == "'images' uses 'tiny' again, not 'images-20261124-1'"
    write(lab, "exp3/a.tif")
    lab.segment_all()
    assert lab.experiments() == {"exp3": "tiny"}
    verdicts = [(verdict, reason) for verdict, reason, _ in lab.decisions()]
    assert verdicts[-1] == ("rolled_back", "it merges cells")


def test_a_rerun_gives_an_experiment_one_model_and_keeps_the_old_masks_until_then(make_lab):
    lab = make_lab()
    write(lab, "exp1/a.tif", "exp1/b.tif")
    lab.segment_all()
    name = add(lab)

    said = ask(lab, "rerun", experiment="exp1", model=name)
    stores = [lab.folder / "masks/images/exp1" / f"{n}.tif.zarr" for n in "ab"]
    assert all(store.exists() for store in stores)
    lab.segment_all()

    assert said.facts["images"] == 2
    assert lab.experiments() == {"exp1": name}
    kept = sorted(path.name.rpartition(".")[0] for path in (lab.folder / "old").iterdir())
    assert kept == ["a.tif.zarr", "a_preview.webp", "b.tif.zarr", "b_preview.webp"]


def test_a_model_that_is_gone_blocks_its_experiment_and_no_other_takes_its_place(make_lab):
    lab = make_lab()
    name = add(lab)
    ask(lab, "promote", model=name)
    write(lab, "exp1/a.tif")
    lab.segment_all()
    shutil.rmtree(lab.config.zoo / name)
    write(lab, "exp1/b.tif")
    claim = queue.claim(lab.db, device="cpu", worker_pid=1, now=lab.now, lease=LEASE)

    with pytest.raises(UnknownModel, match=r"not there any more .* cellwatch rerun"):
        models_for(lab.db, claim, lab.config.watch[0], lab.config, lab.models)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("promote", {"model": "ghost"}, "there is no model 'ghost'"),
        ("promote", {"model": "tiny-1", "group": "nobody"}, "there is no"),
        ("rerun", {"experiment": "ghost"}, "there is no experiment 'ghost'"),
        ("retrain", {"group": "ghost"}, "there is no group 'ghost'"),
        ("retrain", {"group": "images"}, "has no correction to train on"),
        ("retrain", {}, "no group has new corrections"),
        ("withdraw", {"id": 4}, "there is no correction 4"),
        ("dance", {}, "does not know 'dance'"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(make_lab, kind, arguments, message):
    lab = make_lab()

    with pytest.raises((RequestRefused, UnknownModel), match=message):
        ask(lab, kind, **arguments)


def test_who_promotes_what_the_gate_declined_is_told_why_it_did(make_lab):
    lab = make_lab()
    name = add(lab)
    card = find_model(name, lab.config.zoo).card
    declined = Decision(
        lab.group, Verdict.DECLINED, ModelName(name, card.sha256), None, "it finds nothing",
        {}, None, "the gate",
    )  # fmt: skip
    promotions.decide(lab.db, declined, lab.now)

    told = ask(lab, "promote", model=name).text

    assert told.endswith("; the gate had declined: it finds nothing")


def test_a_file_that_no_daemon_took_in_is_told_of_where_nothing_is_new(make_lab):
    lab = make_lab()
    (lab.folder / "corrections/a_masks.tif").write_bytes(b"II*")

    with pytest.raises(RequestRefused, match="dropped files wait until the daemon runs"):
        ask(lab, "retrain")


def test_a_classifier_outside_the_zoo_goes_on_with_what_it_chose(tiny_model, tmp_path, now):
    zoo = write_style_zoo(tmp_path / "far/zoo", tiny_model)
    lab = Lab(tmp_path / "lab", zoo / "auto", now)
    for number in range(2):
        lab.arrive(f"exp1/{number}.tif", *disc_picture(60 + number, size=64, n=3))
        lab.segment_all()
    lab.correct("exp1/0.tif")

    group = groups_of(lab.config)[lab.group]
    asked = AskedRun(lab.group, "asked", "2026-11-24")
    job = job_of(lab.db, 1, asked, group, lab.config, lab.models, lab.now)

    assert lab.experiments() == {"exp1": "discs"}
    assert (job.base.id, Path(job.base.folder)) == ("discs", zoo / "discs")
    lab.close()


def test_a_rerun_with_a_model_says_for_which_of_several_targets(make_lab):
    lab = make_lab(extra=", segment: [{name: nuclei}, {name: cells}]")
    write(lab, "exp1/a.tif")
    lab.segment_all()
    model = add(lab)

    with pytest.raises(RequestRefused, match="has the targets nuclei, cells; say which"):
        ask(lab, "rerun", experiment="exp1", model=model)
    with pytest.raises(RequestRefused, match="no target 'ghosts'; there are nuclei, cells"):
        ask(lab, "rerun", experiment="exp1", model=model, target="ghosts")
    ask(lab, "rerun", experiment="exp1", model=model, target="cells")
    lab.segment_all()

    sql = "SELECT name, model_id FROM targets"
    assert dict(lab.db.execute(sql).fetchall()) == {"nuclei": "tiny", "cells": model}


def test_one_group_that_is_in_training_keeps_no_other_from_it(make_lab):
    lab = make_lab(extra=", segment: [{name: nuclei}, {name: cells}]")
    write(lab, "exp1/a.tif")
    lab.segment_all()
    for target in ("nuclei", "cells"):
        write_tiff(lab.folder / "corrections" / f"a__{target}_masks.tif", lab.truth["exp1/a.tif"])
        lab.drop(f"a__{target}_masks.tif")
    ask(lab, "retrain", group="images-cells")

    said = ask(lab, "retrain")

    assert said.facts["groups"] == ["images-nuclei"]
    assert "images-cells: being trained now, or waiting for it" in said.text
    with pytest.raises(RequestRefused, match="images-nuclei, images-cells: being trained now"):
        ask(lab, "retrain")


def test_a_rollback_to_a_model_that_is_gone_is_refused(make_lab):
    lab = make_lab()
    for seed in (7, 8):
        ask(lab, "promote", model=add(lab, f"images-2026112{seed}-1", seed), group="images")
    shutil.rmtree(lab.config.zoo / "images-20261127-1")

    with pytest.raises(UnknownModel, match="would go back to the model 'images-20261127-1'"):
        ask(lab, "rollback", group="images")


def test_a_group_that_no_target_belongs_to_any_more_is_told_of(make_lab):
    lab = make_lab()
    assert unserved(lab.db, lab.config) == []
    write(lab, "exp1/a.tif")
    lab.segment_all()
    lab.correct("exp1/a.tif")
    text = (
        "watch: [{folder: images, segment: [{name: nuclei}, {name: cells}]}]\n"
        "output: {folder: masks}\nstate: {folder: state}\n"
    )
    several = parse_config(text, "lab.yaml", lab.folder)
    kept = parse_config(
        text.replace("{name: cells}", "{name: cells, group: images}"), "", lab.folder
    )

    (told,) = unserved(lab.db, several)

    assert "the group 'images' has corrections" in told
    assert "(images-nuclei, images-cells)" in told
    assert "group: images" in told
    assert unserved(lab.db, kept) == []


def test_a_withdrawal_says_what_counts_now(make_lab):
    lab = make_lab()
    write(lab, "exp1/a.tif")
    lab.segment_all()
    lab.correct("exp1/a.tif", crop=(8, 4, 40, 48))
    fewer = lab.truth["exp1/a.tif"].copy()
    fewer[fewer == 1] = 0
    lab.correct("exp1/a.tif", labels=fewer)
    lab.db.execute("UPDATE corrections SET file = 'A_masks.tif' WHERE id = 2")
    fewer[fewer == 2] = 0
    assert lab.correct("exp1/a.tif", labels=fewer).state == "trainable"

    said = ask(lab, "withdraw", id=3).text

    assert said.endswith("is active again")  # over the crop too, which came before
    said = ask(lab, "withdraw", id=2).text
    assert said.endswith("correction 1 (a__y8x4h40w48_masks.tif) now applies to its pixels")


def test_a_withdrawal_says_which_training_learns_from_it_still(make_lab):
    lab = make_lab()
    write(lab, "exp1/a.tif", "exp1/b.tif")
    lab.segment_all()
    for name in "ab":
        lab.correct(f"exp1/{name}.tif")
    asked = AskedRun(lab.group, "night", "2026-11-24")
    run = training_runs.begin(lab.db, asked, lab.now)
    group = groups_of(lab.config)[lab.group]
    job = job_of(lab.db, run, asked, group, lab.config, lab.models, lab.now)
    training_runs.plan(lab.db, replace(job, items=job.items[:1]))

    assert f"{job.model_id}, now in training, learns from it" in ask(lab, "withdraw", id=1).text
    assert "in training" not in ask(lab, "withdraw", id=2).text


def test_a_withdrawn_region_leaves_the_whole_plane_to_count(make_lab):
    lab = make_lab()
    write(lab, "exp1/a.tif")
    lab.segment_all()
    half = np.zeros((64, 64), np.int32)
    half[:32] = 1
    write_tiff(lab.folder / "corrections/a_region.tif", half)
    lab.drop("a_region.tif")
    lab.correct("exp1/a.tif")

    said = ask(lab, "withdraw", id=1).text

    assert "all of correction 2 (a_masks.tif) is used again, also what it did not mark" in said


def test_a_session_gives_way_to_images_and_to_a_night(make_lab):
    lab = make_lab()
    write(lab, "exp1/a.tif")
    is_busy = [session._is_busy(lab.config)]
    lab.segment_all()
    is_busy.append(session._is_busy(lab.config))
    training_runs.begin(lab.db, AskedRun(lab.group, "night", "2026-11-24"), lab.now)
    is_busy.append(session._is_busy(lab.config))

    assert is_busy == [True, False, True]


def test_a_rerun_finds_the_base_that_the_group_went_back_to_by_its_path(make_lab):
    lab = make_lab()
    write(lab, "exp1/a.tif")
    lab.segment_all()
    ask(lab, "promote", model=add(lab))
    ask(lab, "rollback", group="images")

    assert ask(lab, "rerun", experiment="exp1").facts["models"] == "tiny"
    assert ask(lab, "rerun", experiment="exp1", model="tiny").facts["models"] == "tiny"
