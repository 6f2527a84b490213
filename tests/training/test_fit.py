import itertools
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cellwatch.core.network import NetworkConfig
from cellwatch.errors import BadTrainingData, TrainingError
from cellwatch.training.batches import balanced_weights, draw_batches, draw_order
from cellwatch.training.checkpoint import CHECKPOINT, LOG
from cellwatch.training.dataset import enough_rois, mean_diameter, training_image
from cellwatch.training.fit import fit, split_validation, with_channels_batch
from cellwatch.training.plans import FitPlan
from tests.conftest import tiny_network
from tests.discs import disc_images, disc_picture

pytestmark = pytest.mark.timeout(60)
CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
PLAN = FitPlan("online", 6, images_per_epoch=4, batch_size=2, crop=32, norm_batches=3)
CONFIG = NetworkConfig(diam_mean=17.0, diam_labels=17.0)


@pytest.fixture(scope="module")
def images():
    return disc_images(3)


def train(folder, images, plan=PLAN, epochs=None, every=0.0):
    network = tiny_network()
    reports = fit(network, images, plan, folder, device=CPU, checkpoint_every=every)
    taken = list(itertools.islice(reports, epochs))
    reports.close()
    return network, taken


def test_a_run_that_goes_on_from_a_checkpoint_ends_with_the_same_bits(tmp_path, images):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    whole, _ = train(tmp_path / "a", images)
    train(tmp_path / "b", images, epochs=4)
    resumed, reports = train(tmp_path / "b", images)

    assert [report.epoch for report in reports] == [4, 5]
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key
    logs = [(tmp_path / name / LOG).read_text().splitlines() for name in "ab"]
    losses = [[json.loads(line)["loss"] for line in log] for log in logs]
    assert losses[0] == losses[1]


def test_equal_seeds_train_equal_networks_and_others_do_not(tmp_path, images):
    for name in "abc":
        (tmp_path / name).mkdir()

    first, _ = train(tmp_path / "a", images)
    second, _ = train(tmp_path / "b", images)
    other, _ = train(tmp_path / "c", images, FitPlan(**{**vars_of(PLAN), "seed": 1}))

    key = "output.2.weight"
    assert torch.equal(first.state_dict()[key], second.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])


def vars_of(plan):
    return {name: getattr(plan, name) for name in plan.__dataclass_fields__}


def test_training_lowers_the_loss(tmp_path, images):
    plan = FitPlan("online", epochs=25, images_per_epoch=4, batch_size=4, crop=64)

    _, reports = train(tmp_path, images, plan)

    assert np.mean([r.loss for r in reports[-5:]]) < 0.6 * reports[0].loss


def test_a_checkpoint_of_another_plan_is_refused(tmp_path, images):
    train(tmp_path, images, epochs=3)

    with pytest.raises(TrainingError, match="belongs to another plan"):
        train(tmp_path, images, FitPlan("offline", 6, 4, 2, 32))


def test_divergence_stops_with_a_reason_and_keeps_the_log(tmp_path, images):
    network = tiny_network()
    reports = fit(network, images, PLAN, tmp_path, device=CPU)
    next(reports)
    with torch.no_grad():
        network.output[2].bias.fill_(float("nan"))

    with pytest.raises(TrainingError, match="diverged in epoch 1"):
        next(reports)
    assert len((tmp_path / LOG).read_text().splitlines()) == 1
    assert not (tmp_path / CHECKPOINT).exists()


def test_batches_are_fixed_by_seed_and_epoch(images):
    first, again, later = (next(draw_batches(images, PLAN, CONFIG, n)) for n in (0, 0, 1))

    np.testing.assert_array_equal(first.tiles, again.tiles)
    assert not np.array_equal(first.tiles, later.tiles)
    assert first.targets[:, 2].max() == 1


def test_an_image_without_rois_is_shown_at_the_size_at_which_such_images_are_segmented():
    plane, labels = np.ones((1, 64, 64), np.float32), np.zeros((64, 64), np.int32)
    empty = training_image("empty", plane, labels, is_confirmed_empty=True)
    plan = FitPlan("online", epochs=1, images_per_epoch=8, batch_size=8, crop=128)
    half = NetworkConfig(diam_mean=30.0, diam_labels=60.0)

    (batch,) = draw_batches([empty], plan, half, 0)

    sides = np.sqrt(batch.tiles.sum(axis=(1, 2, 3)))
    assert np.all(sides > 64 / 2 * 0.74)
    assert np.all(sides < 64 / 2 * 1.26)


def test_images_with_too_few_rois_are_left_out_and_named(images):
    kept, left_out = enough_rois(images, 5)
    assert len(kept) == 3
    assert left_out == []

    with pytest.raises(BadTrainingData, match="none of the 3 images has 50 ROIs"):
        enough_rois(images, 50)


def test_the_mean_diameter_is_that_of_the_discs(images):
    assert mean_diameter(images) == pytest.approx(17.9, abs=0.3)


KILLED = """
import sys, torch
from pathlib import Path
from cellwatch.training.fit import Between, fit, split_validation
from tests.conftest import tiny_network
from tests.discs import disc_images, disc_picture
from tests.training.test_fit import PLAN

folder = Path(sys.argv[1])
images = disc_images(3)
print("ready", flush=True)
step = lambda: print("step", flush=True)
reports = fit(tiny_network(), images, PLAN, folder, device=torch.device("cpu"),
              checkpoint_every=0.0, between=Between(step))
for report in reports:
    pass
"""


@pytest.mark.parametrize("steps", [1, 5, 8])
def test_a_run_killed_at_any_step_ends_with_the_same_bits(tmp_path, images, steps):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole, _ = train(tmp_path / "whole", images)

    run = [sys.executable, "-c", KILLED, str(tmp_path / "killed")]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        assert sum(line == "step\n" for line in itertools.islice(child.stdout, steps + 1)) == steps
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    resumed, _ = train(tmp_path / "killed", images)

    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_a_balanced_plan_draws_each_cluster_as_often(images):
    kinds = [replace(images[0], cluster="rare")] + [replace(images[1], cluster="common")] * 9
    plan = replace(PLAN, is_balanced=True, images_per_epoch=4000)

    drawn = draw_order(kinds, plan, np.random.default_rng(0))

    assert balanced_weights(kinds) == pytest.approx([0.5] + [0.5 / 9] * 9)
    assert np.mean(drawn == 0) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("is_balanced", [False, True])
@pytest.mark.parametrize("n_empty", [3, 8, 40])
def test_images_without_rois_take_a_fifth_of_the_crops(images, is_balanced, n_empty):
    empty = replace(images[0], n_rois=0, diameter=0.0, cluster="theirs" if n_empty == 3 else "")
    mostly_empty = [*images[:2]] + [empty] * n_empty
    plan = replace(PLAN, images_per_epoch=8, is_balanced=is_balanced)
    rng = np.random.default_rng(0)

    epochs = [draw_order(mostly_empty, plan, rng) for _ in range(200)]

    shares = [np.mean([mostly_empty[i] is empty for i in order]) for order in epochs]
    assert np.mean(shares) == pytest.approx(0.2, abs=0.02)
    assert max(shares) <= 0.25
    assert {len(order) for order in epochs} == {8}


def test_every_image_with_rois_comes_as_often_beside_many_without(images):
    empty = replace(images[0], n_rois=0, diameter=0.0)
    plan = replace(PLAN, images_per_epoch=10)

    drawn = draw_order([*images, *[empty] * 7], plan, np.random.default_rng(0))

    assert sorted(np.bincount(drawn)[:3]) == [2, 3, 3]


def test_a_validation_part_is_split_off_and_chooses_the_epoch(tmp_path):
    images = disc_images(4)
    plan = replace(PLAN, validation=0.25)

    training, judges = split_validation(images, plan)
    network, reports = train(tmp_path, images, plan)

    assert len(training) == 3
    assert len(judges) == 1
    assert judges[0] not in training
    judged = [r.validation_loss for r in reports]
    best = best_of(tmp_path)[0]
    assert min(judged) == pytest.approx(best_of(tmp_path)[1])
    for key, value in network.state_dict().items():
        assert torch.equal(best[key], value), key


def best_of(folder):
    with safe_open(folder / CHECKPOINT, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith("best.")]  # noqa: SIM118
        tensors = {name.removeprefix("best."): file.get_tensor(name) for name in names}
        return tensors, float(file.metadata()["best_loss"])


def test_the_batch_normalisation_is_that_of_the_last_weights(tmp_path, images):
    # Stopped after the last step, then gone on with: the normalisation alone is left to do.
    stopped, reports = train(tmp_path, images, epochs=PLAN.epochs)
    finished, more = train(tmp_path, images)

    assert (len(reports), more) == (PLAN.epochs, [])
    after = finished.state_dict()
    for name, parameter in stopped.named_parameters():
        assert torch.equal(parameter, after[name]), name
    batches = draw_batches(
        images, replace(PLAN, images_per_epoch=PLAN.batch_size * 3), stopped.config, PLAN.epochs
    )
    expected = inputs_normalised(stopped, [batch.tiles for batch in batches])
    assert len(expected) > 10
    for name, (mean, variance) in expected.items():
        torch.testing.assert_close(after[f"{name}.running_mean"], mean, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(after[f"{name}.running_var"], variance, rtol=1e-3, atol=1e-6)


def test_after_short_epochs_the_normalisation_is_over_batches_of_their_size(tmp_path, images):
    plan = replace(PLAN, images_per_epoch=2, batch_size=4, norm_batches=3)
    stopped, _ = train(tmp_path, images, plan, epochs=plan.epochs)
    finished, _ = train(tmp_path, images, plan)

    drawn = replace(plan, images_per_epoch=6, batch_size=2)
    batches = list(draw_batches(images, drawn, stopped.config, plan.epochs))
    expected = inputs_normalised(stopped, [batch.tiles for batch in batches])

    assert [len(batch.tiles) for batch in batches] == [2, 2, 2]
    after = finished.state_dict()
    for name, (mean, variance) in expected.items():
        torch.testing.assert_close(after[f"{name}.running_mean"], mean, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(after[f"{name}.running_var"], variance, rtol=1e-3, atol=1e-6)


def inputs_normalised(network, batches):
    """Return mean and variance of what each batch normalisation is given, over the batches."""
    norms = {n: m for n, m in network.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    seen = {name: [] for name in norms}
    for name, module in norms.items():
        module.register_forward_pre_hook(lambda _m, given, name=name: seen[name].append(given[0]))
    network.train()
    with torch.no_grad():
        for tiles in batches:
            network(torch.from_numpy(with_channels_batch(tiles, network.config.channels)))
    return {
        name: (
            torch.stack([x.mean(dim=(0, 2, 3)) for x in given]).mean(dim=0),
            torch.stack([x.var(dim=(0, 2, 3)) for x in given]).mean(dim=0),
        )
        for name, given in seen.items()
    }


def test_a_checkpoint_from_before_plans_fixed_the_normalisation_is_gone_on_with(tmp_path, images):
    plan = replace(PLAN, norm_batches=FitPlan("online", 1).norm_batches)
    train(tmp_path, images, plan, epochs=3)
    with safe_open(tmp_path / CHECKPOINT, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    said = json.loads(metadata["plan"])
    del said["norm_batches"]
    save_file(tensors, tmp_path / CHECKPOINT, {**metadata, "plan": json.dumps(said)})

    _, reports = train(tmp_path, images, plan)

    assert [report.epoch for report in reports] == [3, 4, 5]


def test_too_few_images_to_spare_are_refused(tmp_path):
    with pytest.raises(BadTrainingData, match="1 images cannot spare"):
        train(tmp_path, disc_images(1), replace(PLAN, validation=0.5))


def test_bfloat16_trains_as_float32_does(tmp_path, images):
    losses = {}
    for precision in ("float32", "bfloat16"):
        (tmp_path / precision).mkdir()
        plan = FitPlan("online", 12, images_per_epoch=4, batch_size=4, crop=64, precision=precision)
        network, reports = train(tmp_path / precision, images, plan)
        losses[precision] = [r.loss for r in reports]
        assert network.output[2].weight.dtype == torch.float32

    assert np.mean(losses["bfloat16"]) == pytest.approx(np.mean(losses["float32"]), rel=0.05)
    assert losses["bfloat16"][0] == pytest.approx(losses["float32"][0], rel=0.01)


def test_flows_are_kept_by_content_and_made_anew_when_cut_short(tmp_path):
    picture, labels = disc_picture(0)
    plane = picture[None].astype(np.float32)
    fresh = training_image("a", plane, labels).flows

    training_image("a", plane, labels, flow_cache=tmp_path / "flows")
    kept = next((tmp_path / "flows").iterdir())
    before = kept.stat().st_mtime_ns
    again = training_image("b", plane, labels, flow_cache=tmp_path / "flows").flows
    np.testing.assert_array_equal(again, fresh)
    assert kept.stat().st_mtime_ns == before

    kept.write_bytes(kept.read_bytes()[:1000])
    mended = training_image("a", plane, labels, flow_cache=tmp_path / "flows").flows
    np.testing.assert_array_equal(mended, fresh)


def test_a_confirmed_empty_image_trains_as_background(images):
    empty = training_image("e", images[0].plane, np.zeros_like(images[0].labels))
    confirmed = replace(empty, is_confirmed_empty=True)

    kept, left_out = enough_rois([*images, empty, confirmed], 1)

    assert confirmed in kept
    assert left_out == [empty]
    assert enough_rois([*images, confirmed], 5)[1] == [confirmed]
    with pytest.raises(BadTrainingData):
        enough_rois([confirmed], 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 0.02), ("bfloat16", 0.1)])
def test_cuda_trains_as_the_cpu_does(tmp_path, images, precision, tolerance):
    losses = {}
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        plan = FitPlan("online", 12, images_per_epoch=4, batch_size=4, crop=64)
        plan = replace(plan, precision=precision if device == "cuda" else "float32")
        reports = fit(tiny_network(), images, plan, tmp_path / device, device=torch.device(device))
        losses[device] = [report.loss for report in reports]

    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=tolerance)
