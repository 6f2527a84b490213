"""What people say of images and folders, as the station knows them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cellwatch.cli.client import as_known, refuse_station_folder
from cellwatch.cli.effort import verdict
from cellwatch.cli.status_training import learning_lines
from cellwatch.config.parse import parse_config
from cellwatch.errors import UsageError
from cellwatch.storage.reports.learning import CorrectedImage, Night

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
CONFIG = """
watch: [{folder: images}]
output: {folder: masks}
state: {folder: state}
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "st/images/exp").mkdir(parents=True)
    (tmp_path / "st/images/exp/a.tif").touch()
    (tmp_path / "link").symlink_to(tmp_path / "st")
    (tmp_path / "other").mkdir()
    return parse_config(CONFIG, "config.yaml", tmp_path / "st")


@pytest.mark.parametrize(
    "said", ["../st/images/exp/a.tif", "../link/images/exp/a.tif", "../st/images/exp/../exp/a.tif"]
)
def test_an_image_is_known_by_whatever_path_leads_to_it(config, tmp_path, monkeypatch, said):
    monkeypatch.chdir(tmp_path / "other")

    assert as_known(config, said) == str(tmp_path / "st/images/exp/a.tif")


def test_a_watched_folder_that_is_a_link_names_its_images_as_it_is_configured(tmp_path, config):
    linked = parse_config(CONFIG, "config.yaml", tmp_path / "link")

    said = as_known(linked, str(tmp_path / "st/images/exp/a.tif"))

    assert said == str(tmp_path / "link/images/exp/a.tif")


def test_what_is_no_file_is_a_name_or_the_path_of_one_that_is_to_come(
    config, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path / "other")

    assert as_known(config, "exp/b.tif") == "exp/b.tif"
    assert as_known(config, "../st/images/b.tif") == str(tmp_path / "st/images/b.tif")


def test_a_bare_name_means_an_image_of_the_station_also_where_a_file_of_that_name_lies(
    config, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path / "other")
    (tmp_path / "other/a.tif").touch()

    assert as_known(config, "a.tif") == "a.tif"
    assert as_known(config, "./a.tif") == str(tmp_path / "other/a.tif")


@pytest.mark.parametrize("place", ["link/images/x", "other/../st/masks", "st/state/x"])
def test_no_way_leads_into_a_folder_of_the_station(config, tmp_path, place):
    with pytest.raises(UsageError, match="a folder of the station"):
        refuse_station_folder(config, tmp_path / place, "--to")
    refuse_station_folder(config, tmp_path / "st/checkout", "--to")


def test_status_advises_a_rerun_that_can_be_pasted():
    mixed = {
        "watch": "scope a", "experiment": "2026-11-26", "target": "cells", "models": 2,
        "model_ids": "x,y", "to_redo": 0,
    }  # fmt: skip
    nothing = {"flagged": 0, "dropped": {}, "groups": [], "training": None, "waiting": []}
    (told,) = learning_lines({**nothing, "mixed_experiments": [mixed]}, NOW, is_running=True)
    assert told.endswith("cellwatch rerun 2026-11-26 --watch 'scope a'")
    under_way = {**nothing, "mixed_experiments": [{**mixed, "to_redo": 3}]}
    (told,) = learning_lines(under_way, NOW, is_running=True)
    assert told.endswith("2 models (x,y); 3 of its images are being redone")


def test_status_says_when_a_training_ends():
    nothing = {"flagged": 0, "dropped": {}, "groups": [], "waiting": [], "mixed_experiments": []}
    training = {"model_id": "m-1", "stage": "training", "step": 30, "steps": 90, "left_s": 5400.0}
    (told,) = learning_lines({**nothing, "training": training}, NOW, is_running=True)
    end = (NOW + timedelta(minutes=90)).astimezone().strftime("%H:%M")
    assert told == f"training m-1: training, step 30 of 90, about 90 min to go, done at about {end}"


def night(**facts):
    known = {
        "id": 1, "local_date": "2026-11-26", "kind": "night", "state": "ended", "seconds": 60.0,
        "model_id": "scope-20261126-1", "reason": None, "is_cancelled": False,
    }  # fmt: skip
    return Night(**known, **facts)


IMAGE = CorrectedImage(
    id=1, received_at="2026-11-26T08:00:00+00:00", relative_path="a.tif", annotator="",
    model_id="nuclei", rois=4, predicted=4, added=1, removed=1, changed=0, ap50=0.6, minutes=None,
    share=0.5, is_unseen=True,
)  # fmt: skip


def test_an_effort_whose_last_training_was_not_judged_says_why():
    last = night(numbers=None, verdict="inconclusive", told="there was no corrected image")

    said = verdict([IMAGE], [last])

    assert said == "the last training proves nothing (inconclusive): there was no corrected image"


def test_an_effort_whose_last_training_was_declined_does_not_advise_another_kind_of_image():
    numbers = {"candidate": 0.53, "gain": 0.003}
    last = night(numbers=numbers, verdict="declined", told="5 of 5 new images are missed")

    said = verdict([IMAGE], [last])

    assert said == "the last training is not used (declined): 5 of 5 new images are missed"
    broken = replace(last, numbers={"smoke_test": ["x"]}, told="it failed the smoke test: x")
    said = verdict([IMAGE], [broken])
    assert said == "the last training is not used (declined): it failed the smoke test: x"
