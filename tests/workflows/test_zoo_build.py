"""A whole zoo in small: two kinds of images, tiny networks, real files."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

from cellwatch.compute.models import Chooser, ready_either, spread
from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.errors import BadTrainingData, UnknownModel, UsageError, WeightsError
from cellwatch.images import load
from cellwatch.records import ChannelChoice
from cellwatch.training.plans import FitPlan
from cellwatch.workflows.evaluate import evaluate_folder
from cellwatch.workflows.zoo.build import build_zoo
from cellwatch.workflows.zoo.clusters import names_of_clusters
from cellwatch.workflows.zoo.plots import draw_comparison, draw_map
from cellwatch.workflows.zoo.request import ZooRequest, find_sets
from cellwatch.workflows.zoo.scores import mean_scores, score_zoo
from cellwatch.zoo.classifiers import find_classifier, load_classifier, require_classifier
from tests.discs import disc_picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CPU = torch.device("cpu")
PLAN = FitPlan("generalist", 12, images_per_epoch=8, batch_size=2, crop=32)


def write_set(folder, kind, n_train, n_test):
    for part, count, first in (("train", n_train, 0), ("test", n_test, 500)):
        (folder / kind / part).mkdir(parents=True)
        for index in range(count):
            picture, labels = disc_picture(first + index, size=96, n=6)
            if kind.startswith("dark"):
                picture = (1000 - picture.astype(int)).clip(0).astype(np.uint16)
            tifffile.imwrite(folder / kind / part / f"{index:02}_img.tif", picture)
            tifffile.imwrite(folder / kind / part / f"{index:02}_masks.tif", labels.astype("u2"))


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    write_set(folder, "bright_discs", 14, 2)
    write_set(folder, "dark_discs", 10, 2)
    return folder


@pytest.fixture(scope="module")
def built(sets, tiny_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("zoo")
    request = ZooRequest(
        sets=find_sets([sets]),
        style_model=str(tiny_model.path),
        reuse={"bright_discs": str(tiny_model.path)},
        generalist="",
        plan=PLAN,
    )
    told = []
    table, found = build_zoo(request, out, CPU, told.append)
    results = score_zoo(request.sets, out, "generalist", CPU, "float32", told.append)
    return request, out, table, found, results, told


def test_kinds_become_clusters_and_the_ensemble_beats_the_generalist(built, tiny_model):
    _, out, table, found, results, _ = built

    assert found.report["purity_by_modality"] == 1
    assert found.report["modality_accuracy_on_test"] == 1
    assert {name.split("-")[0] for name in found.names} == {"bright_discs", "dark_discs"}
    assert table.is_test.sum() == 4
    bright = next(r for r in results if r.name == "bright_discs")
    assert bright.chosen == {tiny_model.card.id: 2}
    assert bright.auto > 0.9
    means = mean_scores(results, "generalist")
    assert means["auto"] > means["generalist"]
    assert (out / "scores.csv").read_text().startswith("set,images,")


def test_nothing_is_done_twice(built):
    request, out, _, found, results, _ = built
    before = {path: path.stat().st_mtime_ns for path in out.rglob("weights.safetensors")}
    told = []

    _, again = build_zoo(request, out, CPU, told.append)
    scored = score_zoo(request.sets, out, "generalist", CPU, "float32", told.append)

    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("weights.safetensors")}
    assert len(before) == len({*found.kinds}) + 1  # with the generalist and the reused one
    np.testing.assert_array_equal(again.clusters, found.clusters)
    assert scored == results
    assert not [line for line in told if "training " in line and "steps" in line]


def test_a_zoo_that_was_asked_for_differently_is_refused(built):
    request, out, *_ = built

    with pytest.raises(UsageError, match="asked for differently"):
        build_zoo(replace(request, subset=0.5), out, CPU, print)


def test_the_classifier_chooses_and_says_why(built, sets):
    _, out, *_ = built
    chooser = ready_either(require_classifier(str(out / "auto")), CPU)
    assert isinstance(chooser, Chooser)

    _, bright = chooser.choose(load(sets / "bright_discs/test/00_img.tif"), ChannelChoice())
    _, dark = chooser.choose(load(sets / "dark_discs/test/00_img.tif"), ChannelChoice())

    assert bright.cluster.startswith("bright_discs")
    assert dark.cluster.startswith("dark_discs")
    assert len(bright.neighbours) == 5
    assert all(near["image"].startswith("bright_discs/") for near in bright.neighbours)


def test_each_image_is_scored_with_its_own_model(built, sets, tiny_model):
    _, out, *_ = built
    chooser = ready_either(require_classifier(str(out / "auto")), CPU)

    scored = evaluate_folder(
        sets / "bright_discs/test", chooser, SegmentationParams(diameter=Diameter("model")),
        ChannelChoice(), is_true_diameter=True,
    )  # fmt: skip

    assert {one.model_id for one in scored} == {tiny_model.card.id}


def test_an_image_of_noise_gets_the_model_of_the_largest_cluster(built, tmp_path):
    _, out, *_ = built
    chooser = ready_either(require_classifier(str(out / "auto")), CPU)
    noise = np.random.default_rng(0).poisson(100, (96, 96)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "noise.tif", noise)

    _, why = chooser.choose(load(tmp_path / "noise.tif"), ChannelChoice())

    assert why.neighbours == ()
    assert why.cluster == max(chooser.card.clusters, key=lambda c: c.images).name


def test_pictures_are_drawn(built, tmp_path):
    _, _, table, found, results, _ = built

    draw_map(table, found, tmp_path / "map.png")
    draw_comparison(results, "generalist", tmp_path / "comparison.png")

    for name in ("map.png", "comparison.png"):
        pixels = (tmp_path / name).read_bytes()
        assert pixels[:4] == b"\x89PNG"
        assert len(pixels) > 5000


def test_a_tampered_classifier_is_refused(built, tmp_path):
    _, out, *_ = built
    copy = tmp_path / "auto"
    copy.mkdir()
    for path in (out / "auto").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    data = bytearray((copy / "classifier.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "classifier.safetensors").write_bytes(data)

    with pytest.raises(WeightsError, match="was changed"):
        load_classifier(require_classifier(str(copy)))


def test_a_classifier_is_known_by_its_name_in_a_zoo(built):
    _, out, *_ = built

    assert find_classifier("auto", out).path == out / "auto"
    with pytest.raises(UnknownModel, match="there is no classifier 'other'"):
        require_classifier("other", out)


def test_a_folder_without_sets_is_refused(tmp_path):
    with pytest.raises(BadTrainingData, match="no folder with a folder 'train'"):
        find_sets([tmp_path])


def test_planes_are_spread_over_a_stack():
    assert spread(1, 5) == [0]
    assert spread(5, 5) == [0, 1, 2, 3, 4]
    assert len(set(spread(1000, 5))) == 5


def test_the_request_is_kept_as_it_was_asked(built):
    request, out, *_ = built

    kept = json.loads((out / "zoo.json").read_text())

    assert kept["plan"]["schedule"] == "generalist"
    assert kept["sets"] == list(request.sets)


def test_two_sets_of_one_name_are_refused(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place / "cells" / "train").mkdir(parents=True)

    with pytest.raises(BadTrainingData, match="2 sets are named 'cells'"):
        find_sets([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"reuse": {"bright_disks": "nuclei"}}, "there is no set 'bright_disks'"),
        ({"generalist": "gneralist"}, "there is no model 'gneralist'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(built, tmp_path, changes, told):
    request, *_ = built

    with pytest.raises((UsageError, UnknownModel), match=told):
        build_zoo(replace(request, **changes), tmp_path / "new", CPU, print)


def test_a_set_named_like_a_built_in_model_is_refused(built, tmp_path):
    request, *_ = built
    (tmp_path / "nuclei/train").mkdir(parents=True)

    with pytest.raises(UsageError, match="a set is named 'nuclei'"):
        build_zoo(
            replace(request, sets=(str(tmp_path / "nuclei"),), reuse={}), tmp_path / "z", CPU, print
        )


def test_a_zoo_of_other_training_images_is_refused_before_anything_is_done(built, sets, tmp_path):
    request, out, *_ = built
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    shutil.copytree(sets, tmp_path / "sets")
    mine = replace(request, sets=find_sets([tmp_path / "sets"]))
    kept = {**json.loads((out / "zoo.json").read_text()), "sets": list(mine.sets)}
    (zoo / "zoo.json").write_text(json.dumps(kept))
    changed = tmp_path / "sets/dark_discs/train/00_masks.tif"
    tifffile.imwrite(changed, disc_picture(77, size=96, n=3)[1].astype("u2"))

    with pytest.raises(BadTrainingData, match="set 'dark_discs' changed since"):
        build_zoo(mine, zoo, CPU, print)

    assert not (zoo / "clusters.json").exists()


def test_a_test_image_that_is_trained_on_is_refused(built, sets, tmp_path):
    request, *_ = built
    shutil.copytree(sets, tmp_path / "sets")
    pixels = tifffile.imread(tmp_path / "sets/bright_discs/train/03_img.tif")
    again = tmp_path / "sets/dark_discs/test/00_img.tif"
    tifffile.imwrite(again, pixels, compression="zlib")

    with pytest.raises(BadTrainingData, match=r"dark_discs/00_img\.tif.*bright_discs/03_img\.tif"):
        build_zoo(replace(request, sets=find_sets([tmp_path / "sets"])), tmp_path / "z", CPU, print)


def test_a_model_with_the_name_of_a_cluster_does_not_take_its_place(built, tiny_model, tmp_path):
    request, *_ = built
    mine = tmp_path / "mine"
    shutil.copytree(tiny_model.path, mine)
    card = json.loads((mine / "card.json").read_text())
    (mine / "card.json").write_text(json.dumps({**card, "id": "dark_discs-2"}))

    with pytest.raises(WeightsError, match="'dark_discs-2', and so is a network"):
        build_zoo(replace(request, generalist=str(mine)), tmp_path / "z", CPU, print)
    (mine / "card.json").write_text(json.dumps({**card, "id": "generalist"}))
    with pytest.raises(WeightsError, match="'generalist', and so is a network"):
        build_zoo(replace(request, style_model=str(mine)), tmp_path / "z", CPU, print)

    assert not [p for p in (tmp_path / "z").iterdir() if p.name in ("generalist", "dark_discs-2")]


def test_one_image_is_not_clustered(built, sets, tmp_path):
    request, *_ = built
    one = replace(request, sets=(str(sets / "dark_discs"),), reuse={}, subset=0.01)

    with pytest.raises(BadTrainingData, match="1 image cannot be clustered, 2 at the least"):
        build_zoo(one, tmp_path / "z", CPU, print)


def test_clusters_have_names_of_their_own():
    kinds = ["x", "x", "x-2", "x"]

    names, commonest = names_of_clusters(np.array([0, 1, 2, 3]), kinds)

    assert names == ("x", "x-3", "x-2", "x-4")
    assert commonest == ("x", "x", "x-2", "x")


def test_styles_of_other_images_are_measured_anew(built, sets, tmp_path):
    from cellwatch.workflows.train import read_images
    from cellwatch.workflows.zoo.clusters import style_table
    from cellwatch.zoo.cards import find_model

    _, out, *_ = built
    model = ready_either(find_model("tiny", out), CPU)
    images = read_images(sets / "bright_discs/test", "bright_discs")

    told = [
        style_table(listed, {}, model, "float32", tmp_path, print)
        for listed in ({"a": images}, {"a": images}, {"a": images[:1]})
    ]

    assert told[0].names == told[1].names
    np.testing.assert_array_equal(told[0].styles, told[1].styles)
    assert len(told[2].styles) == 1


def test_a_model_of_one_channel_gives_styles_of_one_channel(built, sets, tmp_path):
    from cellwatch.workflows.train import read_images
    from cellwatch.workflows.zoo.clusters import style_table
    from cellwatch.zoo.cards import find_model

    _, out, *_ = built
    model = ready_either(find_model("tiny", out), CPU)
    images = read_images(sets / "bright_discs/test", "bright_discs")
    two = [replace(i, plane=np.concatenate([i.plane, i.plane[:, ::-1]])) for i in images]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()

    first = style_table({"a": images}, {}, model, "float32", tmp_path / "one", print)
    second = style_table({"a": two}, {}, model, "float32", tmp_path / "two", print)

    np.testing.assert_array_equal(first.styles, second.styles)
