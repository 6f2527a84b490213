"""A station whose models are chosen by style, as a person sees it."""

import copy
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch

from cellwatch.compute.acquisition import segment_acquisition
from cellwatch.compute.model_result import ModelResult, facts_of
from cellwatch.compute.models import Model, ready_either, ready_model
from cellwatch.core.parameters import SegmentationParams
from cellwatch.core.plane_facts import PlaneFacts
from cellwatch.core.segment import Segmentation
from cellwatch.daemon.retraining.selection import _most_chosen
from cellwatch.images import load
from cellwatch.records import ChannelChoice
from cellwatch.storage.masks.store import check_store
from cellwatch.workflows.evaluate import evaluate_folder
from cellwatch.zoo.cards import find_model
from cellwatch.zoo.catalog import hold_model
from cellwatch.zoo.classifiers import find_classifier
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


@pytest.fixture(scope="module")
def two_models(zoo):
    """Give a chooser whose cluster has a model of its own, made by a change of the general one."""
    chooser = ready_either(find_classifier("auto", zoo), torch.device("cpu"))
    (cluster,) = chooser.card.clusters
    card = replace(chooser.card, clusters=(replace(cluster, model="special"),))

    def with_special(change):
        network = copy.deepcopy(chooser.style_model.network)
        with torch.no_grad():
            change(network.output[-1])
        model_card = replace(chooser.style_model.card, id="special", sha256="another")
        special = Model(network, model_card, chooser.style_model.styles)
        return replace(chooser, card=card, load={"special": special}.__getitem__)

    return with_special


def segmented(chooser, picture, folder):
    tifffile.imwrite(folder / "a.tif", picture)
    image = load(folder / "a.tif")
    return segment_acquisition(image, chooser, SegmentationParams(), ChannelChoice()).result


def unchanged(_):
    pass


def blind(output):
    output.bias[2] -= 1000


def unsure(output):
    output.weight[2] *= 0.02
    output.bias[2] *= 0.02


def sparing(output):
    output.bias[2] -= 0.5


def generous(output):
    output.bias[2] += 0.5


def seldom_seen(chooser):
    """Give a chooser to which every image is unlike most of its kind, but within reach."""
    known = chooser.classifier

    class Far:
        def choose(self, style):
            return replace(known.choose(style), is_usual=False, novelty=0.9)

    return replace(chooser, classifier=Far())


def test_the_model_that_a_style_calls_for_segments_alone_while_nothing_speaks_against_it(
    two_models, tmp_path
):
    found = segmented(two_models(unchanged), disc_picture(99)[0], tmp_path)

    assert found.model_id == "special"
    assert found.rois > 0
    assert (found.choice.why, found.choice.instead_of) == ("", "")


def test_beyond_the_reach_of_a_clusters_styles_the_general_network_segments_and_says_so(
    two_models, tmp_path
):
    stripes = (500 + 400 * np.sin(np.arange(128) / 2))[None].repeat(128, 0).astype(np.uint16)

    found = segmented(two_models(unchanged), stripes, tmp_path)

    assert found.model_id == "discs"
    assert found.choice.instead_of == "special"
    assert found.choice.novelty > 1
    (told,) = [note for note in found.notes if "unlike those that 'round things' knows" in note]
    assert told == found.choice.why


@pytest.mark.parametrize(
    ("change", "reason"), [(blind, "it found nothing"), (unsure, "it is not sure of what it found")]
)
def test_where_the_chosen_model_is_in_doubt_the_general_network_is_tried_and_both_are_told(
    two_models, tmp_path, change, reason
):
    found = segmented(two_models(change), disc_picture(99)[0], tmp_path)

    assert found.model_id == "discs"
    assert found.rois > 0
    assert found.choice.instead_of == "special"
    assert reason in found.choice.why
    assert "compared with 'discs'; 'discs' is used" in found.choice.why


@pytest.mark.parametrize(
    ("change", "used"), [(sparing, "discs"), (generous, "special"), (blind, "discs")]
)
def test_an_image_unlike_most_of_its_kind_goes_to_the_model_that_covers_more(
    two_models, tmp_path, change, used
):
    found = segmented(seldom_seen(two_models(change)), disc_picture(99)[0], tmp_path)

    assert found.model_id == used
    assert "compared with 'discs'" in found.choice.why


def found_by(model, areas, confidences):
    style, sure = np.ones(8, np.float32), np.array(confidences)
    plane = PlaneFacts(30.0, style, (), sure, sure, np.array(areas), 0.9, 0.0, 16)
    return ModelResult(model, (), (), np.zeros((1, 1, 1, 4, 4), np.int32), [plane])


@pytest.mark.parametrize(
    ("general", "specialist", "is_used"),
    [
        ([(100, 0.9)], [(100, 0.9)], True),  # as much: the one that knows more kinds
        ([(100, 0.9)], [(110, 0.9)], False),
        ([(20, 0.9)] * 4, [(100, 0.9)], False),  # bright spots of a cell
        ([(5, 0.9)] * 9, [(100, 0.9)], True),  # nine times as much found
        ([(100, 0.9)], [], True),
        ([(100, 0.5)], [], False),  # a ROI of confidence one half is none
        ([], [], False),
    ],
)
def test_the_general_network_is_used_where_it_covers_more_or_finds_far_more(
    general, specialist, is_used
):
    first, second = (
        found_by(None, [area for area, _ in rois], [confidence for _, confidence in rois])
        for rois in (general, specialist)
    )
    assert first.outdoes(second) == is_used


@pytest.mark.parametrize("noise", [0, 9])
def test_an_empty_field_raises_no_doubt(two_models, tmp_path, noise):
    field = np.random.default_rng(0).normal(100, noise, (160, 160)).astype(np.uint16)

    found = segmented(two_models(blind), field, tmp_path)

    assert found.rois == 0
    assert found.choice.why == ""


def test_a_field_that_is_constant_but_for_hot_pixels_chooses_nothing(two_models, tmp_path):
    field = np.full((96, 96), 100, np.uint16)
    field[10, 10] = field[50, 60] = 4000

    found = segmented(two_models(unchanged), field, tmp_path)

    assert found.choice.neighbours == ()  # so no experiment keeps a model because of it


def test_the_general_network_is_one_of_those_that_may_have_segmented(zoo):
    place = find_classifier("auto", zoo)
    (cluster,) = place.card.clusters
    other = replace(cluster, model="special", model_sha256="of the special one")
    place = replace(place, card=replace(place.card, clusters=(other,)))

    assert place.model_of(cluster.model_sha256).card.id == "discs"
    chosen = [cluster.model_sha256] * 3 + [other.model_sha256]
    rows = [SimpleNamespace(model_sha256=sha256) for sha256 in chosen]
    assert _most_chosen(place, rows).id == "discs"
    assert _most_chosen(place, []).id == "special"  # of equals the largest cluster's


def test_evaluate_scores_what_a_station_would_segment(two_models, tmp_path):
    picture, labels = disc_picture(99)
    tifffile.imwrite(tmp_path / "a_img.tif", picture)
    tifffile.imwrite(tmp_path / "a_masks.tif", labels.astype(np.uint16))

    (scored,) = evaluate_folder(
        tmp_path, two_models(blind), SegmentationParams(), ChannelChoice(), is_true_diameter=True
    )

    assert scored.model_id == "discs"
    assert scored.score.average_precision[0.5] > 0.8


def test_a_picture_unlike_the_training_images_is_novel(zoo, tiny_model, tmp_path):
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


def test_pixels_that_are_no_number_count_for_nothing_in_the_intensity():
    labels = np.zeros((8, 8), np.int32)
    labels[2:6, 2:6] = 1
    cells = np.full((8, 8), 7.0, np.float32)
    cells[3, 3] = np.nan
    flows, style = np.zeros((2, 8, 8), np.float32), np.ones(8, np.float32)
    found = Segmentation(labels, style, 4.0, np.zeros((8, 8), np.float32), flows)

    assert facts_of(found, cells).total == 15 * 7.0
