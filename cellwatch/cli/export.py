"""The command that writes masks in the formats of other programs."""

import sqlite3
from contextlib import closing, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellwatch.cli.client import as_known, ledger_of, read_station, refuse_station_folder
from cellwatch.cli.console import ConfigOption, complain, counted, progress, tell
from cellwatch.errors import EXIT_FAILED, CellwatchError, UsageError
from cellwatch.storage.ledger.path_text import text_path
from cellwatch.storage.reports import corrections as reports
from cellwatch.storage.reports import stories

if TYPE_CHECKING:
    from cellwatch.config.schema import Config
    from cellwatch.storage.reports.stories import AcquisitionStory


class Kind(StrEnum):
    """The formats, as `storage.masks.exports` has them."""

    TIF = "tif"
    PNG = "png"
    ROIS = "rois"
    GEOJSON = "geojson"
    CELLPOSE = "cellpose"
    OVERLAY = "overlay"


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(export)


def export(
    what: Annotated[list[str], typer.Argument(help="Images (path or name), or experiments.")],
    to: Annotated[Path, typer.Option(help="Folder to write into.")],
    kinds: Annotated[
        list[Kind],
        typer.Option(
            "--format",
            "-f",
            help="tif and png: label images; rois: ImageJ; geojson: QuPath; cellpose: _seg.npy; "
            "overlay: a picture with outlines. May be repeated.",
        ),
    ],
    target: Annotated[str, typer.Option(help="Target, where an image has several.")] = "",
    config: ConfigOption = None,
) -> None:
    """Write masks in the formats of other programs, under names that corrections are known by."""
    station = read_station(config)
    refuse_station_folder(station, to, "--to")
    with ledger_of(station) as db:
        found = [story for name in what for story in _meant(db, station, name)]
    failed = n_files = 0
    with progress("exporting", len(found)) as advance:
        for story in found:
            try:
                n_files += _export_one(station, story, to, list(dict.fromkeys(kinds)), target)
            except CellwatchError as error:
                complain(f"{story.acquisition.path}: {error}")
                failed += 1
            advance()
    tell(f"{counted(n_files, 'file')} of {counted(len(found) - failed, 'image')} in {to}")
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _meant(db: sqlite3.Connection, station: "Config", name: str) -> "list[AcquisitionStory]":
    named = reports.acquisitions_named(db, as_known(station, name))
    found = [story for row in named for story in stories.of_ids(db, [row.id])]
    found = found or stories.of_experiment(db, name)
    done = [story for story in found if story.acquisition.finished_at]
    if not done:
        why = "has no masks yet" if found else "is neither an image nor an experiment"
        raise UsageError(f"'{name}' {why} (cellwatch status)")
    return done


def _export_one(
    station: "Config", story: "AcquisitionStory", to: Path, kinds: list[Kind], target: str
) -> int:
    from cellwatch.files.members import image_name
    from cellwatch.files.stems import stem_of
    from cellwatch.images import open_image
    from cellwatch.storage.masks.exports import Exported
    from cellwatch.storage.masks.exports import export as write
    from cellwatch.storage.masks.paths import SUPERSEDED
    from cellwatch.storage.masks.store import read_labels

    row = story.acquisition
    targets = [each for each in story.targets if target in ("", each.name)]
    if not targets:
        names = ", ".join(each.name for each in story.targets)
        raise UsageError(f"it has no target '{target}', but {names}")
    relative = text_path(row.relative_path)
    folder = (to / relative).parent
    watched = next((w for w in station.watch if w.name == row.watch), None)
    axes = watched.axes if watched else ""
    needs_image = Kind.OVERLAY in kinds
    opened = closing(open_image(Path(text_path(row.path)), axes)) if needs_image else nullcontext()
    n_files = 0
    with opened as image:
        for each in targets:
            labels = read_labels(Path(row.former_store or row.store or ""), each.name)
            channels = tuple(int(c["index"]) for c in each.channels or ()) or (0,)
            name = each.name if len(story.targets) > 1 else ""
            stem, size = stem_of(image_name(relative)), row.pixel_size_um
            exported = Exported(stem, name, labels, channels, size)
            for kind in kinds:
                n_files += len(write(exported, kind.value, folder, to / SUPERSEDED, image))
    return n_files
