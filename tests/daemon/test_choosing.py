"""A station whose models are chosen by style, as a person sees it."""

import json

import numpy as np
import pytest
import tifffile
import torch

from cellwatch.core.parameters import SegmentationParams
from cellwatch.daemon.choosing import ready_model
from cellwatch.records import ChannelChoice
from cellwatch.storage.maskstore import check_store
from cellwatch.zoo.catalog import hold_model
from tests.daemon.stations import Station
from tests.daemon.stylezoo import write_style_zoo
from tests.discs import disc_picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def zoo(tiny_model, tmp_path_factory):
    return write_style_zoo(tmp_path_factory.mktemp("zoo"), tiny_model)


def test_a_style_chooses_the_model_and_explain_says_why(zoo, tmp_path):
    station = Station(tmp_path, zoo / "auto")
    station.write("a.tif", seed=60)

    with station.daemon("--once") as daemon:
        assert daemon.wait(120) == 0

    row = json.loads(station.command("explain", str(station.images / "a.tif"), "--json").stdout)[0]
    target = row["targets"][0]
    assert target["model_id"] == "discs"
    assert target["choice"]["cluster"] == "round things"
    assert len(target["choice"]["neighbours"]) == 5
    assert target["novelty"] > 0
    told = station.command("explain", str(station.images / "a.tif")).stdout
    assert "cluster round things" in told
    assert "disc" in told
    said = check_store(station.masks / "images/a.tif.zarr").provenance["targets"]["cells"]
    assert said["model"]["id"] == "discs"
    assert said["choice"]["cluster"] == "round things"
    assert said["novelty"] == target["novelty"]


def test_a_picture_unlike_the_training_images_is_novel(zoo, tiny_model, tmp_path):
    from cellwatch.daemon.acquisition import segment_acquisition
    from cellwatch.storage.images import load
    from cellwatch.zoo.cards import find_model

    model = ready_model(find_model("discs", zoo), torch.device("cpu"))
    like, _ = disc_picture(99)
    stripes = (500 + 400 * np.sin(np.arange(128) / 2))[None].repeat(128, 0).astype(np.uint16)
    novelty = {}
    for name, picture in (("like", like), ("unlike", stripes)):
        tifffile.imwrite(tmp_path / f"{name}.tif", picture)
        image = load(tmp_path / f"{name}.tif")
        found = segment_acquisition(image, model, SegmentationParams(), ChannelChoice())
        novelty[name] = found.result.novelty

    assert novelty["like"] < 1.5
    assert novelty["unlike"] > 2 * novelty["like"]


def test_a_configuration_whose_classifier_lacks_a_model_is_refused(zoo, tmp_path):
    station = Station(tmp_path / "st", tmp_path / "zoo/auto")
    (tmp_path / "zoo/auto").mkdir(parents=True)
    for path in (zoo / "auto").iterdir():
        (tmp_path / "zoo/auto" / path.name).write_bytes(path.read_bytes())

    ended = station.command("config", "check", check=False)

    assert ended.returncode == 78
    assert "there is no model 'discs'" in ended.stderr


def test_a_model_named_by_its_path_is_copied_into_the_zoo_once(zoo, tmp_path):
    assert hold_model(str(zoo / "discs"), tmp_path) == "discs"
    assert hold_model(str(zoo / "discs"), tmp_path) == "discs"
    assert (tmp_path / "discs/weights.safetensors").is_file()
