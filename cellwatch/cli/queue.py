"""The commands that steer the queue: pause, resume, bump, skip and requeue."""

from pathlib import Path
from typing import Annotated

import typer

from cellwatch.cli.client import as_known, ask, read_station, show
from cellwatch.cli.console import ConfigOption, JsonOption
from cellwatch.errors import UsageError

FolderOption = Annotated[
    str, typer.Option("--folder", help="Name of a watched folder; all, if it is left out.")
]
ImageArgument = Annotated[str, typer.Argument(help="Path, file name or stem of an image.")]
ExperimentOption = Annotated[str, typer.Option(help="All images of this experiment.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (pause, resume, bump, skip, requeue):
        app.command()(command)


def pause(
    folder: FolderOption = "", config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Begin no further image until `resume`: new ones still arrive, and nights still train."""
    show(ask(read_station(config), "pause", {"folder": folder}), as_json=as_json)


def resume(
    folder: FolderOption = "", config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """End a pause."""
    show(ask(read_station(config), "resume", {"folder": folder}), as_json=as_json)


def bump(
    image: ImageArgument = "",
    experiment: ExperimentOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Segment images that wait before all others."""
    _ask("bump", image, experiment, config, as_json=as_json)


def skip(
    image: ImageArgument = "",
    experiment: ExperimentOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Leave images out that are not segmented yet. `requeue` takes them back."""
    _ask("skip", image, experiment, config, as_json=as_json)


def requeue(
    image: ImageArgument = "",
    experiment: ExperimentOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try images again that failed, were quarantined or left out."""
    _ask("requeue", image, experiment, config, as_json=as_json)


def _ask(kind: str, image: str, experiment: str, config: Path | None, *, as_json: bool) -> None:
    if bool(image) == bool(experiment):
        raise UsageError("name an image, or an experiment with --experiment")
    station = read_station(config)
    name = as_known(station, image) if image else ""
    show(ask(station, kind, {"name": name, "experiment": experiment}), as_json=as_json)
