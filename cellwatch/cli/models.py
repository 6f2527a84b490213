"""Commands on models: list, show, pull, add, export."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cellwatch.cli.console import JsonOption, byte_progress, print_json, print_table, tell
from cellwatch.cli.model_decisions import models_history, models_promote, models_rollback
from cellwatch.cli.segment import ZooOption
from cellwatch.errors import DownloadError, UsageError
from cellwatch.zoo.cards import (
    BUILTIN,
    PUBLISHED_PREFIX,
    check_weights,
    find_model,
    list_models,
    read_card,
    user_zoo,
)

if TYPE_CHECKING:
    from cellwatch.zoo.fetchable import Published

models_app = typer.Typer(help="List, show, download, add and export models.", no_args_is_help=True)


models_app.command("history")(models_history)
models_app.command("promote")(models_promote)
models_app.command("rollback")(models_rollback)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(models_app, name="models")


@models_app.command("list")
def models_list(as_json: JsonOption = False, zoo: ZooOption = None) -> None:
    """List the models that have an id."""
    cards = list_models(zoo)
    if as_json:
        print_json([asdict(card) for card in cards])
        return
    rows = [
        [
            card.id,
            f"{card.diam_labels:.1f}",
            ", ".join(card.channels),
            str(card.steps),
            card.parent or "scratch",
            card.sha256[:12],
            card.about,
        ]
        for card in cards
    ]
    print_table("", ["id", "diameter px", "channels", "steps", "from", "sha256", "for"], rows)


@models_app.command("show")
def models_show(
    model: Annotated[str, typer.Argument(help="Model id or model folder.")],
    as_json: JsonOption = False,
    zoo: ZooOption = None,
) -> None:
    """Show a model's card."""
    place = find_model(model, zoo)
    if not place.is_checkpoint:
        check_weights(place)
    card = asdict(place.card)
    if as_json:
        print_json(card)
        return
    print_table("", ["", place.card.id], [[key, _plain(value)] for key, value in card.items()])


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@models_app.command("pull")
def models_pull(
    name: Annotated[str, typer.Argument(help="Published model such as cyto2, or style_choice.")],
    zoo: ZooOption = None,
    mirror: Annotated[str | None, typer.Option(help="URL of a folder with the same files.")] = None,
    from_file: Annotated[
        Path | None, typer.Option(help="The file itself, for machines without a network.")
    ] = None,
    size_file: Annotated[
        Path | None, typer.Option(help="With --from-file: its size model, size_*.npy.")
    ] = None,
) -> None:
    """Download a model of Cellpose's published zoo. Its id is cellpose/NAME.

    `style_choice` downloads the published ensemble: cellpose/auto and all its models.
    """
    from cellwatch.zoo.fetchable import STYLE_CHOICE
    from cellwatch.zoo.published import SITE

    if size_file and not from_file:
        raise UsageError("--size-file goes with --from-file")
    root = zoo or user_zoo()
    address = mirror or SITE
    if name == STYLE_CHOICE:
        _pull_choice(root, address, from_file)
    else:
        _pull_model(name, root, address, from_file, size_file)


@models_app.command("add")
def models_add(
    source: Annotated[Path, typer.Argument(help="Model folder, or checkpoint of Cellpose 1 to 3.")],
    model_id: Annotated[str, typer.Option("--id", help="Id in the zoo.")],
    zoo: ZooOption = None,
    diam_mean: Annotated[
        float | None,
        typer.Option(min=1, help="Mean diameter, which files of Cellpose 1 do not contain."),
    ] = None,
    size_file: Annotated[Path | None, typer.Option(help="Its size model, size_*.npy.")] = None,
    nucleus: Annotated[
        bool,
        typer.Option("--nucleus", help="The model was trained with a nucleus channel."),
    ] = False,
) -> None:
    """Add your own model to the zoo: one trained here, or a Cellpose checkpoint.

    A checkpoint is read once, and nothing in it is executed.
    """
    from cellwatch.watching.names import is_plain_name
    from cellwatch.zoo.importing import import_checkpoint

    if not is_plain_name(model_id):
        raise UsageError(f"--id: '{model_id}' may contain only letters, digits, '-', '_' and '.'")
    if model_id == "auto" or (BUILTIN / model_id).exists():
        raise UsageError(
            f"--id: '{model_id}' is the id of what comes with cellwatch; choose another"
        )
    root = zoo or user_zoo()
    if source.is_dir():
        if diam_mean or size_file or nucleus:
            raise UsageError(
                f"{source} is a model folder: its card has what these options say; leave them out"
            )
        _add_folder(source, root, model_id)
        return
    if not source.is_file():
        raise UsageError(f"there is no file or folder {source}")
    card = import_checkpoint(
        source,
        root / model_id,
        model_id,
        diam_mean=diam_mean,
        size_model=size_file,
        channels=("cell", "nucleus") if nucleus else ("cell",),
    )
    tell(f"{card.id} is in {root}: diameter {card.diam_labels:.1f} px, sha256 {card.sha256}")
    if "; " in card.source:  # what had to be taken off around the network
        tell(card.source.partition("; ")[2])


def _add_folder(source: Path, root: Path, model_id: str) -> None:
    from cellwatch.zoo.catalog import copy_model

    place = find_model(str(source.absolute()))
    card = copy_model(place, root / model_id, model_id)
    tell(f"{card.id} is in {root}: a copy of {source}")


@models_app.command("export")
def models_export(
    model: Annotated[str, typer.Argument(help="Model id or model folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")],
    file_format: Annotated[Literal["cellpose"], typer.Option("--format")] = "cellpose",
    zoo: ZooOption = None,
) -> None:
    """Write a model as a checkpoint that Cellpose 3 loads (`--pretrained_model FILE`)."""
    from cellwatch.zoo.importing import export_checkpoint

    export_checkpoint(model, zoo, out)
    card = find_model(model, zoo).card
    tell(f"{out} is {card.id} for {file_format}; its training diameter: {card.diam_labels:.1f} px")


def _pull_model(
    name: str, root: Path, address: str, from_file: Path | None, size_file: Path | None
) -> None:
    from cellwatch.zoo.fetchable import published
    from cellwatch.zoo.importing import import_checkpoint
    from cellwatch.zoo.published import check_pin, fetch, pin

    files = published(name)
    model_id = f"{PUBLISHED_PREFIX}{name}"
    downloads = root / PUBLISHED_PREFIX
    if from_file:
        sources = _brought(files, from_file, size_file)
    else:
        sources = {}
        for file_name in filter(None, (files.weights, files.size)):
            with byte_progress(file_name) as on_bytes:
                sources[file_name] = fetch(file_name, downloads, address, on_bytes)
    for file_name, path in sources.items():
        check_pin(file_name, path, downloads)
    if (root / model_id / "card.json").exists():
        _refuse_other_files(root / model_id, files, sources)
        tell(f"{model_id} is in {root} already, and the file is still the same")
    else:
        if files.size not in ("", *sources):
            tell(
                f"it comes without {files.size} (--size-file), so `diameter: auto` will be its "
                "mean training diameter"
            )
        import_checkpoint(
            sources[files.weights],
            root / model_id,
            model_id,
            diam_mean=files.diam_mean,
            size_model=sources.get(files.size),
            channels=("cell", "nucleus") if files.has_nucleus else ("cell",),
            origin=from_file.name if from_file else f"{address}/{files.weights}",
        )
        tell(f"{model_id} is in {root}")
    for file_name, path in sources.items():
        pin(file_name, path, downloads)
        if not from_file:
            path.unlink()


def _refuse_other_files(folder: Path, files: "Published", sources: dict[str, Path]) -> None:
    # Models are never overwritten: what came may only be what the model was made of.
    from cellwatch.files.digests import file_sha256

    card = read_card(folder)
    found = file_sha256(sources[files.weights])
    if not card.source.endswith(found):
        raise DownloadError(
            f"{folder} was made of another file ({card.source}) than this one (sha256 {found}); "
            "remove that folder if you trust this file, and pull again"
        )
    if files.size in sources and not card.styles_sha256:
        raise UsageError(
            f"{folder} was made without {files.size}; remove that folder and pull again, "
            "with both files"
        )


def _brought(files: "Published", weights: Path, size: Path | None) -> dict[str, Path]:
    if size and not files.size:
        raise UsageError(f"{files.weights} has no size model; leave --size-file out")
    sources = {files.weights: weights, **({files.size: size} if size else {})}
    for path in sources.values():
        if not path.is_file():
            raise UsageError(f"there is no file {path}")
    return sources


def _pull_choice(root: Path, address: str, from_file: Path | None) -> None:
    from cellwatch.zoo.fetchable import STYLE_CHOICE
    from cellwatch.zoo.importing import import_style_choice, style_choice_models
    from cellwatch.zoo.published import check_pin, fetch, pin

    downloads = root / PUBLISHED_PREFIX
    file_name = f"{STYLE_CHOICE}.npy"
    source = from_file or fetch(file_name, downloads, address)
    check_pin(file_name, source, downloads)
    if not from_file:
        for name in style_choice_models(source):
            if not (root / PUBLISHED_PREFIX / name / "card.json").exists():
                _pull_model(name, root, address, None, None)
    card = import_style_choice(source, root, "" if from_file else f"{address}/{file_name}")
    pin(file_name, source, downloads)
    tell(f"{card.id} chooses among {len(card.clusters)} models: --model {card.id} --zoo {root}")
    if not from_file:
        source.unlink()
