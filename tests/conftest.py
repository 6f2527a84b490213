"""What tests share: the real data (when it is there), tiny networks, and compiled kernels."""

# The threads are set before torch is loaded.
import os

# Networks of tests are small: several threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import math
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from cellwatch.core.network import CPNet, NetworkConfig, fresh_network
from cellwatch.records import ModelCard
from cellwatch.zoo.cards import ModelPlace
from cellwatch.zoo.catalog import add_model, load_model

SHARED = Path(__file__).parents[2] / "shared"
NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


@pytest.fixture(scope="session", autouse=True)
def _compiled_kernels() -> None:
    from cellwatch.compute.worker import warm_up
    from cellwatch.core.augment import Warp, warp_plane, warp_targets

    warm_up(torch.device("cpu"))
    labels = np.ones((8, 8), np.int32)
    warp = Warp(False, 0.0, 1.0, (0.0, 0.0))
    warp_plane(np.zeros((1, 8, 8), np.float32), warp, np.zeros((1, 8, 8), np.float32))
    warp_targets(labels, np.zeros((2, 8, 8), np.float32), warp, np.zeros((3, 8, 8), np.float32))


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the real data are not beside the project ({SHARED.name}/)")
    return SHARED


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    return shared / "golden"


def tiny_network(seed: int = 0) -> CPNet:
    config = NetworkConfig(widths=(4, 4, 8, 8), diam_mean=17.0, diam_labels=17.0)
    network = fresh_network(config, seed)
    return network.eval()


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> ModelPlace:
    """A model folder with a tiny seeded network, trained a little so that it finds discs."""
    from tests.discs import trained_on_discs

    folder = tmp_path_factory.mktemp("models") / "tiny"
    card = add_model(folder, trained_on_discs(), ModelCard("tiny", "", 0.0, 0.0))
    return ModelPlace(folder, card)


@pytest.fixture(scope="session")
def night_budget(tiny_model: ModelPlace) -> int:
    """Seconds in which a group of three images learns a little, as busy as this machine is now."""
    from cellwatch.compute.device import precision_on
    from cellwatch.training.batches import draw_batches
    from cellwatch.training.fit import make_optimiser, ready_to_train, train_step
    from cellwatch.training.plans import LEAST_EPOCHS, FitPlan
    from cellwatch.workflows.train import TIMED_STEPS
    from tests.discs import disc_images

    cpu = torch.device("cpu")
    plan = FitPlan("online", 100)
    precision = precision_on(cpu, "auto")  # as a night has it
    network = ready_to_train(load_model(tiny_model), cpu, precision)
    optimiser = make_optimiser(network, plan)
    (batch,) = draw_batches(disc_images(1), plan, network.config, 0)
    taken = []
    for _ in range(4):
        began = time.monotonic()
        train_step(network, optimiser, batch, precision)
        taken.append(time.monotonic() - began)
    each = LEAST_EPOCHS + 1 + math.ceil(plan.steps_worth_after)
    steps = TIMED_STEPS + 4 * each  # a candidate and three that leave one image out
    # The trainer has a lower priority than what else this machine does.
    return max(20, min(600, round(1.8 * statistics.median(taken) * steps)))
