"""`cellwatch session`: annotate and train in turns, image by image."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellwatch.cli.client import ask, ledger_of, read_station
from cellwatch.cli.console import ConfigOption, counted, tell
from cellwatch.cli.review import SPARE, Tool
from cellwatch.errors import CellwatchError, RequestRefused
from cellwatch.records import CorrectionState
from cellwatch.storage.ledger import checkouts, dropped_files
from cellwatch.storage.reports import doubts

if TYPE_CHECKING:
    from cellwatch.config.schema import Config

HANDED_OUT = "handed_out"  # below the state folder
LOOK_EVERY_S = 0.5


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(session)


def session(
    group: Annotated[str, typer.Argument(help="Group that learns.")],
    images: Annotated[
        int, typer.Option("--images", "-n", min=1, help="Number of images to correct.")
    ] = 5,
    crop: Annotated[
        int, typer.Option(min=0, help="Side of a crop in px; 0: the whole plane.")
    ] = 512,
    tool: Annotated[Tool, typer.Option("--format", help="Tool that will correct them.")] = "napari",
    to: Annotated[Path, typer.Option(help="Parent of the new folders.")] = Path("session"),
    config: ConfigOption = None,
) -> None:
    """Correct and train in turns: each image is segmented with what the previous ones taught.

    The daemon must run, because it reads the corrections. Ctrl-C ends the session and nothing is
    lost: an image that was handed out can still be corrected and dropped.
    """
    from cellwatch.daemon.requests.corrections import folder_of
    from cellwatch.daemon.retraining.selection import groups_of
    from cellwatch.daemon.retraining.session import forget, train_on_all
    from cellwatch.records import TrainJob
    from cellwatch.storage.ledger.locking import is_locked

    station = read_station(config)
    groups = groups_of(station)
    if group not in groups:
        raise RequestRefused(f"there is no group '{group}'; there are {', '.join(groups)}")
    corrections = folder_of(station)
    if not is_locked(station.state.folder):
        raise RequestRefused(
            "no daemon is running to read corrections; start it first: cellwatch run"
        )
    network: Path | None = None
    try:
        for number in range(1, images + 1):
            before, made = _hand_out(station, groups[group], tool, crop, (to, corrections), network)
            tell(f"image {number} of {images}: correct {made['folder']} and copy the labels into")
            tell(f"  {corrections}")
            _wait_for(station, group, before, made)
            forget(network)
            if number == images:  # nobody would be handed what it teaches; the night is
                break
            now = datetime.now(UTC)
            job = TrainJob.from_json(ask(station, "session", {"group": group}).facts["job"])
            network = train_on_all(station, job, number, now, _teller(), time.sleep)
    except KeyboardInterrupt:
        tell("the session ends here; accepted corrections are kept and used in the next training")
        raise
    finally:
        forget(network)
    tell(f"{counted(images, 'image')} corrected; the next night's training uses them, or now:")
    tell(f"  cellwatch retrain {group} --now")
    tell(f"what it costs and gains: cellwatch effort {group}")


def _teller() -> Callable[[str], None]:
    # Says each stage of a training once.
    last = ""

    def told(stage: str) -> None:
        nonlocal last
        if stage != last:
            last = stage
            tell(f"  {stage}")

    return told


def _hand_out(
    station: "Config",
    group: Any,  # Any: lineup's Group, light to import
    tool: Tool,
    crop: int,
    folders: tuple[Path, Path],
    network: Path | None,
) -> tuple[int, dict[str, Any]]:  # Any: JSON
    from cellwatch.daemon.retraining.session import segmented_by
    from cellwatch.records import PlaneIndex
    from cellwatch.storage.corrections.checkout import Given, Wanted, take_out
    from cellwatch.storage.corrections.names import new_short_id

    members = {watched.name: (watched, target) for watched, target in group.members}
    with ledger_of(station) as db:
        newest = dropped_files.newest(db)
        rows = [r for r in doubts.to_check_out(db, 1000) if r.watch in members]
        short_id = new_short_id(checkouts.short_ids(db))
    if not rows:
        raise RequestRefused("every image was corrected or taken out already")
    for row in rows[:SPARE]:
        watched, target = members[row.watch]
        given = None
        wanted = Wanted(row, target.name, watched.axes, tool, short_id, PlaneIndex(), crop)
        try:
            if network is not None:
                labels = segmented_by(network, row, watched, target, PlaneIndex())
                given = Given(labels, station.state.folder / HANDED_OUT)
            made = take_out(wanted, folders[0], folders[1], given)
        except CellwatchError as error:  # its file or its masks are gone: the next will do
            tell(f"left out {row.path}: {error}")
            continue
        ask(station, "checkout", {"made": [made]})
        return newest, made
    raise RequestRefused("none of the images can be taken out; the reasons are above")


def _wait_for(station: "Config", group: str, newest: int, made: dict[str, Any]) -> None:
    # Until the daemon has accepted a correction of what was handed out.
    told = 0
    while True:
        with ledger_of(station) as db:
            row = dropped_files.answer_since(db, newest, made["acquisition_id"])
        if row and row.state.is_active:
            tell(f"  accepted as correction {row.id}")
            return
        if row and row.state == CorrectionState.REJECTED and row.id != told:
            told = row.id
            tell(f"  rejected: {row.reason}; {row.remedy}")
        time.sleep(LOOK_EVERY_S)
