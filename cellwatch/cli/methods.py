"""Commands for a paper: how an experiment was segmented, and whether it can be made again."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from cellwatch.cli.client import as_known, ledger_of, read_station
from cellwatch.cli.console import ConfigOption, JsonOption, complain, print_json, progress, tell
from cellwatch.errors import EXIT_FAILED, CellwatchError, UsageError
from cellwatch.storage.ledger.lookup import folders_of_experiment
from cellwatch.storage.ledger.path_text import text_path
from cellwatch.storage.reports import corrections as reports
from cellwatch.storage.reports import methods as facts


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(methods)
    app.command()(reproduce)


def methods(
    experiment: Annotated[str, typer.Argument(help="Experiment: a folder below a watched one.")],
    watch: Annotated[str, typer.Option(help="Watched folder, where several have it.")] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the text, the facts and the weights."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a paper's methods paragraph on an experiment; with --out also facts and weights."""
    station = read_station(config)
    with ledger_of(station) as db:
        having = [name for name in folders_of_experiment(db, experiment) if watch in ("", name)]
        if len(having) > 1:
            told = f"{', '.join(having)} have an experiment '{experiment}'; name one with --watch"
            raise UsageError(told)
        said = facts.methods_of(db, having[0], experiment) if having else None
    if said is None:
        told = f"no image of an experiment '{experiment}' is segmented (cellwatch status)"
        raise UsageError(told)
    parents = {use.model_id: _lineage(use.model_id, station.zoo) for use in said.uses}
    text = facts.paragraph(said, parents)
    if as_json:
        print_json({**asdict(said), "lineage": parents, "paragraph": text})
    else:
        typer.echo(text)
    if out is not None:
        _write_bundle(out, text, said, station.zoo)


def _lineage(model: str, zoo: Path) -> tuple[str, ...]:
    from cellwatch.zoo.cards import find_model

    names: list[str] = []
    following: str | None = model
    while following and following not in names:
        names.append(following)
        try:
            following = find_model(following, zoo).card.parent
        except CellwatchError:
            break
    return tuple(names)


def _write_bundle(out: Path, text: str, said: facts.ExperimentMethods, zoo: Path) -> None:
    from cellwatch.files.atomic import write_json
    from cellwatch.zoo.cards import find_model

    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    (out / "methods.md").write_text(text, encoding="utf-8")
    write_json(out / "facts.json", asdict(said))
    for model in dict.fromkeys(use.model_id for use in said.uses):
        try:
            place = find_model(model, zoo).path
        except CellwatchError as error:
            complain(f"{model}: {error}")
            continue
        target = out / "models" / model
        target.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir():
            shutil.copytree(place, target)
        else:
            shutil.copyfile(place, target)
    tell(f"{out}: methods.md, facts.json, and the models; `cellwatch reproduce` makes masks again")


def reproduce(
    path: Annotated[Path, typer.Argument(help="A mask store (.zarr), or an image of the station.")],
    image: Annotated[
        Path | None, typer.Option(help="Where the image lies now, if it was moved.")
    ] = None,
    zoo: Annotated[
        Path | None, typer.Option(help="Folder with the models, such as a bundle's.")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Device that computes.")
    ] = "auto",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make masks again from what they say of themselves. Exit code 1 if they differ."""
    from cellwatch.compute.device import choose_device
    from cellwatch.storage.masks.ngff import read_attributes
    from cellwatch.storage.masks.store import read_provenance
    from cellwatch.workflows.reproduce import reproduce as made_again

    store, others = path, list[str]()
    if not read_attributes(path):
        station = read_station(config)
        others = [target.model for watch in station.watch for target in watch.targets()]
        store, known = _store_of(config, str(path))
        zoo, image = zoo or station.zoo, image or known
    said = read_provenance(store)
    with progress("segmenting", said["planes"] * len(said["targets"])) as advance:
        found = made_again(store, zoo, choose_device(device), image, others, advance)
    if as_json:
        print_json(found)
    for each in found if not as_json else ():
        same = "equal, pixel for pixel" if each.is_equal else f"differs: AP@0.5 {each.ap50:.3f}"
        counts = f"{each.rois_before} ROIs then, {each.rois_now} now"
        typer.echo(f"{each.target} by {each.model}: {same} ({counts})")
        for doubt in each.doubts:
            tell(f"  {doubt}")
    if not all(each.is_equal for each in found):
        raise typer.Exit(EXIT_FAILED)


def _store_of(config: Path | None, name: str) -> tuple[Path, Path]:
    # The mask store of an image of the station, and where the image lies.
    station = read_station(config)
    with ledger_of(station) as db:
        rows = reports.acquisitions_named(db, as_known(station, name))
    done = [row for row in rows if row.store and row.finished_at]
    if len(done) != 1:
        why = "no image with masks" if not done else f"{len(done)} images: name its path"
        raise UsageError(f"'{name}' is {why}")
    row = done[0]
    return Path(row.former_store or row.store or ""), Path(text_path(row.path))
