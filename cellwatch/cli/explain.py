"""The command that shows everything that is known about one image."""

import glob
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellwatch.cli.client import as_known
from cellwatch.cli.console import (
    ConfigOption,
    JsonOption,
    complain,
    local_time,
    print_json,
    tell,
)
from cellwatch.cli.status_training import show_people
from cellwatch.config.locate import find_config
from cellwatch.errors import EXIT_FAILED
from cellwatch.files.members import WITH_MEMBERS, file_of
from cellwatch.images.suffixes import INDICES, LISTING, suffix_of, watched_suffixes, why_unread
from cellwatch.records import AcquisitionState
from cellwatch.storage.ledger import set_files
from cellwatch.storage.ledger.path_text import path_text, printable
from cellwatch.storage.reports import corrections as reports
from cellwatch.storage.reports import doubts, station, stories

if TYPE_CHECKING:
    import sqlite3

    from cellwatch.config.schema import Config
    from cellwatch.records import Acquisition, TargetMasks


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(explain)


def explain(
    path: Annotated[Path, typer.Argument(help="An image, or its mask store.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show everything that is known about one image."""
    from cellwatch.config.elsewhere import there
    from cellwatch.config.parse import read_config

    checked = read_config(find_config(config))
    whole = Path(as_known(checked, str(path))).absolute()
    with station.reader(checked.state.folder / station.LEDGER) as db:
        if index := set_files.index_at(db, str(whole)):
            tell(f"{whole} belongs to the set of {index}")
            whole = path = Path(index)
        rows = stories.acquisitions_at(db, path_text(str(whole)))
        if not rows and not path.exists():
            rows = stories.acquisitions_named(db, path.as_posix())
        if suffix_of(whole.name) in WITH_MEMBERS:
            name = path_text(path.as_posix())
            rows += stories.acquisitions_in(db, path_text(str(whole)), name)
        if not rows and station.has_loop(db):
            named = reports.acquisitions_named(db, str(path))
            rows = [row for each in named for row in stories.acquisitions_at(db, each.path)]
        parts = [_part_of_people(db, row.acquisition.id) for row in rows]
    if as_json:
        print_json([_as_json(row, part) for row, part in zip(rows, parts, strict=True)])
    for row, part in zip(rows, parts, strict=True) if not as_json else ():
        _show(row, part, there(checked, row.acquisition.path))
    if not rows:
        if not path.exists() and len(path.parts) == 1:
            whole = _by_name(checked, path.name) or whole
        complain(f"{whole} is not known; {_why_unknown(checked, whole)}")
        raise typer.Exit(EXIT_FAILED)


def _by_name(config: "Config", name: str) -> Path | None:
    # A bare name of a file that no row has: the one of that name in a watched folder.
    return next((found for w in config.watch for found in w.folder.rglob(glob.escape(name))), None)


def _part_of_people(db: "sqlite3.Connection", key: int) -> reports.PeoplesPart:
    # Empty in a ledger of a version that had no loop.
    return reports.of_acquisition(db, key) if station.has_loop(db) else reports.PeoplesPart()


def _as_json(
    story: stories.AcquisitionStory, part: reports.PeoplesPart
) -> dict[str, Any]:  # Any: JSON
    listed = {"targets": story.targets, "attempts_made": story.attempts}
    people = {each.name: getattr(part, each.name) for each in fields(part)}
    return {**asdict(story.acquisition), **listed, **people}


def _show(story: stories.AcquisitionStory, part: reports.PeoplesPart, there: str) -> None:
    row = story.acquisition
    mark = f" (superseded by acquisition {row.superseded_by})" if row.superseded_by else ""
    reason = f": {row.reason}" if row.reason else ""
    since = local_time(row.state_since)
    typer.echo(f"{printable(row.path)}\n  {row.state} since {since}{mark}{printable(reason)}")
    if row.state == AcquisitionState.INTERRUPTED:
        typer.echo("  it is looked at again when it changes: copy it again, or delete it")
        if suffix_of(row.path) in (*LISTING, *INDICES):
            typer.echo("  a series that was stopped early: see interrupted: in the configuration")
    if changed := row.output_mark:
        what = "was edited" if changed == "edited" else "is gone"
        typer.echo(f"  its mask store {what} since it was written (cellwatch verify)")
    if row.retry_at:
        typer.echo(f"  again at {local_time(row.retry_at)}")
    _show_file(row, there)
    for target in story.targets:
        _show_target(target)
    if row.superseded_by:
        typer.echo(
            "  the file holds something else now: its masks lie in .superseded of the output "
            "folder as soon as the new ones are in their place, and until then where they were"
        )
    elif row.finished_at:
        typer.echo(f"  masks: {printable(row.store or '')} ({row.seconds or 0:.1f} s)")
    for attempt in story.attempts:
        why = f" ({attempt.reason})" if attempt.reason else ""
        typer.echo(
            f"  attempt {attempt.number} at {local_time(attempt.started_at)} on {attempt.device}: "
            f"{attempt.outcome or 'under way'}{printable(why)}"
        )
    show_people(part)


def _show_file(row: "Acquisition", there: str) -> None:
    size = f"{row.axes} {list(row.shape or ())} {row.dtype}" if row.axes else f"{row.size} B"
    pixel = f", {row.pixel_size_um:g} µm a pixel" if row.pixel_size_um else ""
    typer.echo(f"  {row.format or 'unknown format'}: {size}{pixel}")
    typer.echo(f"  experiment {row.experiment}, arrived {local_time(row.arrived_at)}")
    if row.plate:
        typer.echo(f"  plate {printable(row.plate)}, well {row.well}, field {row.field}")
    if there:
        typer.echo(f"  on the microscope's computer: {printable(there)}")
    if row.moved_from:
        typer.echo(f"  it was {printable(row.moved_from)} before")


def _show_target(target: "TargetMasks") -> None:
    if target.state != "done":
        typer.echo(f"  {target.name}: {target.state}")
        return
    params = target.params or {}
    fed = ", ".join(c["name"] or f"channel {c['index']}" for c in target.channels or ())
    typer.echo(
        f"  {target.name}: {_counted(target)}, model {target.model_id}, channels {fed}, "
        f"diameter {target.diameter or 0:.1f} px ({params['diameter']}), "
        f"{params.get('precision', 'float32')}"
    )
    if target.confidence is not None:
        typer.echo(
            f"    confidence {target.confidence:.2f} (0 to 1; below {doubts.UNSURE:g}: doubtful)"
        )
    if target.novelty is not None:
        typer.echo(
            f"    novelty {target.novelty:.2f} (up to 1: like the training images; above "
            f"{doubts.NOVEL:g}: unlike them, and doubtful)"
        )
    if choice := target.choice:
        nearest = (
            "; nearest known images:" if choice["neighbours"] else ", the largest: it has no style"
        )
        typer.echo(f"    chosen by its style: cluster {choice['cluster']}{nearest}")
        for near in choice["neighbours"]:
            typer.echo(
                f"      {near['image']} ({near['cluster']}, distance {near['distance']:.3f})"
            )
    for note in target.notes or ():
        typer.echo(f"    {printable(note)}")


def _counted(target: "TargetMasks") -> str:
    n_planes = target.planes_apart
    apart = f" in {n_planes} planes, not joined" if n_planes else ""
    return f"{target.rois} ROIs{apart}"


def _why_unknown(config: "Config", path: Path) -> str:
    from cellwatch.watching.names import is_wanted

    for watched in config.watch:
        if path.is_relative_to(watched.folder):
            relative = path.relative_to(watched.folder).as_posix()
            suffix, taken = suffix_of(file_of(path).name), watched_suffixes(watched.include)
            if suffix not in taken:
                kind = "files of this kind are not read: " if path.exists() else ""
                return f"{kind}{why_unread(suffix)}"
            if path.is_symlink():
                return "it is a link, and links are not followed: watch the folder it leads to"
            if not is_wanted(relative, watched.include, watched.excluded()):
                return "its name is excluded (see include: and exclude:)"
            if not path.exists():
                return "and there is no such file"
            return "the daemon has not seen it yet"
    folders = ", ".join(str(w.folder) for w in config.watch)
    return f"it is in none of the watched folders: {folders}"
