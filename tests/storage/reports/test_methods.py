"""The methods of an experiment, as a paper needs them."""

import json

import pytest

from cellwatch.storage.ledger.database import open_ledger
from cellwatch.storage.reports.methods import methods_of, paragraph
from cellwatch.storage.reports.station import LEDGER, reader
from tests.storage.reports.test_html import fill


@pytest.fixture
def db(tmp_path):
    fill(tmp_path, tmp_path / "out", 40)
    with reader(tmp_path / LEDGER) as connection:
        yield connection


def test_it_has_numbers_models_and_citations(db):
    said = methods_of(db, "scope", "exp 1")

    text = paragraph(said, {"general": ("general", "base")})

    assert said.images == sum(use.images for use in said.uses) > 0
    assert f"Images of experiment 'exp 1' (n = {said.images}), received on 2026-11-30" in text
    assert (
        f"{said.uses[0].rois} cells in {said.images} images were found by the model 'general'"
        in text
    )
    assert "trained from 'base'" in text
    assert "Nature Methods 19, 1634" in text
    assert f"{said.doubtful} images were marked as doubtful" in text


def test_corrections_and_scores_of_its_model_are_told(db, tmp_path):
    ledger = open_ledger(tmp_path)
    for key in (1, 2):
        ledger.table("corrections").insert(
            {"id": key, "file": f"{key}.tif", "size": 1, "mtime_ns": 1, "received_at": "t",
             "kind": "labels", "state": "used", "state_since": "t", "rois": 30, "annotator": "anna",
             "content_key": f"c{key}"}
        )  # fmt: skip
        trained = {"model_sha256": "s", "correction_id": key, "content_key": f"c{key}"}
        ledger.table("trained_on").insert(trained)
    ledger.table("scores").insert(
        {"kind": "cross_fit", "model_id": "general", "model_sha256": "s", "correction_id": 1,
         "content_key": "c1", "ap50": 0.75, "true_positives": 3, "false_positives": 1,
         "false_negatives": 0, "scored_at": "t"}
    )  # fmt: skip
    ledger.execute("UPDATE targets SET model_sha256 = 's'")
    ledger.close()

    text = paragraph(methods_of(db, "scope", "exp 1"), {})

    assert "on 60 ROIs in 2 corrections of 2 images by anna" in text
    assert "that it had not been trained on (n = 1, of any experiment" in text
    assert "was 0.75" in text


def test_settings_that_differ_are_told_apart(db, tmp_path):
    ledger = open_ledger(tmp_path)
    for key, params in ((1, {"normalise": {"over": "image", "low": 2, "high": 98}}), (4, {})):
        said = {"flow_threshold": 0.4, **params}
        ledger.execute(
            "UPDATE targets SET params = ? WHERE acquisition_id % 7 = ?", [json.dumps(said), key]
        )
    ledger.close()

    said = methods_of(db, "scope", "exp 1")

    assert len(said.uses) > 1
    assert sum(use.images for use in said.uses) == said.images
    assert "percentiles 2 to 98" in paragraph(said, {})


def test_an_experiment_without_results_has_none(db):
    assert methods_of(db, "scope", "nothing") is None
