"""Commands that score: evaluate, compare."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellwatch.cli.console import JsonOption, counted, print_json, print_table, progress, tell
from cellwatch.cli.segment import (
    ChannelsOption,
    DeviceOption,
    ModelOption,
    PrecisionOption,
    ZooOption,
    load_for,
    parse_channels,
    resolved,
)
from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.errors import ParameterError, UsageError

if TYPE_CHECKING:
    from cellwatch.training.evaluate import ImageScore


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(evaluate)
    app.command()(compare)


def evaluate(
    data: Annotated[Path, typer.Option(help="Folder of images and masks.")],
    model: ModelOption = "auto",
    diameter: Annotated[
        str,
        typer.Option(
            "--diameter",
            "-d",
            help="truth (of each image), train-mean (of the model), auto, px or um.",
        ),
    ] = "auto",
    channels: ChannelsOption = "",
    flow_threshold: Annotated[
        float, typer.Option(min=0, help="Drop ROIs with a larger flow error; 0: keep all.")
    ] = 0.4,
    cellprob_threshold: Annotated[
        float, typer.Option(help="Pixels above this logit belong to an ROI.")
    ] = 0.0,
    per_image: Annotated[bool, typer.Option(help="Also show the scores of each image.")] = False,
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    zoo: ZooOption = None,
) -> None:
    """Score a model on images that it was not trained on."""
    from cellwatch.workflows.evaluate import evaluate_folder
    from cellwatch.workflows.train import count_images

    is_true = diameter == "truth"
    is_mean = is_true or diameter == "train-mean"
    params = SegmentationParams(
        diameter=Diameter("model") if is_mean else _diameter(diameter),
        flow_threshold=flow_threshold,
        cellprob_threshold=cellprob_threshold,
        precision=resolved(device, precision),
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
    about: dict[str, str | float] = {
        "model": ready.card.id,
        "diameter": diameter,
        "flow_threshold": flow_threshold,
        "cellprob_threshold": cellprob_threshold,
        "precision": params.precision,
    }
    used = Counter(one.model_id for one in scored)
    if len(used) > 1 or ready.card.id not in used:
        about["chosen"] = ", ".join(f"{name} {n}" for name, n in used.most_common())
    _show_scores([one.score for one in scored], about, as_json, per_image)


def compare(
    predicted: Annotated[Path, typer.Argument(help="Folder of label images.")],
    truth: Annotated[Path, typer.Argument(help="Folder of the true label images.")],
    per_image: Annotated[bool, typer.Option(help="Also show the scores of each image.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Score label images of any tool against the truth, matched by name."""
    from cellwatch.workflows.evaluate import compare_folders, without_truth

    scores = compare_folders(predicted, truth)
    if surplus := without_truth(predicted, truth):
        few = f"{counted(len(surplus), 'label image')} without a truth"
        tell(f"left out {few}: {', '.join(surplus[:5])}{', …' if len(surplus) > 5 else ''}")
    _show_scores(scores, {}, as_json, per_image)


def _diameter(text: str) -> Diameter:
    try:
        return Diameter.parse(text)
    except ParameterError as error:
        raise UsageError(
            f"--diameter: '{text}' is not truth, train-mean, auto, or a "
            "length such as 30 px or 18 um"
        ) from error


def _show_scores(
    scores: list["ImageScore"], about: Mapping[str, str | float], as_json: bool, per_image: bool
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
        tell(f"{key.replace('_', ' ')}: {value}")
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
        "mean IoU of matched ROIs "
        + ("–" if math.isnan(summary.matched_iou) else f"{summary.matched_iou:.3f}")
    )
    if summary.both_empty:
        tell(f"{summary.both_empty} images are empty in truth and prediction; each scores 1")
