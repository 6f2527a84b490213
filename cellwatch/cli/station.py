"""Commands of a station: init, config check, run, explain, verify."""

import glob
import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellwatch.cli.client import as_known
from cellwatch.cli.console import (
    ConfigOption,
    JsonOption,
    complain,
    print_json,
    print_table,
    progress,
    start_logging,
    tell,
)
from cellwatch.cli.status import status
from cellwatch.cli.status_training import show_people
from cellwatch.config.locate import find_config
from cellwatch.errors import EXIT_FAILED, UsageError
from cellwatch.storage.ledger.path_text import path_text, printable
from cellwatch.storage.reports import doubts, learning, station

if TYPE_CHECKING:
    from cellwatch.config.schema import Config
    from cellwatch.storage.masks.store import StoreReport

config_app = typer.Typer(help="Check the configuration.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(init)
    app.add_typer(config_app, name="config")
    app.command()(run)
    app.command()(status)
    app.command()(explain)
    app.command()(verify)


def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the new station; created if needed.")],
) -> None:
    """Create a station: a folder with config.yaml and the folders that it names."""
    config = folder / "config.yaml"
    if config.exists():
        raise UsageError(f"{config} exists; it is left as it is")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("images", "masks", "corrections", "flags", "state"):
        (folder / name).mkdir(exist_ok=True)
    config.write_text(example_config(), encoding="utf-8")
    tell(f"created {config}; put images into {folder / 'images'} and start:")
    tell(f"  cellwatch run --config {config}")


def example_config() -> str:
    """Return config.example.yaml: from the package, or from the source tree beside it."""
    packaged = resources.files("cellwatch.config") / "config.example.yaml"
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    beside = Path(__file__).parents[2] / "config.example.yaml"
    return beside.read_text(encoding="utf-8")


def _known_of(config: "Config") -> tuple[list[str], dict[str, str]]:
    # Warnings, and by group the model that was promoted for it.
    from cellwatch.daemon.retraining.selection import groups_of, overruled, unserved
    from cellwatch.storage.ledger import promotions

    ledger = config.state.folder / station.LEDGER
    if not ledger.is_file():
        return [], {}
    with station.reader(ledger) as db:
        if not learning.has_loop(db):
            return [], {}
        used = {name: promotions.in_use(db, name) for name in groups_of(config)}
        promoted = {
            name: f"{each.model.id} ({each.verdict} {each.since[:10]})"
            for name, each in used.items()
            if each is not None
        }
        return [*unserved(db, config), *overruled(db, config)], promoted


@config_app.command("check")
def config_check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the configuration and show what would be watched."""
    from cellwatch.config.parse import read_config
    from cellwatch.zoo.classifiers import check_weights, find_either

    path = find_config(config)
    checked = read_config(path)
    rows = []
    warnings, promoted = _known_of(checked)
    for watched in checked.watch:
        for target in watched.targets():
            model = find_either(target.model, checked.zoo)
            check_weights(model)
            there = "" if watched.folder.is_dir() else " (not there yet)"
            rows.append(
                {
                    "watch": watched.name,
                    "folder": f"{watched.folder}{there}",
                    "target": target.name,
                    "model": model.card.id,
                    "in use": promoted.get(watched.group_of(target), "as configured"),
                    "diameter": str(target.diameter),
                }
            )
    dropped = {
        name: {"folder": str(section.folder), "is_there": section.folder.is_dir()}
        for name, section in (("corrections", checked.corrections), ("flags", checked.flags))
        if section is not None
    }
    if as_json:
        said = {"targets": rows, "folders": dropped, "warnings": warnings}
        print_json({"config": str(path), "ok": True, **said})
        return
    tell(f"{path} is valid")
    for warning in warnings:
        complain(warning)
    print_table("", list(rows[0]), [list(row.values()) for row in rows])
    for name, place in dropped.items():
        missing = "" if place["is_there"] else " (not there yet; it will be created)"
        tell(f"{name}: {place['folder']}{missing}")


def run(
    config: ConfigOption = None,
    once: Annotated[
        bool, typer.Option("--once", help="Process the images that are there, then exit.")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="With --once: exit 1 if a file failed or a folder is gone."),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v")] = False,
) -> None:
    """Watch the folders and segment every new image, until stopped."""
    from cellwatch.config.parse import read_config
    from cellwatch.daemon.supervisor import run as run_daemon

    path = find_config(config)
    checked = read_config(path)
    start_logging(is_verbose=verbose)
    ended = run_daemon(checked, path, is_once=once)
    if once:
        bad = {s: n for s, n in ended.items() if n and s not in ("done", "skipped", "waiting")}
        summary = ", ".join(f"{n} {s}" for s, n in {"done": ended["done"], **bad}.items())
        tell(summary)
        if strict and bad:
            raise typer.Exit(EXIT_FAILED)


def explain(
    path: Annotated[Path, typer.Argument(help="An image, or its mask store.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show everything that is known about one image."""
    from cellwatch.config.parse import read_config

    checked = read_config(find_config(config))
    whole = Path(as_known(checked, str(path))).absolute()
    with station.reader(checked.state.folder / station.LEDGER) as db:
        rows = station.acquisitions_at(db, path_text(str(whole)))
        if not rows and not path.exists():
            rows = station.acquisitions_named(db, path.as_posix())
        if learning.has_loop(db):
            if not rows:
                named = learning.acquisitions_named(db, str(path))
                rows = [row for each in named for row in station.acquisitions_at(db, each["path"])]
            rows = [{**row, **learning.of_acquisition(db, row["id"])} for row in rows]
    if as_json:
        print_json(rows)
    for row in rows if not as_json else []:
        _show_acquisition(row)
    if not rows:
        if not path.exists() and len(path.parts) == 1:
            whole = _by_name(checked, path.name) or whole
        complain(f"{whole} is not known; {_why_unknown(checked, whole)}")
        raise typer.Exit(EXIT_FAILED)


def _by_name(config: "Config", name: str) -> Path | None:
    # A bare name of a file that no row has: the one of that name in a watched folder.
    return next((found for w in config.watch for found in w.folder.rglob(glob.escape(name))), None)


def verify(
    config: ConfigOption = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Manifest of a simulation: what must be there.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare every mask store with the ledger. Exit code 1 if anything is wrong."""
    from cellwatch.config.parse import read_config

    checked = read_config(find_config(config))
    problems: list[str] = []
    with station.reader(checked.state.folder / station.LEDGER) as db:
        rows = [row for row in station.finished(db) if row["superseded_by"] is None]
        paths = station.all_paths(db)
        n_outdated = db.execute(doubts.OUTDATED).fetchone()[0]
    with progress("checking", len(rows)) as advance:
        for row in rows:
            problems += _problems_of(row, has_tiff="tif" in checked.output.also)
            advance()
    problems += _leftovers(checked.output.folder)
    if manifest:
        problems += _against_manifest(manifest, paths)
    if as_json:
        print_json({"stores": len(rows), "problems": problems})
    else:
        for problem in problems:
            typer.echo(problem)
        tell(f"{len(rows)} mask stores checked, {len(problems)} problems")
        if n_outdated:
            tell(f"{n_outdated} more are of what their files held before they were written to")
    if problems:
        raise typer.Exit(EXIT_FAILED)


def _problems_of(row: dict[str, Any], *, has_tiff: bool) -> list[str]:  # Any: what SQLite holds
    from cellwatch.storage.masks.label_tiff import check_label_tiffs
    from cellwatch.storage.masks.store import check_store

    report = check_store(Path(row["store"]))
    if report.problems:
        return [f"{row['store']}: {problem}" for problem in report.problems]
    problems = [f"{row['store']}: {each}" for each in _strange(row, report)]
    if has_tiff:
        problems += check_label_tiffs(Path(row["store"]), list(report.rois))
    for target in row["targets"]:
        stored = report.rois.get(target["name"])
        if stored != target["rois"]:
            found = f"{stored} {target['name']}, the ledger says {target['rois']}"
            problems.append(f"{row['store']}: {found}")
    return problems


def _strange(row: dict[str, Any], report: "StoreReport") -> list[str]:  # Any: what SQLite holds
    # What a store says of itself against what the ledger has: another station may have written it.
    problems = []
    source = report.provenance.get("source", {}).get("sha256")
    if row["content_sha256"] and source != row["content_sha256"]:
        problems.append("it was made from another image than the ledger says")
    for target in row["targets"]:
        facts = report.provenance["targets"].get(target["name"], {})
        wanted = target.get("labels_sha256")
        if wanted and facts.get("labels_sha256") != wanted:
            problems.append(f"the labels of '{target['name']}' are not those that the ledger has")
    return problems


def _leftovers(output: Path) -> list[str]:
    left = (p for p in output.rglob(".*") if ".tmp-" in p.name or ".old-" in p.name)
    return [f"{path}: left over from a write that was cut off" for path in left]


def _against_manifest(manifest: Path, paths: dict[str, list[dict[str, Any]]]) -> list[str]:
    try:
        images = json.loads(manifest.read_text(encoding="utf-8"))["images"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{manifest} is no manifest of a simulation: {error}") from error
    problems = []
    for image in images:
        if image["fate"] != "whole":
            continue
        states = [row["state"] for row in paths.get(image["path"], [])]
        if states != ["done"]:
            problems.append(f"{image['path']}: {', '.join(states) or 'unknown'}, not done once")
    return problems


def _show_acquisition(row: dict[str, Any]) -> None:  # Any: JSON
    mark = f" (superseded by acquisition {row['superseded_by']})" if row["superseded_by"] else ""
    reason = f": {row['reason']}" if row["reason"] else ""
    typer.echo(
        f"{printable(row['path'])}\n  {row['state']} since {row['state_since']}{mark}"
        f"{printable(reason)}"
    )
    if changed := row.get("output_mark"):
        what = "was edited" if changed == "edited" else "is gone"
        typer.echo(f"  its mask store {what} since it was written (cellwatch verify)")
    if row["retry_at"]:
        typer.echo(f"  again at {row['retry_at']}")
    size = f"{row['axes']} {row['shape']} {row['dtype']}" if row["axes"] else f"{row['size']} B"
    pixel = f", {row['pixel_size_um']:g} µm a pixel" if row["pixel_size_um"] else ""
    typer.echo(f"  {row['format'] or 'unknown format'}: {size}{pixel}")
    typer.echo(f"  experiment {row['experiment']}, arrived {row['arrived_at']}")
    for target in row["targets"]:
        _show_target(target)
    if row["superseded_by"]:
        typer.echo(
            "  the file holds something else now: its masks lie in .superseded of the output "
            "folder as soon as the new ones are in their place, and until then where they were"
        )
    elif row["finished_at"]:
        typer.echo(f"  masks: {printable(row['store'])} ({row['seconds']:.1f} s)")
    for attempt in row["attempts_made"]:
        why = f" ({attempt['reason']})" if attempt["reason"] else ""
        typer.echo(
            f"  attempt {attempt['number']} at {attempt['started_at']} on {attempt['device']}: "
            f"{attempt['outcome'] or 'under way'}{printable(why)}"
        )
    show_people(row)


def _show_target(target: dict[str, Any]) -> None:  # Any: JSON
    if target["state"] != "done":
        typer.echo(f"  {target['name']}: {target['state']}")
        return
    fed = ", ".join(c["name"] or f"channel {c['index']}" for c in target["channels"])
    typer.echo(
        f"  {target['name']}: {_counted(target)}, model {target['model_id']}, channels {fed}, "
        f"diameter {target['diameter']:.1f} px ({target['params']['diameter']}), "
        f"{target['params'].get('precision', 'float32')}"
    )
    if target.get("novelty") is not None:
        typer.echo(
            f"    novelty {target['novelty']:.2f} (up to 1: like the training images; above "
            f"{doubts.NOVEL:g}: unlike them, and doubtful)"
        )
    if choice := target["choice"]:
        typer.echo(f"    chosen by its style: cluster {choice['cluster']}; nearest known images:")
        for near in choice["neighbours"]:
            typer.echo(
                f"      {near['image']} ({near['cluster']}, distance {near['distance']:.3f})"
            )
    for note in target["notes"]:
        typer.echo(f"    {printable(note)}")


def _counted(target: dict[str, Any]) -> str:  # Any: JSON
    n_planes = target.get("planes_apart") or 0
    apart = f" in {n_planes} planes, not joined" if n_planes else ""
    return f"{target['rois']} ROIs{apart}"


def _why_unknown(config: "Config", path: Path) -> str:
    from cellwatch.images.suffixes import SUFFIXES, how_to_read
    from cellwatch.watching.names import is_wanted

    for watched in config.watch:
        if path.is_relative_to(watched.folder):
            relative = path.relative_to(watched.folder).as_posix()
            if path.suffix.lower() not in SUFFIXES:
                kind = "files of this kind are not read: " if path.exists() else ""
                how = how_to_read(path.suffix.lower())
                more = f"; to read them: {how}" if how else ""
                return f"{kind}'{path.suffix}' is none of {', '.join(SUFFIXES)}{more}"
            if path.is_symlink():
                return "it is a link, and links are not followed: watch the folder it leads to"
            if not is_wanted(relative, watched.include, watched.excluded()):
                return "its name is excluded (see include: and exclude:)"
            if not path.exists():
                return "and there is no such file"
            return "the daemon has not seen it yet"
    folders = ", ".join(str(w.folder) for w in config.watch)
    return f"it is in none of the watched folders: {folders}"
