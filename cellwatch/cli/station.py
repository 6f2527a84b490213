"""Commands of a station: init, config check, run, explain, verify."""

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellwatch.cli.console import (
    ConfigOption,
    JsonOption,
    complain,
    print_json,
    print_table,
    start_logging,
    tell,
)
from cellwatch.cli.status import status
from cellwatch.config.locate import find_config
from cellwatch.errors import EXIT_FAILED, UsageError
from cellwatch.storage.reports import station

if TYPE_CHECKING:
    from cellwatch.config.schema import Config

config_app = typer.Typer(help="Check the configuration.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(init)
    app.add_typer(config_app, name="config")
    app.command()(run)
    app.command()(status)


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
        if not station.has_loop(db):
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
    for name, folder in (("output", checked.output.folder), ("state", checked.state.folder)):
        tell(f"{name}: {folder}{_missing(folder)}")
    for name, place in dropped.items():
        missing = "" if place["is_there"] else " (not there yet; it will be created)"
        tell(f"{name}: {place['folder']}{missing}")


def _missing(folder: Path) -> str:
    if folder.is_dir():
        return ""
    if folder.parent.is_dir():
        return " (not there yet; it will be created)"
    return f" (nor is {folder.parent}: is the path right, and its disk mounted?)"


def _paused(config: "Config") -> list[str]:
    from cellwatch.storage.reports.pauses import pauses
    from cellwatch.storage.reports.station import LEDGER, reader

    with reader(config.state.folder / LEDGER) as db:
        return [
            f"{f'folder {each.watch!r}' if each.watch else 'everything'} is paused by {each.by}: "
            "what waits is not segmented until cellwatch resume"
            for each in pauses(db)
        ]


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
        for line in _paused(checked):
            complain(line)
        if strict and bad:
            raise typer.Exit(EXIT_FAILED)
