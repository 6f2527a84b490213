import itertools
import json

import numpy as np
import pytest
import torch

from cellwatch.errors import BadTrainingData, TrainingError
from cellwatch.training.dataset import enough_rois, mean_diameter
from cellwatch.training.fit import CHECKPOINT, LOG, draw_batches, fit
from cellwatch.training.plans import FitPlan
from tests.conftest import tiny_network
from tests.discs import disc_images

pytestmark = pytest.mark.timeout(60)
CPU = torch.device("cpu")
PLAN = FitPlan("online", epochs=6, images_per_epoch=4, batch_size=2, crop=32)


@pytest.fixture(scope="module")
def images():
    return disc_images(3)


def train(folder, images, plan=PLAN, epochs=None, every=2):
    network = tiny_network()
    reports = fit(network, images, plan, folder, device=CPU, checkpoint_every=every)
    taken = list(itertools.islice(reports, epochs))
    reports.close()
    return network, taken


def test_a_run_that_goes_on_from_a_checkpoint_ends_with_the_same_bits(tmp_path, images):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    whole, _ = train(tmp_path / "a", images)
    train(tmp_path / "b", images, epochs=5)  # the last checkpoint is after the fourth
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
    first, again, later = (next(draw_batches(images, PLAN, 17, epoch)) for epoch in (0, 0, 1))

    np.testing.assert_array_equal(first.tiles, again.tiles)
    assert not np.array_equal(first.tiles, later.tiles)
    assert first.targets[:, 2].max() == 1


def test_images_with_too_few_rois_are_left_out_and_named(images):
    kept, left_out = enough_rois(images, 5)
    assert len(kept) == 3
    assert left_out == []

    with pytest.raises(BadTrainingData, match="none of the 3 images has 50 ROIs"):
        enough_rois(images, 50)


def test_the_mean_diameter_is_that_of_the_discs(images):
    assert mean_diameter(images) == pytest.approx(17.9, abs=0.3)
