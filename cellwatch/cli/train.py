"""The command that trains a network on folders of images and masks."""

import os
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellwatch.cli.console import complain, counted, progress, tell
from cellwatch.cli.segment import ChannelsOption, DeviceOption, PrecisionOption, ZooOption
from cellwatch.cli.train_options import TrainOptions
from cellwatch.errors import UsageError
from cellwatch.training.plans import LEAST_EPOCHS, SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from cellwatch.training.checkpoint import EpochReport
    from cellwatch.training.dataset import TrainingImage
    from cellwatch.workflows.run_request import RunRequest
    from cellwatch.workflows.train import Prepared

TELL_EVERY_S = 60.0
NAMED_AT_MOST = 5  # images
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
    from cellwatch.workflows.train import count_images, find_start, prepare, within_budget

    options = TrainOptions.of(context)
    keep_freed_memory()
    chosen, seconds = choose_device(options.device), options.seconds
    if options.resume is not None:
        request, folder = _resumed(options.resume, options), options.resume
    else:
        request = options.request(precision_on(chosen, options.precision))
        folder = Path(str(options.out))
        find_start(request)
        check_tests(list(options.data), list(options.test), request.channels)
    check_folder(folder, request, has_plan=seconds is None)
    with progress("preparing", count_images([Path(d) for d in request.data])) as advance:
        prepared = prepare(request, advance, options.flow_cache)
    if seconds is not None:
        is_fixed = options.is_fixed
        plan = within_budget(prepared, request.plan, seconds, chosen, is_fixed=is_fixed)
        request = replace(request, plan=plan)
    folder.mkdir(parents=True, exist_ok=True)
    _fit(request, prepared, folder, chosen)


def _resumed(folder: Path, options: TrainOptions) -> "RunRequest":
    from cellwatch.workflows.run_request import RunRequest

    if options.given:
        raise UsageError(
            f"--resume continues the run as it was begun; leave {', '.join(sorted(options.given))} "
            "out"
        )
    request = RunRequest.read(folder)
    if request.cluster:
        raise UsageError(
            f"{folder} is the cluster '{request.cluster}' of a zoo; continue with: "
            "cellwatch zoo build, with the options it had"
        )
    return request


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
    # As a shell takes it; as a path: so that it is not an id.
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
