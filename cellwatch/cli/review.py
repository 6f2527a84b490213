"""Commands that say what a person should look at: flag, unflag, review, checkout."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cellwatch.cli.client import (
    as_known,
    ask,
    ledger_of,
    read_station,
    refuse_station_folder,
    show,
)
from cellwatch.cli.console import (
    ConfigOption,
    JsonOption,
    local_time,
    print_json,
    print_table,
    progress,
    tell,
)
from cellwatch.errors import CellwatchError, RequestRefused, UsageError
from cellwatch.records import AcquisitionState, CorrectionKind
from cellwatch.storage.ledger import checkouts
from cellwatch.storage.reports import corrections as reports
from cellwatch.storage.reports import doubts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cellwatch.config.schema import Config, Target, Watch
    from cellwatch.records import Correction, ListedAcquisition, PlaneIndex
    from cellwatch.storage.corrections.checkout import Wanted

LEAST_CROP = 32  # px
NAMED = 3  # files in which an image was corrected before
SPARE = 20  # looked at beyond those asked for, where some cannot be taken out
Tool = Literal["napari", "cellpose", "fiji", "qupath"]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(flag)
    app.command()(unflag)
    app.command()(review)
    app.command()(checkout)


def flag(
    image: Annotated[str, typer.Argument(help="Path, file name or stem of an image.")],
    why: Annotated[str, typer.Option("--why", help="What is wrong with its masks.")] = "",
    roi: Annotated[int | None, typer.Option(min=1, help="Number of the ROI that is meant.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mark an image that a person should look at, even before it arrives."""
    station = read_station(config)
    show(
        ask(station, "flag", {"name": as_known(station, image), "why": why, "roi": roi}),
        as_json=as_json,
    )


def unflag(
    image: Annotated[str, typer.Argument(help="Path, file name or stem of an image.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove the flags of an image."""
    station = read_station(config)
    show(ask(station, "unflag", {"name": as_known(station, image)}), as_json=as_json)


def review(
    limit: Annotated[int, typer.Option(min=1, help="Number of images to list.")] = 20,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the images that need a person, and why: flagged ones first, then suggested ones."""
    station = read_station(config)
    with ledger_of(station) as db:
        rows = doubts.review_queue(db, limit)
    if as_json:
        print_json(rows)
        return
    if not rows:
        tell("no image waits for review; flag one with: cellwatch flag IMAGE --why ...")
        return
    table = [
        [
            row.path,
            row.by,
            (f"ROI {row.roi}: " if row.roi else "") + (row.why or ""),
            row.state or "unknown",
            local_time(row.taken_out),
        ]
        for row in rows
    ]
    print_table("", ["image", "by", "why", "state", "taken out"], table)
    tell("take some out with: cellwatch checkout --next 3")


def checkout(
    image: Annotated[str | None, typer.Argument(help="Path, file name or stem.")] = None,
    take_next: Annotated[
        int, typer.Option("--next", min=0, help="Take N images, those on the review list first.")
    ] = 0,
    crop: Annotated[int, typer.Option(min=0, help="Side of a crop in px; 0: the whole plane.")] = 0,
    tool: Annotated[Tool, typer.Option("--format", help="Tool that will correct them.")] = "napari",
    to: Annotated[Path, typer.Option(help="Parent of the new folders.")] = Path("checkout"),
    target: Annotated[str, typer.Option(help="Target, where an image has several.")] = "",
    plane: Annotated[str, typer.Option(help="POSITION,T,Z of a stack, from 0.")] = "0,0,0",
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Hand a corrected image out again, turned by 180° and without its name."
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy images and masks into a folder, to correct them in napari, Cellpose, Fiji or QuPath."""
    from cellwatch.daemon.requests.corrections import folder_of
    from cellwatch.storage.corrections.checkout import Wanted
    from cellwatch.storage.corrections.names import new_short_id

    station = read_station(config)
    corrections = folder_of(station)
    refuse_station_folder(station, to, "--to")
    _refuse_odd(image, take_next, crop, again=again)
    asked = _asked_for(station, image, take_next, target, again=again)
    at = _plane(plane)
    before: dict[int, tuple[str, ...]] = {}

    def part(row: "ListedAcquisition") -> "Wanted":
        watched, found = _target(station, row, target)
        short_id = new_short_id(asked.short_ids)
        asked.short_ids.add(short_id)
        wanted = Wanted(row, found.name, watched.axes, tool, short_id, at, crop)
        if again:
            return _again(wanted, asked.looks)
        before[row.id] = _before(wanted, asked.looks)
        return replace(wanted, before=before[row.id])

    made = _hand_out(station, asked.rows, part, (to, corrections), take_next)
    if as_json:
        print_json(made)
        return
    for each in made:
        typer.echo(each["folder"])
        if files := before.get(each["acquisition_id"]):
            told = f"it was corrected before, in {', '.join(files)}"
            tell(f"{told}; the labels in this folder are the network's, not the corrected ones")
    if len(made) < take_next:
        tell(
            f"only {len(made)} of {take_next} images were taken out: --next leaves out those that "
            "were taken out before"
        )
    tell(
        "correct them (see README.txt in each folder), then copy the "
        f"corrected labels into {corrections}"
    )


def _refuse_odd(image: str | None, take_next: int, crop: int, *, again: bool) -> None:
    if image and take_next:
        raise UsageError("name an image or say --next N, not both")
    if not (image or take_next) or (again and not image):
        raise UsageError("name an image" + ("" if again else ", or say --next N"))
    if 0 < crop < LEAST_CROP:
        raise UsageError(f"--crop {crop} shows too little to correct; {LEAST_CROP} px at least")
    if again and crop:
        raise UsageError("--again hands out the part that was corrected; leave --crop out")


@dataclass(frozen=True, slots=True)
class _Asked:
    """The images to take out, what was corrected of them before, and the ids that are taken."""

    rows: "list[ListedAcquisition]"
    looks: "Sequence[Correction]"
    short_ids: set[str]


def _asked_for(
    station: "Config", image: str | None, take_next: int, target: str, *, again: bool
) -> "_Asked":
    with ledger_of(station) as db:
        if take_next:
            rows = doubts.to_check_out(db, take_next + SPARE, target)
        else:
            rows = _named(station, db, str(image))
        keys = [row.id for row in rows]
        looks = reports.corrections(db) if again else reports.active_on(db, keys)
        short_ids = checkouts.short_ids(db)
    if not rows:
        raise RequestRefused(
            "every image that waits for review was corrected or taken out "
            "already; name an image to take it out again"
        )
    return _Asked(rows, looks, short_ids)


def _hand_out(
    station: "Config",
    rows: "list[ListedAcquisition]",
    part: "Callable[[ListedAcquisition], Wanted]",
    folders: tuple[Path, Path],
    take_next: int,
) -> list[dict[str, Any]]:
    from cellwatch.storage.corrections.checkout import take_out

    made: list[dict[str, Any]] = []
    try:
        with progress("taking out", take_next or 1) as advance:
            for row in rows:
                if len(made) == (take_next or 1):
                    break
                try:
                    made.append(take_out(part(row), *folders))
                except UsageError:
                    raise
                except CellwatchError as error:
                    # One whose file or masks are gone keeps nobody from the next.
                    if not take_next:
                        raise
                    tell(f"left out {row.path}: {error}")
                else:
                    advance()
    finally:
        # What was handed out before something went wrong is known all the same.
        if made:
            ask(station, "checkout", {"made": made})
    if not made:
        raise RequestRefused("none of these images can be taken out; name another image")
    return made


def _before(wanted: "Wanted", looks: "Sequence[Correction]") -> tuple[str, ...]:
    part = (wanted.row.id, wanted.target, wanted.plane)
    ours = [look for look in looks if (look.acquisition_id, look.target, look.plane) == part]
    return tuple(f"{look.file} ({look.rois} ROIs)" for look in ours[-NAMED:])


def _again(wanted: "Wanted", looks: "Sequence[Correction]") -> "Wanted":
    # The part that was corrected last, so that the two looks can be compared.
    for look in looks:
        if (look.acquisition_id, look.target) != (wanted.row.id, wanted.target):
            continue
        if look.kind == CorrectionKind.LABELS and look.state.is_active:
            return replace(wanted, plane=look.plane, part=look.crop, crop=0, is_again=True)
    path = wanted.row.path
    raise RequestRefused(f"{path} has no correction yet; --again is for a second look")


def _named(
    station: "Config",
    db: Any,  # Any: sqlite3, light to import
    image: str,
) -> "list[ListedAcquisition]":
    rows = reports.acquisitions_named(db, as_known(station, image))
    done = [row for row in rows if row.state == AcquisitionState.DONE or row.finished_at]
    if not rows:
        raise RequestRefused(f"no image '{image}' is known; see: cellwatch explain {image}")
    if not done:
        raise RequestRefused(f"'{rows[0].path}' has no masks yet: it is {rows[0].state}")
    if len(done) > 1:
        listed = "\n  ".join(row.path for row in done[:5])
        raise RequestRefused(f"{len(done)} images are named '{image}'; say which:\n  {listed}")
    return done


def _target(station: "Config", row: "ListedAcquisition", name: str) -> "tuple[Watch, Target]":
    watched = next((w for w in station.watch if w.name == row.watch), None)
    if watched is None:
        raise RequestRefused(f"the folder of {row.path} is not watched any more")
    targets = {target.name: target for target in watched.targets()}
    if name and name not in targets:
        raise UsageError(f"--target: there is no '{name}'; there are {', '.join(targets)}")
    if not name and len(targets) > 1:
        raise UsageError(f"say which: --target {' or '.join(targets)}")
    return watched, targets[name or next(iter(targets))]


def _plane(text: str) -> "PlaneIndex":
    from cellwatch.records import PlaneIndex

    try:
        position, t, z = (int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--plane: '{text}' is not POSITION,T,Z as in 0,0,5") from error
    return PlaneIndex(position, t, z)
