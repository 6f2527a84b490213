"""The training loop: draw crops, step, report each epoch; resumable to the bit on the CPU.

Chance comes from the plan's seed and the number of the epoch alone, so a run that goes on from a
checkpoint draws what it would have drawn. A checkpoint holds the weights and the optimiser's
momentum and replaces the one before in a single rename.
"""

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cellwatch.core.arrays import Float32
from cellwatch.core.augment import draw_warp, warp_plane, warp_targets
from cellwatch.core.image import with_channels
from cellwatch.core.network import CPNet, segmentation_loss
from cellwatch.errors import TrainingError
from cellwatch.training.dataset import TrainingImage
from cellwatch.training.plans import FitPlan, schedule_named

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
DIVERGED = 50.0  # a loss beyond this is no longer training; a fresh network starts near 4


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What one epoch was.

    Attributes
    ----------
    epoch : int
        Counted from 0.
    step : int
        Batches since the run began.
    loss : float
        Mean over the epoch's batches.
    learning_rate : float
    seconds : float
    """

    epoch: int
    step: int
    loss: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of crops.

    Attributes
    ----------
    tiles : (B, C, S, S) float32
    targets : (B, 3, S, S) float32
        Flow in y, flow in x, 1 inside ROIs.
    """

    tiles: Float32
    targets: Float32


def fit(
    network: CPNet,
    images: Sequence[TrainingImage],
    plan: FitPlan,
    folder: Path,
    *,
    device: torch.device,
    checkpoint_every: int = 10,
) -> Iterator[EpochReport]:
    """Train a network in place and report each epoch.

    Parameters
    ----------
    network : CPNet
        The weights to start from; after the last report it holds the result.
    images : sequence of TrainingImage
    plan : FitPlan
    folder : Path
        Gets `checkpoint.safetensors` and `log.jsonl`. With a checkpoint of the same plan there
        the run goes on from it.
    device : torch.device
    checkpoint_every : int, epochs

    Yields
    ------
    EpochReport

    Raises
    ------
    TrainingError
        When the loss is not a number or beyond `DIVERGED`, or the checkpoint is of another plan.
    """
    network.to(device).train()
    optimiser = make_optimiser(network, plan)
    first = _resume(network, optimiser, plan, folder)
    with ThreadPoolExecutor(1, "batches") as pool:
        upcoming = _ahead(pool, images, plan, network.config.diam_mean, first)
        for epoch in range(first, plan.epochs):
            report = _run_epoch(network, optimiser, plan, epoch, upcoming)
            _log(folder, report)
            last = epoch + 1 == plan.epochs
            if last or (epoch + 1) % checkpoint_every == 0:
                _save_checkpoint(network, optimiser, plan, folder, epoch + 1)
            yield report
    network.eval()


def draw_batches(
    images: Sequence[TrainingImage], plan: FitPlan, diameter: float, epoch: int
) -> Iterator[Batch]:
    """Draw the batches of one epoch; the same epoch of the same plan draws the same.

    Parameters
    ----------
    images : sequence of TrainingImage
    plan : FitPlan
    diameter : float, px
        To which each image's median ROI is scaled. An image without ROIs keeps its size.
    epoch : int
    """
    rng = np.random.default_rng([plan.seed, epoch])
    if plan.images_per_epoch == len(images):
        order = rng.permutation(len(images))
    else:
        order = rng.integers(len(images), size=plan.images_per_epoch)
    for start in range(0, len(order), plan.batch_size):
        chosen = [images[i] for i in order[start : start + plan.batch_size]]
        yield _batch(chosen, plan.crop, diameter, rng)


def _batch(
    images: Sequence[TrainingImage], crop: int, diameter: float, rng: np.random.Generator
) -> Batch:
    channels = images[0].plane.shape[0]
    tiles = np.empty((len(images), channels, crop, crop), np.float32)
    targets = np.empty((len(images), 3, crop, crop), np.float32)
    for image, tile, target in zip(images, tiles, targets, strict=True):
        zoom = diameter / image.diameter if image.diameter else 1.0
        warp = draw_warp(image.labels.shape, crop, zoom, rng)
        warp_plane(image.plane, warp, tile)
        warp_targets(image.labels, image.flows, warp, target)
    return Batch(tiles, targets)


def _ahead(
    pool: ThreadPoolExecutor,
    images: Sequence[TrainingImage],
    plan: FitPlan,
    diameter: float,
    first: int,
) -> Iterator[Batch]:
    # One batch is always being drawn while the network works on the one before.
    batches = (
        batch
        for epoch in range(first, plan.epochs)
        for batch in draw_batches(images, plan, diameter, epoch)
    )
    pending: Future[Batch | None] = pool.submit(next, batches, None)
    while (batch := pending.result()) is not None:
        pending = pool.submit(next, batches, None)
        yield batch


def _run_epoch(
    network: CPNet,
    optimiser: torch.optim.SGD,
    plan: FitPlan,
    epoch: int,
    upcoming: Iterator[Batch],
) -> EpochReport:
    started = time.monotonic()
    rate = plan.learning_rate(epoch)
    for group in optimiser.param_groups:
        group["lr"] = rate
    losses = [train_step(network, optimiser, next(upcoming)) for _ in range(plan.steps_per_epoch)]
    loss = float(np.mean(losses))
    if not math.isfinite(loss) or loss > DIVERGED:
        raise TrainingError(
            f"training diverged in epoch {epoch} (loss {loss:g}, learning rate {rate:g}); "
            "the log is kept; lower the learning rate or look at the masks of the images"
        )
    return EpochReport(
        epoch, (epoch + 1) * plan.steps_per_epoch, loss, rate, time.monotonic() - started
    )


def train_step(network: CPNet, optimiser: torch.optim.Optimizer, batch: Batch) -> float:
    """Take one step of the optimiser on one batch and return the loss before it."""
    device = next(network.parameters()).device
    tiles = torch.from_numpy(with_channels_batch(batch.tiles, network.config.channels))
    tiles = tiles.to(device)
    targets = torch.from_numpy(batch.targets).to(device)
    optimiser.zero_grad(set_to_none=True)
    maps, _ = network(tiles)
    loss = segmentation_loss(maps, targets[:, :2], targets[:, 2])
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


def _save_checkpoint(
    network: CPNet, optimiser: torch.optim.SGD, plan: FitPlan, folder: Path, epoch: int
) -> None:
    tensors: dict[str, Tensor] = {f"weights.{k}": v for k, v in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        momentum = optimiser.state.get(parameter, {}).get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum
    metadata = {"epoch": str(epoch), "plan": json.dumps(asdict(plan), sort_keys=True)}
    aside = folder / f".{CHECKPOINT}.partial"
    save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, aside, metadata)
    with aside.open("rb") as written:
        os.fsync(written.fileno())
    aside.replace(folder / CHECKPOINT)


def _resume(network: CPNet, optimiser: torch.optim.SGD, plan: FitPlan, folder: Path) -> int:
    path = folder / CHECKPOINT
    if not path.exists():
        (folder / LOG).unlink(missing_ok=True)
        return 0
    try:
        opened = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise TrainingError(f"{path} cannot be read ({error}); remove it to begin anew") from error
    with opened as file:
        metadata = file.metadata()
        if metadata["plan"] != json.dumps(asdict(plan), sort_keys=True):
            raise TrainingError(
                f"{path} belongs to another plan ({metadata['plan']}); "
                "resume with that plan or train into an empty folder"
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    network.load_state_dict(_part(tensors, "weights."))
    momenta = _part(tensors, "momentum.")
    for name, parameter in network.named_parameters():
        if name in momenta:
            buffer = torch.empty_like(parameter).copy_(momenta[name])
            optimiser.state[parameter]["momentum_buffer"] = buffer
    _forget_after(folder / LOG, int(metadata["epoch"]))
    return int(metadata["epoch"])


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _log(folder: Path, report: EpochReport) -> None:
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(report)) + "\n")


def _forget_after(log: Path, epoch: int) -> None:
    # Epochs after the checkpoint are run again and must not stand in the log twice.
    if not log.exists():
        return
    lines = log.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["epoch"] < epoch]
    log.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
