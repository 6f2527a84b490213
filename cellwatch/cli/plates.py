"""The command that shows plates, and the wells of one."""

import csv
import sys
from dataclasses import asdict, fields
from typing import Annotated

import typer

from cellwatch.cli.console import ConfigOption, JsonOption, print_json, print_table, tell
from cellwatch.config.locate import find_config, state_folder
from cellwatch.errors import UsageError
from cellwatch.storage.ledger.path_text import printable
from cellwatch.storage.reports import plates as reports
from cellwatch.storage.reports import station


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(plates)


def plates(
    plate: Annotated[
        str | None, typer.Argument(help="A plate, to see its wells; its name may be shortened.")
    ] = None,
    config: ConfigOption = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="A row for each well and target.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the plates, or how many ROIs each well of one has."""
    with station.reader(state_folder(find_config(config)) / station.LEDGER) as db:
        found = reports.plates(db, name=plate or "") if reports.has_plates(db) else []
        if plate is not None and len(found) != 1:
            raise UsageError(_why_none(plate, found))
        counts = reports.wells(db, found[0].watch, found[0].plate) if plate is not None else []
    if plate is None:
        _show_plates(found, as_json=as_json)
    elif as_json:
        print_json({**asdict(found[0]), "well_counts": [asdict(each) for each in counts]})
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(["plate", *(each.name for each in fields(reports.WellCount))])
        writer.writerows([found[0].plate, *asdict(each).values()] for each in counts)
    else:
        _show_wells(found[0], counts)


def _why_none(name: str, found: list[reports.PlateSummary]) -> str:
    if not found:
        return f"there is no plate '{name}'; `cellwatch plates` lists those there are"
    listed = ", ".join(f"{each.watch}: {each.plate}" for each in found)
    return f"'{name}' may be any of these plates: {listed}"


def _show_plates(found: list[reports.PlateSummary], *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(each) for each in found])
    elif not found:
        tell("no plate has arrived yet")
    else:
        rows = [
            [each.watch, each.plate, str(each.wells), f"{each.done} of {each.fields}",
             str(each.bad), str(each.rois)]
            for each in found
        ]  # fmt: skip
        print_table("", ["folder", "plate", "wells", "fields done", "bad", "ROIs"], rows)


def _show_wells(plate: reports.PlateSummary, counts: list[reports.WellCount]) -> None:
    for target in dict.fromkeys(each.target for each in counts):
        of_target = [each for each in counts if each.target == target]
        rows, columns, by_place = reports.grid(of_target)
        lines = [["", *(f"{column:02d}" for column in columns)]]
        lines += [[row, *(_cell(by_place.get((row, c))) for c in columns)] for row in rows]
        width = max(len(cell) for line in lines for cell in line) + 2
        typer.echo(printable(f"{plate.plate}: {target or 'ROIs'} in each well"))
        for first, *cells in lines:
            typer.echo(f"{first:2}" + "".join(cell.rjust(width) for cell in cells))
    tell(f"{plate.done} of {plate.fields} fields are done; `--csv` gives a row for each well")


def _cell(count: reports.WellCount | None) -> str:
    if count is None:
        return ""
    if count.done == 0:
        return "…"
    return f"{count.rois}{'' if count.done == count.fields else '…'}"
