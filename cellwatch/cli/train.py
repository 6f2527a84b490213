"""The command that trains a network on folders of images and masks."""

import os
import re
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellwatch.cli.console import complain, counted, progress, tell
from cellwatch.cli.segment import (
    ChannelsOption,
    DeviceOption,
    PrecisionOption,
    ZooOption,
    parse_channels,
)
from cellwatch.errors import UsageError
from cellwatch.training.plans import LEAST_EPOCHS, SCHEDULES, FitPlan, with_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from cellwatch.training.checkpoint import EpochReport
    from cellwatch.training.dataset import TrainingImage
    from cellwatch.workflows.run_request import RunRequest
    from cellwatch.workflows.train import Prepared

_TIME = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h)\s*$")
_SECONDS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
ALSO_ON_RESUME = {"resume", "device", "flow_cache"}
TELL_EVERY_S = 60.0
NAMED_AT_MOST = 5  # images
DIAM_MEAN = 30.0  # px; the paper's, for cells


FEW_ROIS = 5  # with fewer, masks may fit elsewhere by chance


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(train)


def train(
    context: typer.Context,
    data: Annotated[
        list[Path] | None, typer.Option(help="Folder of images and masks; may be repeated.")
    ] = None,
    start: Annotated[str, typer.Option("--from", help="The model to start from, or scratch.")] = "",
    schedule: Annotated[str, typer.Option(help=f"One of {', '.join(SCHEDULES)}.")] = "online",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run folder.")] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=LEAST_EPOCHS,
            help="Number of batches, rounded up to whole epochs; the schedule is scaled to it.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Length of the training, such as 90 min; the schedule is scaled to it."),
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder.")] = None,
    channels: ChannelsOption = "",
    images_per_epoch: Annotated[
        int | None,
        typer.Option(min=1, help="Images per epoch; else all, at least 8, fewer in a short run."),
    ] = None,
    diam_mean: Annotated[
        float | None,
        typer.Option(
            min=1, help="Network diameter in px when training from scratch: 30 (nuclei: 17)."
        ),
    ] = None,
    min_rois: Annotated[
        int | None, typer.Option(min=0, help="Leave out images with fewer ROIs.")
    ] = None,
    balanced: Annotated[
        bool, typer.Option("--balanced", help="Draw from each --data folder equally often.")
    ] = False,
    validation: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Fraction of the images that chooses the best epoch."),
    ] = 0.0,
    simulated: Annotated[
        float,
        typer.Option(min=0, max=1, help="Fraction of the crops taken from simulated specimens."),
    ] = 0.0,
    kind: Annotated[
        list[str] | None, typer.Option(help="Kind of specimen; repeatable. Without it: all kinds.")
    ] = None,
    vary_intensities: Annotated[
        bool,
        typer.Option("--vary-intensities", help="Also vary brightness, contrast, blur and noise."),
    ] = False,
    precision: PrecisionOption = "auto",
    flow_cache: Annotated[
        Path | None, typer.Option(help="Folder that caches flow targets between runs.")
    ] = None,
    seed: Annotated[int, typer.Option()] = 0,
    model_id: Annotated[str, typer.Option("--id", help="Id on the model card.")] = "",
    about: Annotated[
        str, typer.Option(help="What the model is for, in one line, for its card.")
    ] = "",
    licence: Annotated[
        list[str] | None,
        typer.Option(help="Licence of the data, for the card: one for all, or one for each."),
    ] = None,
    test: Annotated[
        list[Path] | None,
        typer.Option(help="Folder to score the model on, for its card; repeatable."),
    ] = None,
    device: DeviceOption = "auto",
    zoo: ZooOption = None,
) -> None:
    """Train a network on images and masks; the run folder becomes a model folder."""
    from cellwatch.compute.device import choose_device, keep_freed_memory, precision_on
    from cellwatch.workflows.evaluate import check_tests
    from cellwatch.workflows.run_request import check_folder
    from cellwatch.workflows.train import SCRATCH, count_images, find_start, prepare, within_budget

    keep_freed_memory()
    chosen = choose_device(device)
    seconds = _seconds(budget) if budget else None
    is_fixed = images_per_epoch is not None
    if resume is not None:
        request, folder = _resumed(resume, context), resume
    elif not data or not start or out is None:
        raise UsageError("--data, --from and --out are needed (or --resume)")
    elif steps and budget:
        raise UsageError("give --steps or --budget, not both")
    elif diam_mean and start != SCRATCH:
        raise UsageError(f"--diam-mean is for --from {SCRATCH}; '{start}' has its own")
    else:
        folder = out
        plan = replace(
            _plan(schedule, count_images(data), images_per_epoch, min_rois, seed),
            is_balanced=balanced,
            validation=validation,
            precision=precision_on(chosen, precision),
            simulated=simulated,
            kinds=_kinds(kind or []),
            intensity=vary_intensities,
        )
        plan = with_steps(plan, steps, is_fixed=is_fixed) if steps else plan
        request = replace(
            _request(data, start, plan, channels, diam_mean, model_id or out.name, zoo),
            licences=_licences(licence or [], len(data)),
            tests=tuple(str(folder.absolute()) for folder in test or []),
            about=about,
        )
        find_start(request)
        check_tests(data, test or [], request.channels)
    check_folder(folder, request, has_plan=seconds is None)
    with progress("preparing", count_images([Path(d) for d in request.data])) as advance:
        prepared = prepare(request, advance, flow_cache)
    if seconds is not None:
        plan = within_budget(prepared, request.plan, seconds, chosen, is_fixed=is_fixed)
        request = replace(request, plan=plan)
    folder.mkdir(parents=True, exist_ok=True)
    _fit(request, prepared, folder, chosen)


def _kinds(said: list[str]) -> tuple[str, ...]:
    from cellwatch.training.specimens.draw import KINDS

    if unknown := [name for name in said if name not in KINDS]:
        raise UsageError(f"there is no kind '{unknown[0]}'; there are {', '.join(KINDS)}")
    return tuple(said)


def _resumed(folder: Path, context: typer.Context) -> "RunRequest":
    from cellwatch.workflows.run_request import RunRequest

    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in ALSO_ON_RESUME
        and (source := context.get_parameter_source(str(parameter.name)))
        and source.name == "COMMANDLINE"
    ]
    if given:
        raise UsageError(
            f"--resume continues the run as it was begun; leave {', '.join(given)} out"
        )
    request = RunRequest.read(folder)
    if request.cluster:
        raise UsageError(
            f"{folder} is the cluster '{request.cluster}' of a zoo; continue with: "
            "cellwatch zoo build, with the options it had"
        )
    return request


def _request(
    data: list[Path],
    start: str,
    plan: FitPlan,
    channels: str,
    diam_mean: float | None,
    model_id: str,
    zoo: Path | None,
) -> "RunRequest":
    from cellwatch.workflows.run_request import RunRequest
    from cellwatch.workflows.train import SCRATCH

    return RunRequest(
        data=tuple(str(folder.absolute()) for folder in data),
        start=start,
        plan=plan,
        channels=parse_channels(channels),
        diam_mean=(diam_mean or DIAM_MEAN) if start == SCRATCH else 0.0,
        licences=("",) * len(data),
        model_id=model_id,
        zoo=str(zoo.absolute()) if zoo else None,
    )


def _licences(said: list[str], n_folders: int) -> tuple[str, ...]:
    if len(said) not in (0, 1, n_folders):
        raise UsageError(f"{len(said)} --licence for {n_folders} --data: give one, or one for each")
    return tuple(said) if len(said) == n_folders else tuple(said or [""]) * n_folders


def _plan(
    schedule: str, n_images: int, images_per_epoch: int | None, min_rois: int | None, seed: int
) -> FitPlan:
    from cellwatch.workflows.train import default_plan

    plan = default_plan(schedule, n_images)
    least = min_rois if min_rois is not None else 1 if schedule == "online" else 5
    return replace(
        plan,
        seed=seed,
        min_rois=least,
        images_per_epoch=images_per_epoch or plan.images_per_epoch,
    )


def _fit(request: "RunRequest", prepared: "Prepared", folder: Path, device: "torch.device") -> None:
    from cellwatch.training.checkpoint import CHECKPOINT
    from cellwatch.zoo.cards import RUN

    plan = request.plan
    _tell_left_out(prepared.left_out, f"with fewer than {counted(plan.min_rois, 'ROI')}")
    _tell_left_out(prepared.flat, "in which nothing is to be seen (percentiles 1 and 99 are equal)")
    _tell_elsewhere(prepared.images)
    tell(
        f"{counted(len(prepared.images), 'image')}, {counted(plan.epochs, 'epoch')} of "
        f"{counted(plan.steps_per_epoch, 'step')}, schedule {plan.schedule}"
    )
    try:
        last = _run(request, prepared, folder, device)
    except KeyboardInterrupt:
        if (folder / RUN).exists():
            is_kept = (folder / CHECKPOINT).exists()
            tell(
                f"stopped {'after a' if is_kept else 'before its first'} checkpoint, of which one "
                f"is written each minute; continue it: cellwatch train --resume {_quoted(folder)}"
            )
        raise
    if last:
        tell(f"{folder} is a model now: {counted(last.step, 'step')}, loss {last.loss:.4f}")
        named = f"cellwatch models add {_quoted(folder)} --id ID"
        tell(f"use it: --model {_quoted(folder, is_path=True)}, or name it: {named}")


def _quoted(folder: Path, *, is_path: bool = False) -> str:
    # As a shell takes it; as a path: so that it is no id.
    text = str(folder)
    return shlex.quote(f".{os.sep}{text}" if is_path and os.sep not in text else text)


def _tell_left_out(images: "Sequence[TrainingImage]", why: str) -> None:
    if images:
        names = ", ".join(Path(image.name).name for image in images[:NAMED_AT_MOST])
        more = ", … (the card names all)" if len(images) > NAMED_AT_MOST else ""
        tell(f"left out {counted(len(images), 'image')} {why}: {names}{more}")


def _tell_elsewhere(images: "Sequence[TrainingImage]") -> None:
    # Masks that were saved transposed have the shape of a square image all the same.
    from cellwatch.core.alignment import alignment

    for image in images:
        if image.n_rois < FEW_ROIS:
            continue
        fit = alignment(image.plane, image.labels)
        if fit.is_elsewhere:
            complain(
                f"{image.name}: its masks would fit the image far better {fit.told}; they are "
                "trained on as they are: look at both together"
            )


def _run(
    request: "RunRequest", prepared: "Prepared", folder: Path, device: "torch.device"
) -> "EpochReport | None":
    from cellwatch.workflows.train import train as run_training

    plan = request.plan
    last = None
    tell_at = 0.0 if not sys.stderr.isatty() else float("inf")  # a terminal has its bar
    with progress("training", plan.steps) as advance:
        for report in run_training(request, prepared, folder, device, advance, tell):
            last = report
            if time.monotonic() >= tell_at:
                tell(f"epoch {report.epoch + 1} of {plan.epochs}, loss {report.loss:.4f}")
                tell_at = time.monotonic() + TELL_EVERY_S
    return last


def _seconds(text: str) -> float:
    match = _TIME.match(text)
    if not match:
        raise UsageError(f"--budget: '{text}' is no time; write 90 min or 8 h")
    return float(match[1]) * _SECONDS[match[2]]
