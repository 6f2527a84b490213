"""The training loop: draw crops, step, report each epoch; resumable to the bit on the CPU."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from cellwatch.core.arrays import Float32
from cellwatch.core.image import with_channels
from cellwatch.core.network import CPNet, segmentation_loss
from cellwatch.errors import BadTrainingData, TrainingError
from cellwatch.training.batches import Batch, batches_ahead, validation_batches
from cellwatch.training.checkpoint import (
    EpochReport,
    log_epoch,
    resume,
    save_checkpoint,
)
from cellwatch.training.dataset import TrainingImage
from cellwatch.training.plans import FitPlan, schedule_named

DIVERGED = 50.0  # a loss beyond this is no longer training; a fresh network starts near 4
JUDGED_EPOCHS = 20  # of a run with a validation part, as evenly spread as they can be


@dataclass(frozen=True, slots=True)
class Between:
    """What a caller of `fit` does between two batches.

    Attributes
    ----------
    on_step : callable
        Called after each step, also for those that a resumed run finds done.
    give_way : callable
        Called after each batch that no step follows.
    """

    on_step: Callable[[], None] = lambda: None
    give_way: Callable[[], None] = lambda: None


NOTHING = Between()


def fit(
    network: CPNet,
    images: Sequence[TrainingImage],
    plan: FitPlan,
    folder: Path,
    *,
    device: torch.device,
    checkpoint_every: float = 60.0,
    between: Between = NOTHING,
) -> Iterator[EpochReport]:
    """Train a network in place and report each epoch.

    Parameters
    ----------
    network : CPNet
        The weights to start from; after the last report it holds the result: the weights of the
        last epoch with the batch normalisation computed again, or those with the least loss on the
        part that `plan.validation` splits off, as they were judged.
    images : sequence of TrainingImage
    plan : FitPlan
    folder : Path
        Gets `checkpoint.safetensors` and `log.jsonl`. With a checkpoint of the same plan there
        the run continues from it.
    device : torch.device
    checkpoint_every : float, seconds
        Also in the midst of an epoch; 0: after every step.
    between : Between
        What to do between two batches.

    Yields
    ------
    EpochReport

    Raises
    ------
    TrainingError
        When the loss is not a number or beyond `DIVERGED`, or the checkpoint is of another plan.
    BadTrainingData
        When no image is left beside the validation part.
    """
    run = _Run(network, images, plan, folder, device, checkpoint_every, between)
    with ThreadPoolExecutor(1, "batches") as pool:
        yield from run.epochs(pool)
    network.eval()


def split_validation(
    images: Sequence[TrainingImage], plan: FitPlan
) -> tuple[list[TrainingImage], list[TrainingImage]]:
    """Part a set into images to train on and images to judge epochs by; the seed chooses."""
    if not plan.validation:
        return list(images), []
    n_judges = max(1, round(plan.validation * len(images)))
    if n_judges >= len(images):
        raise BadTrainingData(
            f"{len(images)} images cannot spare {plan.validation:g} of them for validation; "
            "annotate more, or let the last epoch be the result"
        )
    order = np.random.default_rng(plan.seed).permutation(len(images))
    return [images[i] for i in order[n_judges:]], [images[i] for i in order[:n_judges]]


def train_step(
    network: CPNet, optimiser: torch.optim.Optimizer, batch: Batch, precision: str = "float32"
) -> float:
    """Take one step of the optimiser on one batch and return the loss before it."""
    optimiser.zero_grad(set_to_none=True)
    loss = _loss(network, batch, precision)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    optimiser.step()
    return float(loss.detach())


def with_channels_batch(tiles: Float32, n_channels: int) -> Float32:
    """Append channels of zeros to a (B, C, S, S) batch until it has `n_channels`."""
    if tiles.shape[1] == n_channels:
        return tiles
    return np.stack([with_channels(tile, n_channels) for tile in tiles])


def make_optimiser(network: CPNet, plan: FitPlan) -> torch.optim.SGD:
    """Return the optimiser of a plan; its learning rate is set at each epoch."""
    return torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad],
        lr=0.0,
        momentum=plan.momentum,
        weight_decay=schedule_named(plan.schedule).weight_decay,
    )


def ready_to_train(network: CPNet, device: torch.device, precision: str) -> CPNet:
    """Move a network to a device, in the memory layout that its steps are fastest in."""
    network.to(device, memory_format=_layout(precision))  # type: ignore[call-overload]  # untyped
    return network.train()


class _Run:
    # What one call of `fit` carries from step to step.
    def __init__(
        self,
        network: CPNet,
        images: Sequence[TrainingImage],
        plan: FitPlan,
        folder: Path,
        device: torch.device,
        checkpoint_every: float,
        between: Between,
    ) -> None:
        self.training, self.judges = split_validation(images, plan)
        self.network = ready_to_train(network, device, plan.precision)
        self.optimiser = make_optimiser(network, plan)
        self.plan, self.folder = plan, folder
        self.every, self.between = checkpoint_every, between
        self.state = resume(network, self.optimiser, plan, folder)
        self.saved_at = time.monotonic()

    def epochs(self, pool: ThreadPoolExecutor) -> Iterator[EpochReport]:
        state, plan = self.state, self.plan
        done = state.epoch * plan.steps_per_epoch + len(state.losses)
        for _ in range(done):
            self.between.on_step()
        config = self.network.config
        upcoming = batches_ahead(pool, self.training, plan, config, state.epoch, len(state.losses))
        while state.epoch < plan.epochs:
            report = self.epoch(upcoming)
            log_epoch(self.folder, report)
            self.save_when_due(is_due=state.epoch == plan.epochs)
            yield report
        if state.best:
            self.network.load_state_dict(state.best)
        elif plan.norm_batches:
            self.average_norms(pool)

    def epoch(self, upcoming: Iterator[Batch]) -> EpochReport:
        state, plan = self.state, self.plan
        started = time.monotonic() - state.seconds
        rate = plan.learning_rate(state.epoch)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        while len(state.losses) < plan.steps_per_epoch:
            batch = next(upcoming)
            loss = train_step(self.network, self.optimiser, batch, plan.precision)
            _refuse_divergence(loss, state.epoch, rate)
            state.losses.append(loss)
            self.between.on_step()
            if len(state.losses) < plan.steps_per_epoch:
                state.seconds = time.monotonic() - started
                self.save_when_due()
        judged = self.judge()
        report = EpochReport(
            epoch=state.epoch,
            step=(state.epoch + 1) * plan.steps_per_epoch,
            loss=float(np.mean(state.losses)),
            learning_rate=rate,
            seconds=time.monotonic() - started,
            validation_loss=judged,
        )
        state.epoch, state.losses, state.seconds = state.epoch + 1, [], 0.0
        return report

    def average_norms(self, pool: ThreadPoolExecutor) -> None:
        plan, network = self.plan, self.network
        size = min(plan.batch_size, plan.images_per_epoch)  # as in the steps
        one_more = replace(
            plan,
            epochs=plan.epochs + 1,
            images_per_epoch=plan.norm_batches * size,
            batch_size=size,
        )
        batches = batches_ahead(pool, self.training, one_more, network.config, plan.epochs, 0)
        with _autocast(network.diam_mean.device, plan.precision):
            update_bn(self.tiles_of(batches), network)

    def tiles_of(self, batches: Iterator[Batch]) -> Iterator[Tensor]:
        for batch in batches:
            yield _tiles(self.network, batch, self.plan.precision)
            self.between.give_way()

    def judge(self) -> float | None:
        state, plan = self.state, self.plan
        every = max(1, plan.epochs // JUDGED_EPOCHS)
        ordinal = state.epoch + 1
        if not self.judges or (ordinal % every and ordinal != plan.epochs):
            return None
        self.network.eval()
        with torch.inference_mode():
            batches = validation_batches(self.judges, plan, self.network.config)
            losses = [float(_loss(self.network, batch, plan.precision)) for batch in batches]
        self.network.train()
        mean = float(np.mean(losses))
        if mean < state.best_loss:
            state.best_loss = mean
            state.best = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        return mean

    def save_when_due(self, *, is_due: bool = False) -> None:
        if is_due or time.monotonic() - self.saved_at >= self.every:
            save_checkpoint(self.network, self.optimiser, self.plan, self.folder, self.state)
            self.saved_at = time.monotonic()


def _tiles(network: CPNet, batch: Batch, precision: str) -> Tensor:
    tiles = torch.from_numpy(with_channels_batch(batch.tiles, network.config.channels))
    return tiles.to(network.diam_mean.device, memory_format=_layout(precision))


def _layout(precision: str) -> torch.memory_format:
    # In bfloat16 oneDNN and cuDNN want channels last; the order of sums in float32 stays plain.
    return torch.channels_last if precision != "float32" else torch.contiguous_format


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision != "float32")


def _loss(network: CPNet, batch: Batch, precision: str) -> Tensor:
    device = network.diam_mean.device
    targets = torch.from_numpy(batch.targets).to(device)
    with _autocast(device, precision):
        maps, _ = network(_tiles(network, batch, precision))
    checked = torch.from_numpy(batch.checked).to(device) if batch.checked is not None else None
    return segmentation_loss(maps.float(), targets[:, :2], targets[:, 2], checked)


def _refuse_divergence(loss: float, epoch: int, rate: float) -> None:
    if not math.isfinite(loss) or loss > DIVERGED:
        raise TrainingError(
            f"training diverged in epoch {epoch} (loss {loss:g}, learning rate {rate:g}); "
            "the log is kept; look at the masks of the images, or take another --schedule (the "
            "rates of online and offline are half that of generalist)"
        )
