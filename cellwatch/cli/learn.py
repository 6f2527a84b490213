"""Commands on models: train, evaluate, compare, models."""

import re
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cellwatch.cli.images import (
    ChannelsOption,
    DeviceOption,
    ModelOption,
    ZooOption,
    load_for,
    parse_channels,
)
from cellwatch.cli.talk import JsonOption, print_json, print_table, progress, tell
from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.errors import UsageError
from cellwatch.training.plans import SCHEDULES, FitPlan

if TYPE_CHECKING:
    import torch

    from cellwatch.daemon.learning import Prepared
    from cellwatch.daemon.runs import RunRequest
    from cellwatch.training.evaluate import ImageScore

_TIME = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h)\s*$")
_SECONDS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}

TELL_EVERY_S = 60.0


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(train)
    app.command()(evaluate)
    app.command()(compare)


def train(
    data: Annotated[
        list[Path] | None, typer.Option(help="Folder of images and masks; may be repeated.")
    ] = None,
    start: Annotated[str, typer.Option("--from", help="The model to start from, or scratch.")] = "",
    schedule: Annotated[str, typer.Option(help=f"One of {', '.join(SCHEDULES)}.")] = "online",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run folder.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Batches in all; the schedule is scaled to it.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time, as in 90 min; the schedule is scaled to it.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    channels: ChannelsOption = "",
    images_per_epoch: Annotated[int | None, typer.Option(min=1)] = None,
    diam_mean: Annotated[
        float, typer.Option(help="Network diameter, px, when from scratch (nuclei: 17).")
    ] = 30.0,
    min_rois: Annotated[
        int | None, typer.Option(min=0, help="Leave out images with fewer ROIs.")
    ] = None,
    balanced: Annotated[
        bool, typer.Option("--balanced", help="Draw from each --data with the same probability.")
    ] = False,
    validation: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Part of the images to choose the best epoch by."),
    ] = 0.0,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        typer.Option(help="auto: bfloat16 on CUDA, else float32."),
    ] = "auto",
    flow_cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps flow targets between runs.")
    ] = None,
    seed: Annotated[int, typer.Option()] = 0,
    model_id: Annotated[str, typer.Option("--id", help="Name for the card.")] = "",
    licence: Annotated[
        list[str] | None, typer.Option(help="Of the data, for the card: one, or one for each.")
    ] = None,
    test: Annotated[
        list[Path] | None,
        typer.Option(help="Folder to score the result on, for the card; repeatable."),
    ] = None,
    device: DeviceOption = "auto",
    zoo: ZooOption = None,
) -> None:
    """Train a network on images and masks; the run folder becomes a model folder."""
    from cellwatch.daemon.device import choose_device, keep_freed_memory, precision_on
    from cellwatch.daemon.learning import count_images, prepare
    from cellwatch.daemon.scoring import check_tests

    keep_freed_memory()
    chosen = choose_device(device)
    if resume is not None:
        others = (data, start, out, steps, budget, test, licence, validation, balanced, channels)
        request, folder = _resumed(resume, has_others=any(others)), resume
    elif not data or not start or out is None:
        raise UsageError("--data, --from and --out are needed (or --resume)")
    elif steps and budget:
        raise UsageError("give --steps or --budget, not both")
    else:
        folder = out
        plan = replace(
            _plan(schedule, count_images(data), images_per_epoch, min_rois, seed),
            is_balanced=balanced,
            validation=validation,
            precision=precision_on(chosen, precision),
        )
        request = replace(
            _request(data, start, plan, channels, diam_mean, model_id or out.name, zoo),
            licences=_licences(licence or [], len(data)),
            tests=tuple(str(folder.absolute()) for folder in test or []),
        )
        check_tests(data, test or [], request.channels)
        request = _with_steps(request, steps) if steps else request
    with progress("preparing", count_images([Path(d) for d in request.data])) as advance:
        prepared = prepare(request, advance, flow_cache)
    if budget:
        from cellwatch.daemon.learning import steps_within

        seconds = _seconds(budget)
        request = _with_steps(request, steps_within(prepared, request.plan, seconds, chosen))
    folder.mkdir(parents=True, exist_ok=True)
    _fit(request, prepared, folder, chosen)


def evaluate(
    data: Annotated[Path, typer.Option(help="Folder of images and masks.")],
    model: ModelOption = "nuclei",
    diameter: Annotated[
        str,
        typer.Option(
            "--diameter", "-d", help="truth (each image's own), train-mean (or model), auto, or px."
        ),
    ] = "auto",
    channels: ChannelsOption = "",
    flow_threshold: Annotated[float, typer.Option()] = 0.4,
    cellprob_threshold: Annotated[float, typer.Option()] = 0.0,
    per_image: Annotated[bool, typer.Option(help="Also each image's scores.")] = False,
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    zoo: ZooOption = None,
) -> None:
    """Score a model on images that it was not trained on."""
    from cellwatch.daemon.learning import count_images
    from cellwatch.daemon.scoring import evaluate_folder

    is_true = diameter == "truth"
    is_mean = is_true or diameter == "train-mean"
    params = SegmentationParams(
        diameter=Diameter("model") if is_mean else Diameter.parse(diameter),
        flow_threshold=flow_threshold,
        cellprob_threshold=cellprob_threshold,
    )
    n_images = count_images([data])
    ready = load_for(model, zoo, device)
    with progress("evaluating", n_images) as advance:
        scored = evaluate_folder(
            data,
            ready,
            params,
            parse_channels(channels),
            is_true_diameter=is_true,
            on_image=advance,
        )
    about = {"model": ready.card.id, "diameter": diameter}
    used = Counter(one.model_id for one in scored)
    if len(used) > 1 or ready.card.id not in used:
        about["chosen"] = ", ".join(f"{name} {n}" for name, n in used.most_common())
    _show_scores([one.score for one in scored], about, as_json, per_image)


def compare(
    predicted: Annotated[Path, typer.Argument(help="Folder of label images.")],
    truth: Annotated[Path, typer.Argument(help="Folder of the true label images.")],
    per_image: Annotated[bool, typer.Option(help="Also each image's scores.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Score label images of any tool against the truth, matched by name."""
    from cellwatch.daemon.scoring import compare_folders

    _show_scores(compare_folders(predicted, truth), {}, as_json, per_image)


def _resumed(folder: Path, *, has_others: bool) -> "RunRequest":
    from cellwatch.daemon.runs import RunRequest

    if has_others:
        raise UsageError("--resume goes on with the run as it was begun; give nothing else")
    request = RunRequest.read(folder)
    if request.cluster:
        raise UsageError(
            f"{folder} is the cluster '{request.cluster}' of a zoo; go on with: "
            "cellwatch zoo build, with the options it had"
        )
    return request


def _request(
    data: list[Path],
    start: str,
    plan: FitPlan,
    channels: str,
    diam_mean: float,
    model_id: str,
    zoo: Path | None,
) -> "RunRequest":
    from cellwatch.daemon.runs import RunRequest

    return RunRequest(
        data=tuple(str(folder.absolute()) for folder in data),
        start=start,
        plan=plan,
        channels=parse_channels(channels),
        diam_mean=diam_mean,
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
    from cellwatch.daemon.learning import default_plan

    plan = default_plan(schedule, n_images)
    least = min_rois if min_rois is not None else 1 if schedule == "online" else 5
    return replace(
        plan,
        seed=seed,
        min_rois=least,
        images_per_epoch=images_per_epoch or plan.images_per_epoch,
    )


def _with_steps(request: "RunRequest", steps: int) -> "RunRequest":
    from cellwatch.daemon.learning import epochs_for

    return replace(request, plan=replace(request.plan, epochs=epochs_for(steps, request.plan)))


def _fit(request: "RunRequest", prepared: "Prepared", folder: Path, device: "torch.device") -> None:
    from cellwatch.daemon.learning import train as run_training

    plan = request.plan
    if prepared.left_out:
        names = ", ".join(Path(image.name).name for image in prepared.left_out[:5])
        few = f"{len(prepared.left_out)} images with fewer than {plan.min_rois} ROIs"
        tell(f"left out {few}: {names}")
    tell(
        f"{len(prepared.images)} images, {plan.epochs} epochs of {plan.steps_per_epoch} steps, "
        f"schedule {plan.schedule}"
    )
    last = None
    tell_at = 0.0 if not sys.stderr.isatty() else float("inf")  # a terminal has its bar
    with progress("training", plan.steps) as advance:
        for report in run_training(request, prepared, folder, device, advance, tell):
            last = report
            if time.monotonic() >= tell_at:
                tell(f"epoch {report.epoch + 1} of {plan.epochs}, loss {report.loss:.4f}")
                tell_at = time.monotonic() + TELL_EVERY_S
    if last:
        tell(f"{folder} is a model now: {last.step} steps, loss {last.loss:.4f}")


def _seconds(text: str) -> float:
    match = _TIME.match(text)
    if not match:
        raise UsageError(f"--budget: '{text}' is no time; write 90 min or 8 h")
    return float(match[1]) * _SECONDS[match[2]]


def _show_scores(
    scores: list["ImageScore"], about: dict[str, str], as_json: bool, per_image: bool
) -> None:
    from cellwatch.core.matching import IOU_THRESHOLDS
    from cellwatch.training.evaluate import summarise

    summary = summarise(scores)
    rows = [
        {
            "name": score.name,
            "ap": {f"{t:g}": round(v, 6) for t, v in score.average_precision.items()},
            "rois": {"true": score.rois_true, "found": score.rois_found},
        }
        for score in scores
    ]
    if as_json:
        print_json({**about, **summary.to_json(), **({"per_image": rows} if per_image else {})})
        return
    for key, value in about.items():
        tell(f"{key}: {value}")
    columns = ["image", "true", "found", *(f"AP@{t:g}" for t in IOU_THRESHOLDS)]
    shown = scores if per_image else []
    body = [
        [
            s.name,
            str(s.rois_true),
            str(s.rois_found),
            *(f"{s.average_precision[t]:.3f}" for t in IOU_THRESHOLDS),
        ]
        for s in shown
    ]
    means = [f"{summary.average_precision[t]:.3f}" for t in IOU_THRESHOLDS]
    body.append(
        [f"mean of {summary.images}", str(summary.rois_true), str(summary.rois_found), *means]
    )
    spans = [summary.intervals[t] for t in IOU_THRESHOLDS]
    body.append(["95 % interval", "", "", *(f"{low:.3f}–{high:.3f}" for low, high in spans)])
    print_table("", columns, body)
    tell(
        f"mean AP@0.5:0.95 {summary.mean_average_precision:.3f}, F1@0.5 {summary.f1[0.5]:.3f}, "
        f"mean IoU of matched ROIs {summary.matched_iou:.3f}"
    )
    if summary.both_empty:
        tell(f"{summary.both_empty} images are empty in truth and prediction; each counts as 1")
