"""Keep the state of a run, so that it continues after it was killed and ends with the same bits.

A checkpoint holds the weights, the optimiser's momentum and the losses of the epoch so far. It
replaces the one before in a single rename. The log beside it has one JSON line per whole epoch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cellwatch.core.network import CPNet
from cellwatch.errors import TrainingError
from cellwatch.files.atomic import writing
from cellwatch.training.plans import FitPlan, plan_from

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"


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
    validation_loss : float or None
        None: the epoch was not judged.
    """

    epoch: int
    step: int
    loss: float
    learning_rate: float
    seconds: float
    validation_loss: float | None = None


@dataclass(slots=True)
class TrainingState:
    """The state of a run.

    Attributes
    ----------
    epoch : int
        The one in progress.
    losses : list of float
        Of its batches so far.
    seconds : float
        Spent on it before the checkpoint.
    best_loss : float
        The least validation loss so far.
    best : mapping of str to Tensor
        The weights that had it; empty when the plan splits off no validation part.
    """

    epoch: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    best_loss: float = float("inf")
    best: Mapping[str, Tensor] = field(default_factory=dict)


def save_checkpoint(
    network: CPNet, optimiser: torch.optim.SGD, plan: FitPlan, folder: Path, state: TrainingState
) -> None:
    """Write the state of the run, whole or not at all, and onto the disk."""
    tensors: dict[str, Tensor] = {f"weights.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    for name, parameter in network.named_parameters():
        momentum = optimiser.state.get(parameter, {}).get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum
    metadata = {
        "plan": _plan_text(plan),
        "epoch": str(state.epoch),
        "losses": json.dumps(state.losses),
        "seconds": str(state.seconds),
        "best_loss": repr(state.best_loss),
    }
    with writing(folder / CHECKPOINT) as aside:
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, aside, metadata)


def resume(
    network: CPNet, optimiser: torch.optim.SGD, plan: FitPlan, folder: Path
) -> TrainingState:
    """Load the checkpoint of a run folder into a network and its optimiser.

    Returns
    -------
    TrainingState
        The beginning when the folder has no checkpoint.

    Raises
    ------
    TrainingError
        When the checkpoint cannot be read, or is of another plan.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        (folder / LOG).unlink(missing_ok=True)
        return TrainingState()
    tensors, metadata = _read(path)
    # What plans have come to fix since then has its default.
    if plan_from(json.loads(metadata["plan"])) != plan:
        raise TrainingError(
            f"{path} belongs to another plan ({metadata['plan']}); "
            "resume with that plan or train into an empty folder"
        )
    network.load_state_dict(_part(tensors, "weights."))
    momenta = _part(tensors, "momentum.")
    for name, parameter in network.named_parameters():
        if name in momenta:
            buffer = torch.empty_like(parameter).copy_(momenta[name])
            optimiser.state[parameter]["momentum_buffer"] = buffer
    _forget_from(folder / LOG, int(metadata["epoch"]))
    return TrainingState(
        epoch=int(metadata["epoch"]),
        losses=json.loads(metadata["losses"]),
        seconds=float(metadata["seconds"]),
        best_loss=float(metadata["best_loss"]),
        best=_part(tensors, "best."),
    )


def log_epoch(folder: Path, report: EpochReport) -> None:
    """Append one line to the log of a run."""
    line = {k: v for k, v in asdict(report).items() if v is not None}
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _plan_text(plan: FitPlan) -> str:
    return json.dumps(asdict(plan), sort_keys=True)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:  # Any: safetensors' own
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata()
    except SafetensorError as error:
        raise TrainingError(f"{path} cannot be read ({error}); remove it to begin again") from error


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _forget_from(log: Path, epoch: int) -> None:
    # Epochs that are run again must not appear in the log twice.
    if not log.exists():
        return
    lines = log.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["epoch"] < epoch]
    log.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
