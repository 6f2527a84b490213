"""What a person said to `cellwatch train`: checked, and turned into a request."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from cellwatch.cli.segment import parse_channels
from cellwatch.errors import UsageError
from cellwatch.training.plans import FitPlan, with_steps

if TYPE_CHECKING:
    from cellwatch.workflows.run_request import RunRequest

_TIME = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h)\s*$")
_SECONDS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
ALSO_ON_RESUME = {"resume", "device", "flow_cache"}
DIAM_MEAN = 30.0  # px; the paper's, for cells

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """The options of `train`, under the names of its parameters.

    Attributes
    ----------
    given : frozenset of str
        The options that stood on the command line, as they are typed.
    others
        As the help of `cellwatch train` says.
    """

    data: tuple[Path, ...]
    start: str
    schedule: str
    out: Path | None
    steps: int | None
    budget: str | None
    resume: Path | None
    channels: str
    images_per_epoch: int | None
    diam_mean: float | None
    min_rois: int | None
    balanced: bool
    validation: float
    simulated: float
    kind: tuple[str, ...]
    vary_intensities: bool
    precision: Literal["auto", "float32", "bfloat16"]
    flow_cache: Path | None
    seed: int
    model_id: str
    about: str
    licence: tuple[str, ...]
    test: tuple[Path, ...]
    device: Literal["auto", "cpu", "cuda"]
    zoo: Path | None
    given: frozenset[str]

    @classmethod
    def of(cls, context: typer.Context) -> "TrainOptions":
        """Take them from a command that is run."""
        given = {
            parameter.opts[0]
            for parameter in context.command.params
            if parameter.name not in ALSO_ON_RESUME
            and (source := context.get_parameter_source(str(parameter.name)))
            and source.name == "COMMANDLINE"
        }
        said = dict(context.params)
        lists = {name: tuple(said[name] or ()) for name in ("data", "kind", "licence", "test")}
        paths = {name: Path(said[name]) if said[name] else None for name in PATHS}
        return cls(**{**said, **lists, **paths, "given": frozenset(given)})

    @property
    def seconds(self) -> float | None:
        """Return how long the training may take; None: as long as its plan asks.

        Raises
        ------
        UsageError
            When the text is not a time.
        """
        if not self.budget:
            return None
        match = _TIME.match(self.budget)
        if not match:
            raise UsageError(f"--budget: '{self.budget}' is not a time; write 90 min or 8 h")
        return float(match[1]) * _SECONDS[match[2]]

    @property
    def is_fixed(self) -> bool:
        """Say whether the images of an epoch were chosen."""
        return self.images_per_epoch is not None

    def request(self, precision: Precision) -> "RunRequest":
        """Return what the run is to be.

        Raises
        ------
        UsageError
            When options are missing, or do not go together.
        """
        from cellwatch.workflows.run_request import RunRequest
        from cellwatch.workflows.train import SCRATCH

        if not self.data or not self.start or self.out is None:
            raise UsageError("--data, --from and --out are needed (or --resume)")
        if self.steps and self.budget:
            raise UsageError("give --steps or --budget, not both")
        if self.diam_mean and self.start != SCRATCH:
            raise UsageError(f"--diam-mean is for --from {SCRATCH}; '{self.start}' has its own")
        return RunRequest(
            data=_absolute(self.data),
            start=self.start,
            plan=self._plan(precision),
            channels=parse_channels(self.channels),
            diam_mean=(self.diam_mean or DIAM_MEAN) if self.start == SCRATCH else 0.0,
            licences=self._licences(),
            model_id=self.model_id or self.out.name,
            zoo=str(self.zoo.absolute()) if self.zoo else None,
            tests=_absolute(self.test),
            about=self.about,
        )

    def _plan(self, precision: Precision) -> FitPlan:
        from cellwatch.workflows.train import count_images, default_plan

        plan = default_plan(self.schedule, count_images(list(self.data)))
        least = self.min_rois if self.min_rois is not None else _least_rois(self.schedule)
        plan = replace(
            plan,
            seed=self.seed,
            min_rois=least,
            images_per_epoch=self.images_per_epoch or plan.images_per_epoch,
            is_balanced=self.balanced,
            validation=self.validation,
            precision=precision,
            simulated=self.simulated,
            kinds=self._kinds(),
            intensity=self.vary_intensities,
        )
        return with_steps(plan, self.steps, is_fixed=self.is_fixed) if self.steps else plan

    def _kinds(self) -> tuple[str, ...]:
        from cellwatch.training.specimens.draw import KINDS

        if unknown := [name for name in self.kind if name not in KINDS]:
            raise UsageError(f"there is no kind '{unknown[0]}'; there are {', '.join(KINDS)}")
        return self.kind

    def _licences(self) -> tuple[str, ...]:
        n_folders = len(self.data)
        if len(self.licence) not in (0, 1, n_folders):
            raise UsageError(
                f"{len(self.licence)} --licence for {n_folders} --data: give one, or one for each"
            )
        return (
            self.licence if len(self.licence) == n_folders else (self.licence or ("",)) * n_folders
        )


PATHS = ("out", "resume", "flow_cache", "zoo")


def _least_rois(schedule: str) -> int:
    return 1 if schedule == "online" else 5


def _absolute(folders: tuple[Path, ...]) -> tuple[str, ...]:
    return tuple(str(folder.absolute()) for folder in folders)
