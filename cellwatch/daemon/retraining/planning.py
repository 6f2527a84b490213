"""How long a nightly training may be: the schedule, stretched to the time that there is."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cellwatch.core.network import CPNet
from cellwatch.daemon.retraining.evaluation import FITS
from cellwatch.daemon.retraining.judge import on_device
from cellwatch.daemon.retraining.pacing import Pacer
from cellwatch.daemon.retraining.run_folder import PLAN
from cellwatch.errors import TrainingError
from cellwatch.files.atomic import write_json
from cellwatch.files.digests import file_sha256
from cellwatch.records import Side, TrainJob
from cellwatch.training.dataset import TrainingImage, mean_diameter
from cellwatch.training.plans import FORWARD, LEAST_EPOCHS, FitPlan, plan_from, with_steps
from cellwatch.zoo.weights import load_network, with_diameters

if TYPE_CHECKING:
    from cellwatch.workflows.train import Prepared


def planned(
    job: TrainJob, images: Sequence[TrainingImage], folds: int, device: torch.device, pacer: Pacer
) -> FitPlan:
    """Return the plan of all trainings of a run, shortened once to fit the budget, then kept."""
    path = Path(job.folder) / PLAN
    if path.exists():
        return plan_from(json.loads(path.read_text(encoding="utf-8")))
    from cellwatch.workflows.train import Prepared, seconds_a_step

    plan = plan_from(on_device(job, device).plan)
    pacer.say("timing ten steps")
    prepared = Prepared(list(images), [], base_network(job, images), [], None, job.channels)
    usual, spent = seconds_a_step(prepared, plan, job.budget_s, device)
    each = usual * (1 + folds)  # s a step, of all trainings
    beside = usual * (spent + plan.steps_worth_after * (1 + folds))  # s
    beside += usual * _steps_worth_scoring(job, prepared, plan, folds)
    steps = max(0, min(plan.steps, int((job.budget_s - beside) / each)))
    least = min(LEAST_EPOCHS, plan.steps)
    if steps < least:
        raise TrainingError(
            f"retrain.budget of {told_time(job.budget_s)} allows {steps} of {plan.steps} steps "
            f"of {1 + folds} trainings here, too few to learn; {least} of them take about "
            f"{told_time(each * least + beside)}, "
            f"all of them {told_time(each * plan.steps + beside)}: raise it"
        )
    if steps < plan.steps:
        plan = with_steps(plan, steps, is_most=True)
    write_json(path, asdict(plan))
    return plan


def _steps_worth_scoring(job: TrainJob, prepared: "Prepared", plan: FitPlan, folds: int) -> float:
    # Two networks look at each image that judges; the candidate also at what it was trained on.
    n_judges = sum(item.side == Side.HELD_OUT or folds > 0 for item in job.items)
    diam_mean = prepared.network.config.diam_mean
    areas = [i.labels.size * (diam_mean / i.diameter) ** 2 for i in prepared.images if i.diameter]
    n_fits = min(2 * FITS, len(job.items)) if job.seen.get(job.incumbent.sha256) else 0
    pixels = (2 * n_judges + n_fits) * sum(areas) / max(1, len(areas))
    return float(FORWARD * pixels / (plan.batch_size * plan.crop**2))


def base_network(job: TrainJob, images: Sequence[TrainingImage]) -> CPNet:
    """Return the network that a run starts from, with the diameter of its images.

    Raises
    ------
    TrainingError
        When the weights are not those that the group began with.
    """
    weights = Path(job.base.folder) / "weights.safetensors"
    if file_sha256(weights) != job.base.sha256:
        raise TrainingError(f"{weights} is not the base '{job.base.id}' that the group began with")
    return with_diameters(load_network(weights), diam_labels=mean_diameter(images))


def told_time(seconds: float) -> str:
    """Return a time for people: seconds below two minutes, else minutes."""
    return f"{math.ceil(seconds)} s" if seconds < 120 else f"{math.ceil(seconds / 60)} min"


def shortened(job: TrainJob, plan: FitPlan) -> str:
    """Return the words for a plan that the budget shortened; "": it did not."""
    of = plan_from(job.plan).steps
    return "" if plan.steps == of else f" (retrain.budget allowed {plan.steps} of {of} steps)"
