"""How a network is trained: the schedules of the paper and what else a run is made of.

Each schedule is a function of the epoch. A shorter or longer run stretches it: epoch *e* of *n*
takes the learning rate that the paper has at the same fraction of its own length.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from cellwatch.errors import UsageError


@dataclass(frozen=True, slots=True)
class Schedule:
    """Say how the learning rate runs over the epochs.

    Attributes
    ----------
    epochs : int
        Length in the paper.
    learning_rate : float
        Reached after the warm-up.
    weight_decay : float
    warm_up : int, epochs
        The rate rises linearly from 0 over these.
    anneal_from : int or None, epochs
        From here the rate is halved every `anneal_every` epochs; None: never.
    anneal_every : int, epochs
    """

    epochs: int
    learning_rate: float
    weight_decay: float
    warm_up: int = 10
    anneal_from: int | None = None
    anneal_every: int = 10

    def rate_at(self, epoch: float) -> float:
        """Return the learning rate at an epoch, counted from 0, of the paper's own length.

        Examples
        --------
        >>> SCHEDULES["generalist"].rate_at(5), SCHEDULES["generalist"].rate_at(415)
        (0.1, 0.05)
        """
        if epoch < self.warm_up:
            return self.learning_rate * epoch / self.warm_up
        if self.anneal_from is None or epoch < self.anneal_from:
            return self.learning_rate
        halvings = 1 + math.floor((epoch - self.anneal_from) / self.anneal_every)
        return float(self.learning_rate * 0.5**halvings)


# Pachitariu & Stringer 2022, Methods "Training": the three ways the paper trains.
SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {
        "online": Schedule(epochs=100, learning_rate=0.1, weight_decay=1e-4),
        "offline": Schedule(300, 0.1, 1e-4, anneal_from=250, anneal_every=5),
        "generalist": Schedule(500, 0.2, 1e-5, anneal_from=400, anneal_every=10),
    }
)


LEAST_EPOCHS = 5  # a shorter schedule teaches nothing: its first epoch has a rate of 0
ENOUGH_EPOCHS = 20  # the warm-up, a tenth of `online`, has two of them
FORWARD = 1 / 3  # of a step's time; the way back takes twice as long as the way there


@dataclass(frozen=True, slots=True)
class FitPlan:
    """Fix everything about a training run but its data and the network it starts from.

    Attributes
    ----------
    schedule : str
        A name in `SCHEDULES`.
    epochs : int
        Length of this run; the schedule is stretched to it.
    images_per_epoch : int
        Drawn with replacement when the set has another size.
    batch_size : int
    crop : int, px
    momentum : float
    seed : int
    min_rois : int
        Images with fewer ROIs are left out (and reported).
    is_balanced : bool
        Whether images are drawn so that each cluster has the same probability, whatever its size.
    precision : "float32" or "bfloat16"
        In which the network computes; weights, momentum and loss stay in float32.
    validation : float
        Part of the images that is split off to choose the best epoch by; 0: all images train and
        the weights of the last epoch are the result, as in the paper.
    norm_batches : int
        Batches after the last epoch that no step follows: over them the means and variances of
        the batch normalisation are computed again (Wu & Johnson 2021, arXiv:2105.07576, "precise
        BN"). 0, or with a validation part: they stay the moving averages of the steps.
    intensity : bool
        Whether brightness, contrast, blur and noise of the crops are varied too.
    simulated : float
        Part of the crops that are cut from simulated specimens, each drawn for its crop alone.
    kinds : tuple of str
        Of specimens, all equally often; none: all of `cellwatch.training.specimens.draw.KINDS`.
    """

    schedule: str
    epochs: int
    images_per_epoch: int = 8  # the paper's minimum
    batch_size: int = 8  # the paper's
    crop: int = 224  # Cellpose's code
    momentum: float = 0.9  # Cellpose's code
    seed: int = 0
    min_rois: int = 5  # the paper's
    is_balanced: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    validation: float = 0.0
    norm_batches: int = 20  # as many as the moving averages remember
    intensity: bool = False
    simulated: float = 0.0
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse numbers that no run can have."""
        schedule_named(self.schedule)
        if self.precision not in ("float32", "bfloat16"):
            raise UsageError(f"precision: '{self.precision}' is neither float32 nor bfloat16")
        if not 0 <= self.validation < 1:
            raise UsageError(
                f"validation: {self.validation:g} is not a fraction of the images from 0 to 1"
            )
        if not 0 <= self.simulated <= 1:
            raise UsageError(
                f"simulated: {self.simulated:g} is not a fraction of the crops from 0 to 1"
            )

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch of this run, counted from 0."""
        schedule = schedule_named(self.schedule)
        return schedule.rate_at(epoch * schedule.epochs / self.epochs)

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of batches in an epoch."""
        return math.ceil(self.images_per_epoch / self.batch_size)

    @property
    def steps(self) -> int:
        """Return the number of batches in the run."""
        return self.epochs * self.steps_per_epoch

    @property
    def steps_worth_after(self) -> float:
        """Return how many steps would take as long as what follows the last one."""
        return 0.0 if self.validation else self.norm_batches * FORWARD


def with_steps(
    plan: FitPlan, steps: int, *, is_fixed: bool = False, is_most: bool = False
) -> FitPlan:
    """Return the plan with its schedule stretched to a number of steps.

    Parameters
    ----------
    plan : FitPlan
    steps : int
    is_fixed : bool
        Whether an epoch must be as long as the plan has it. Else it is shortened where there would
        be fewer than `ENOUGH_EPOCHS`: the rate changes between epochs alone, and is 0 in the first.
    is_most : bool
        Whether `steps` are the most there may be; else the last epoch is filled up.

    Raises
    ------
    UsageError
        When they are too few for a schedule.

    Examples
    --------
    >>> plan = with_steps(FitPlan("online", 100, images_per_epoch=200), 100)
    >>> plan.epochs, plan.steps_per_epoch
    (20, 5)
    """
    if not is_fixed and steps // plan.steps_per_epoch < ENOUGH_EPOCHS:
        batches = max(1, steps // ENOUGH_EPOCHS)
        shorter = min(plan.images_per_epoch, batches * plan.batch_size)
        plan = replace(plan, images_per_epoch=shorter)
    each = plan.steps_per_epoch
    epochs = steps // each if is_most else math.ceil(steps / each)
    if epochs < LEAST_EPOCHS:
        raise UsageError(
            f"{steps} steps with {each} an epoch are {epochs} of the {LEAST_EPOCHS} epochs that a "
            f"schedule needs at the least; give it {LEAST_EPOCHS * each} steps or more"
            + (", or fewer images an epoch" if each > 1 else "")
        )
    return replace(plan, epochs=epochs)


def plan_from(facts: Mapping[str, Any]) -> FitPlan:  # Any: JSON
    """Return the plan that `asdict` made facts of, also of an older version with fewer fields."""
    return FitPlan(**{**facts, "kinds": tuple(facts.get("kinds", ()))})


def schedule_named(name: str) -> Schedule:
    """Return a schedule of the paper.

    Raises
    ------
    UsageError
        When there is none of that name.
    """
    if name not in SCHEDULES:
        raise UsageError(f"there is no schedule '{name}'; there are {', '.join(SCHEDULES)}")
    return SCHEDULES[name]
