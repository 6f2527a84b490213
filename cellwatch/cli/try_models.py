"""The command that shows one image under every model."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellwatch.cli.console import JsonOption, print_json, print_table, progress, tell
from cellwatch.cli.segment import (
    ChannelsOption,
    DeviceOption,
    PrecisionOption,
    ZooOption,
    parse_channels,
    resolved,
    station_zoo,
)
from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.errors import CellwatchError, UsageError

if TYPE_CHECKING:
    from cellwatch.config.schema import Watch
    from cellwatch.core.arrays import Float32
    from cellwatch.records import ChannelChoice, ModelChoice
    from cellwatch.workflows.try_models import Trial


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("try")(try_image)


def try_image(
    image: Annotated[Path, typer.Argument(help="One of your images.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File for the picture; else NAME_try.png in this folder."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Only this model; repeatable.")
    ] = None,
    diameter: Annotated[
        str, typer.Option("--diameter", "-d", help="Middle diameter in px; auto: estimated.")
    ] = "auto",
    channels: ChannelsOption = "",
    crop: Annotated[
        int, typer.Option(min=0, help="Side of the central part in px; 0: the whole plane.")
    ] = 512,
    plane: Annotated[int, typer.Option(min=0, help="Plane of a stack or a series, from 0.")] = 0,
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    zoo: ZooOption = None,
) -> None:
    """Segment one of your images with every model at three diameters, and draw the results."""
    from cellwatch.compute.device import choose_device, reuse_small_memory
    from cellwatch.compute.models import ready_chooser, ready_model
    from cellwatch.images import load, n_planes
    from cellwatch.workflows.try_models import (
        FACTORS,
        central_crop,
        estimate_diameter,
        shown_plane,
        try_models,
    )
    from cellwatch.zoo.cards import find_model, list_models
    from cellwatch.zoo.classifiers import require_classifier

    if image.is_dir():
        raise UsageError(f"{image} is a folder; name one image in it")
    target = out or Path(f"{image.stem}_try.png")
    if not target.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {target.absolute().parent} for the picture")
    reuse_small_memory()
    where = choose_device(device)
    choice = parse_channels(channels)
    names = model or [card.id for card in list_models(zoo)]
    places = {name: find_model(name, zoo) for name in names}
    whole = load(image)
    if plane >= n_planes(whole):
        raise UsageError(f"{image} has {n_planes(whole)} planes; there is no plane {plane}")
    part = central_crop(whole, crop, plane)
    chooser = ready_chooser(
        require_classifier("auto", zoo), lambda place: ready_model(place, where)
    )
    params = SegmentationParams(precision=resolved(device, precision))
    estimate, chosen, why = estimate_diameter(part, chooser, choice, params)
    wanted = Diameter.parse(diameter).in_px(whole.info.pixel_size_um) or estimate
    diameters = [round(wanted * factor, 1) for factor in FACTORS]
    with progress("trying", len(names) * len(diameters)) as advance:
        trials = []
        for trial in try_models(
            part, names, lambda name: ready_model(places[name], where), diameters, choice, params
        ):
            trials.append(trial)
            advance()
    suggested = _suggested(trials, chosen, wanted)
    _draw(target, shown_plane(part, choice, chooser.style_model), image.name, trials, suggested)
    has_found = any(trial.n_rois for trial in trials)
    lines = _yaml(suggested, image, choice, places[suggested.model_id].path) if has_found else ""
    _show(trials, suggested, why, lines, target, as_json=as_json)


def _suggested(trials: "list[Trial]", chosen: str, wanted: float) -> "Trial":
    # The model that the style calls for; where it is not among those tried, the least novel one.
    middle = [t for t in trials if abs(t.diameter - wanted) < wanted / 10] or trials
    for trial in middle:
        if trial.model_id == chosen:
            return trial
    return min(middle, key=lambda t: t.novelty if t.novelty is not None else float("inf"))


def doubt_of(suggested: "Trial", trials: "list[Trial]") -> str:
    """Say what speaks against the suggestion: it found nothing, another did; "": nothing does."""
    most = max(trials, key=lambda trial: trial.n_rois)
    if not most.n_rois:
        return (
            "no model found anything at these diameters; show more of the image (--crop 0), or "
            "say how large its cells are (--diameter)"
        )
    if suggested.n_rois:
        return ""
    return (
        f"'{suggested.model_id}' found nothing at {suggested.diameter:g} px, '{most.model_id}' "
        f"{most.n_rois} ROIs at {most.diameter:g} px: is that one better?"
    )


def _draw(
    target: Path, plane: "Float32", name: str, trials: "list[Trial]", suggested: "Trial"
) -> None:
    from cellwatch.storage.previews.contact_sheet import SheetCell, write_contact_sheet

    rows: dict[str, list[SheetCell]] = {}
    for trial in trials:
        novelty = f", novelty {trial.novelty:.1f}" if trial.novelty is not None else ""
        caption = f"{trial.model_id}, {trial.diameter:g} px\n{trial.n_rois} ROIs{novelty}"
        cell = SheetCell(trial.labels, caption, is_marked=trial is suggested)
        rows.setdefault(trial.model_id, []).append(cell)
    write_contact_sheet(target, plane, f"{name}: novelty up to 1 is familiar", list(rows.values()))


def _show(
    trials: "list[Trial]",
    suggested: "Trial",
    why: "ModelChoice",
    lines: str,
    target: Path,
    *,
    as_json: bool,
) -> None:
    if as_json:
        rows = [
            {
                "model": t.model_id,
                "diameter": t.diameter,
                "rois": t.n_rois,
                "found_diameter": round(t.found_diameter, 1),
                "novelty": t.novelty,
                "notes": list(t.notes),
            }
            for t in trials
        ]
        print_json({"trials": rows, "cluster": why.cluster, "yaml": lines, "picture": str(target)})
        return
    rows_shown = [
        [
            f"{t.model_id} *" if t is suggested else t.model_id,
            f"{t.diameter:g}",
            str(t.n_rois),
            f"{t.found_diameter:.1f}",
            "" if t.novelty is None else f"{t.novelty:.2f}",
            "; ".join(t.notes),
        ]
        for t in trials
    ]
    columns = ["model", "diameter px", "ROIs", "found px", "novelty", "notes"]
    print_table("", columns, rows_shown)
    tell(f"its style is that of '{why.cluster}'; look at {target}")
    if why.why:
        tell(why.why)
    if doubt := doubt_of(suggested, trials):
        tell(doubt)
    if lines:
        tell("then write into config.yaml:")
        typer.echo(lines)


def _watch_of(image: Path) -> "Watch | None":
    # Of the station that one works with: the watched folder that holds the image.
    from cellwatch.config.locate import find_config
    from cellwatch.config.parse import read_config

    try:
        watched = read_config(find_config(None)).watch
    except CellwatchError:
        return None  # no station here, or a configuration that is yet to be mended
    real = image.resolve()
    return next((w for w in watched if real.is_relative_to(w.folder.resolve())), None)


def _yaml(trial: "Trial", image: Path, choice: "ChannelChoice", model: Path) -> str:
    from cellwatch.zoo.cards import BUILTIN

    # JSON strings are YAML strings too: a folder's name may hold anything.
    watched = _watch_of(image.absolute())
    at_hand = (BUILTIN, station_zoo(None))  # a station finds these by their name
    is_at_hand = any(zoo and model.absolute().is_relative_to(zoo.absolute()) for zoo in at_hand)
    copy = [] if is_at_hand else [f"    # copy {model} into the station's state/models"]
    fed = {key: value for key, value in asdict(choice).items() if value is not None}
    keys = [
        f"    model: {json.dumps(trial.model_id)}",
        f"    diameter: {trial.diameter:g} px  # as in this image; auto measures each one",
        *([f"    channels: {json.dumps(fed)}"] if fed else []),
    ]
    if watched is not None:
        head = f"# keys of the watch '{watched.name}', which holds the image; its others stay"
        folder = f"  - folder: {json.dumps(str(watched.folder))}  # as it is there"
        return "\n".join([head, folder, *copy, *keys]) + "\n"
    head = "# another entry of the list below watch:; the entries there stay"
    folder = f"  - folder: {json.dumps(str(image.absolute().parent))}"
    return "\n".join([head, folder, *copy, *keys]) + "\n"
