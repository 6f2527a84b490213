"""Commands around corrections: flag, unflag, review, checkout, corrections."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cellwatch.cli.asking import ask, read_station, show
from cellwatch.cli.talk import ConfigOption, JsonOption, print_json, print_table, progress, tell
from cellwatch.errors import EXIT_FAILED, RequestRefused, UsageError
from cellwatch.storage import reports
from cellwatch.storage.pathtext import text_path
from cellwatch.storage.reading import reader

if TYPE_CHECKING:
    from cellwatch.config.schema import Config, Target, Watch
    from cellwatch.daemon.checkout import Wanted

LEDGER = "cellwatch.db"
STANDING = ("trainable", "used")
corrections_app = typer.Typer(
    help="Corrections: list, show, withdraw, import, export, audit.", no_args_is_help=True
)
Tool = Literal["napari", "cellpose", "fiji", "qupath"]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(flag)
    app.command()(unflag)
    app.command()(review)
    app.command()(checkout)
    app.add_typer(corrections_app, name="corrections")


def flag(
    image: Annotated[str, typer.Argument(help="Path, file name or stem of an image.")],
    why: Annotated[str, typer.Option("--why", help="What is wrong with its masks.")] = "",
    roi: Annotated[int | None, typer.Option(min=1, help="Number of the ROI you mean.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that a person should look at an image. It may still be to come."""
    station = read_station(config)
    show(ask(station, "flag", {"name": _as_path(image), "why": why, "roi": roi}), as_json=as_json)


def unflag(
    image: Annotated[str, typer.Argument(help="Path, file name or stem of an image.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the flags off an image."""
    show(ask(read_station(config), "unflag", {"name": _as_path(image)}), as_json=as_json)


def review(
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 20,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which images wait for a person: flagged ones first, then suggested ones, and why."""
    station = read_station(config)
    with _ledger(station) as db:
        rows = reports.review_queue(db, limit)
    if as_json:
        print_json(rows)
        return
    if not rows:
        tell("nothing waits; flag an image: cellwatch flag IMAGE --why ...")
        return
    table = [
        [
            row["path"],
            row["by"],
            (f"ROI {row['roi']}: " if row.get("roi") else "") + (row["why"] or ""),
            row["state"] or "unknown",
            (row["taken_out"] or "")[:16],
        ]
        for row in rows
    ]
    print_table("", ["image", "by", "why", "state", "taken out (UTC)"], table)
    tell("take some out: cellwatch checkout --next 3")


def checkout(
    image: Annotated[str | None, typer.Argument(help="Path, file name or stem.")] = None,
    take_next: Annotated[
        int, typer.Option("--next", min=0, help="Take the next N that wait for review.")
    ] = 0,
    crop: Annotated[int, typer.Option(min=0, help="Side of a part, px; 0: the whole plane.")] = 0,
    tool: Annotated[Tool, typer.Option("--format", help="For which tool.")] = "napari",
    to: Annotated[Path, typer.Option(help="Where the folders are made.")] = Path("checkout"),
    target: Annotated[str, typer.Option(help="Which target, of several.")] = "",
    plane: Annotated[str, typer.Option(help="POSITION,T,Z of a stack, from 0.")] = "0,0,0",
    again: Annotated[
        bool, typer.Option("--again", help="A corrected image once more, mirrored and nameless.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take images out to correct them in napari, Cellpose, Fiji or QuPath."""
    from cellwatch.daemon.checkout import Wanted, take_out
    from cellwatch.daemon.requests import folder_of

    station = read_station(config)
    corrections = folder_of(station)
    _refuse_station_folder(station, to, "--to")
    with _ledger(station) as db:
        if bool(image) == bool(take_next) or (again and not image):
            raise UsageError("name an image" + ("" if again else ", or say --next N"))
        rows = reports.to_check_out(db, take_next, target) if take_next else _named(db, str(image))
        looks = reports.corrections(db) if again else []
    if not rows:
        raise RequestRefused(
            "nothing waits that was not corrected or taken out; name an image to take it out again"
        )
    made: list[dict[str, Any]] = []  # Any: JSON
    try:
        with progress("taking out", len(rows)) as advance:
            for row in rows:
                watched, wanted = _target(station, row, target)
                part = Wanted(row, wanted.name, watched.axes, tool, _plane(plane), crop)
                made.append(take_out(_again(part, looks) if again else part, to, corrections))
                advance()
    finally:
        # What was handed out before something went wrong is known all the same.
        if made:
            ask(station, "checkout", {"made": made})
    if as_json:
        print_json(made)
        return
    for each in made:
        typer.echo(each["folder"])
    tell(f"correct them (README.txt in each), then copy the labels into {corrections}")


@corrections_app.command("list")
def corrections_list(
    group: Annotated[str, typer.Option(help="Of one group alone.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Also superseded and withdrawn.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what was dropped, newest first."""
    with _ledger(read_station(config)) as db:
        rows = reports.corrections(db, group, is_every=every)
    if as_json:
        print_json(rows)
        return
    table = [
        [
            str(row["id"]),
            row["file"],
            row["state"],
            row["group_name"] or "",
            "" if row["rois"] is None else str(row["rois"]),
            "" if row["ap50"] is None else f"{row['ap50']:.3f}",
            (row["reason"] or "").split("\n")[0],
        ]
        for row in rows
    ]
    print_table("", ["id", "file", "state", "group", "ROIs", "AP@0.5", "reason"], table)


@corrections_app.command("show")
def corrections_show(
    key: Annotated[int, typer.Argument(metavar="ID", help="As `corrections list` has it.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show all that is known of one correction."""
    with _ledger(read_station(config)) as db:
        row = reports.correction(db, key)
    if row is None:
        raise RequestRefused(f"there is no correction {key}; see: cellwatch corrections list")
    if as_json:
        print_json(row)
        return
    shown = {k: v for k, v in row.items() if v not in (None, [], "")}
    print_table("", ["", str(key)], [[name, str(value)] for name, value in shown.items()])


@corrections_app.command("withdraw")
def corrections_withdraw(
    key: Annotated[int, typer.Argument(metavar="ID", help="As `corrections list` has it.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a correction back: no later training uses it. The file stays where it is."""
    show(ask(read_station(config), "withdraw", {"id": key}), as_json=as_json)


@corrections_app.command("import")
def corrections_import(
    folder: Annotated[Path, typer.Argument(help="Masks that were made before, named as here.")],
    config: ConfigOption = None,
) -> None:
    """Copy existing masks of known images into the corrections folder; the daemon answers each."""
    from cellwatch.daemon.requests import folder_of
    from cellwatch.storage.corrections.names import read_name

    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder")
    target = folder_of(read_station(config))
    if not target.is_dir():
        raise RequestRefused(f"the corrections folder {target} is not there; is its disk mounted?")
    found = [p for p in sorted(folder.iterdir()) if read_name(p.name) is not None]
    if not found:
        raise RequestRefused(f"{folder} holds no file named as a correction (NAME_masks.tif ...)")
    copied = 0
    with progress("importing", len(found)) as advance:
        for path in found:
            place = target / path.name
            if place.exists():
                tell(f"{place} exists; left as it is")
            else:
                _copy(path, place)
                copied += 1
            advance()
    tell(f"copied {copied} into {target}; the answers lie beside them within seconds of each")


@corrections_app.command("export")
def corrections_export(
    folder: Annotated[Path, typer.Argument(help="Where the pairs go; made if needed.")],
    group: Annotated[str, typer.Option(help="Of one group alone.")] = "",
    config: ConfigOption = None,
) -> None:
    """Write all standing corrections as pairs NAME_img.tif and NAME_masks.tif, to train on.

    Where only a part was checked, it is marked in NAME_region.tif. Those that are held out go to
    a sub-folder held_out: what is trained on them cannot be judged by them.
    """
    from cellwatch.storage.corrections.kept import read_kept
    from cellwatch.storage.export import write_image, write_tiff

    station = read_station(config)
    _refuse_station_folder(station, folder, "the folder")
    with _ledger(station) as db:
        rows = [
            row
            for row in reports.corrections(db, group)
            if row["state"] in ("trainable", "used")
            and row["kind"] == "labels"
            and not row["is_again"]
        ]
    folder.mkdir(parents=True, exist_ok=True)
    with progress("exporting", len(rows)) as advance:
        for row in rows:
            kept = read_kept(Path(row["folder"]))
            name = f"{row['id']:05d}-{Path(text_path(row['relative_path'])).stem}"
            place = folder / "held_out" if row["side"] == "held_out" else folder
            place.mkdir(exist_ok=True)
            write_image(place / f"{name}_img.tif", kept.plane, is_rgb=False)
            ending = "_empty.tif" if kept.is_empty else "_masks.tif"
            write_tiff(place / f"{name}{ending}", kept.labels)
            if kept.checked is not None:
                write_tiff(place / f"{name}_region.tif", kept.checked.astype("int32"))
            advance()
    tell(f"wrote {len(rows)} pairs to {folder}")


@corrections_app.command("audit")
def corrections_audit(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Prove from the ledger that no score used an image its network was trained on."""
    from cellwatch.storage.ledger import open_ledger
    from cellwatch.storage.runs import leaks

    station = read_station(config)
    with _ledger(station) as db:
        n_scores = db.execute("SELECT count(*) FROM scores").fetchone()[0]
        n_networks = db.execute("SELECT count(DISTINCT model_sha256) FROM trained_on").fetchone()[0]
    ledger = open_ledger(station.state.folder)
    try:
        found = leaks(ledger)
    finally:
        ledger.close()
    if as_json:
        print_json({"scores": n_scores, "networks": n_networks, "leaks": found})
    else:
        for row in found:
            typer.echo(f"{row['problem']}: {row['model_id']} on {row['file']}")
        tell(f"{n_scores} scores of {n_networks} trained networks checked, {len(found)} leaks")
    if found:
        raise typer.Exit(EXIT_FAILED)


def _again(wanted: "Wanted", looks: list[dict[str, Any]]) -> "Wanted":  # Any: what SQLite holds
    # The part that was corrected last, so that the two looks can be compared.
    from dataclasses import replace

    from cellwatch.records import Crop, PlaneIndex

    for look in looks:
        if (look["acquisition_id"], look["target"]) != (wanted.row["id"], wanted.target):
            continue
        if look["kind"] == "labels" and not look["is_again"] and look["state"] in STANDING:
            crop = Crop(**look["crop"]) if look["crop"] else None
            plane = PlaneIndex(look["position"], look["t"], look["z"])
            return replace(wanted, plane=plane, part=crop, crop=0, is_again=True)
    path = wanted.row["path"]
    raise RequestRefused(f"{path} has no correction yet; --again is for a second look")


def _refuse_station_folder(station: "Config", folder: Path, what: str) -> None:
    # What is written there would be taken for images, masks or corrections.
    own = [watched.folder for watched in station.watch] + [station.output.folder]
    own += [section.folder for section in (station.corrections, station.flags) if section]
    for taken in own:
        if folder.absolute().is_relative_to(taken.absolute()):
            raise UsageError(f"{what}: {folder} lies in {taken}, a folder of the station")


def _copy(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f".{place.name}.partial")
    if path.is_dir():
        shutil.copytree(path, aside)
    else:
        shutil.copyfile(path, aside)
    aside.rename(place)


def _named(db: Any, image: str) -> list[dict[str, Any]]:  # Any: sqlite3, light to import
    rows = reports.acquisitions_named(db, _as_path(image))
    done = [row for row in rows if row["state"] == "done" or row["finished_at"]]
    if not rows:
        raise RequestRefused(f"no image '{image}' is known; see: cellwatch explain {image}")
    if not done:
        raise RequestRefused(f"'{rows[0]['path']}' has no masks yet: it is {rows[0]['state']}")
    if len(done) > 1:
        listed = "\n  ".join(row["path"] for row in done[:5])
        raise RequestRefused(f"{len(done)} images are named '{image}'; say which:\n  {listed}")
    return done


def _target(
    station: "Config", row: dict[str, Any], name: str
) -> "tuple[Watch, Target]":  # Any: what SQLite holds
    watched = next((w for w in station.watch if w.name == row["watch"]), None)
    if watched is None:
        raise RequestRefused(f"the folder of {row['path']} is not watched any more")
    targets = {target.name: target for target in watched.targets()}
    if name and name not in targets:
        raise UsageError(f"--target: there is no '{name}'; there are {', '.join(targets)}")
    if not name and len(targets) > 1:
        raise UsageError(f"say which: --target {' or '.join(targets)}")
    return watched, targets[name or next(iter(targets))]


def _plane(text: str) -> Any:  # Any: PlaneIndex, light to import
    from cellwatch.records import PlaneIndex

    try:
        position, t, z = (int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--plane: '{text}' is not POSITION,T,Z as in 0,0,5") from error
    return PlaneIndex(position, t, z)


def _as_path(image: str) -> str:
    path = Path(image)
    return str(path.absolute()) if path.exists() else image


def _ledger(station: "Config") -> Any:  # Any: a context manager of sqlite3
    return reader(station.state.folder / LEDGER)
