"""The command that writes the report, and opens it."""

import webbrowser
from datetime import UTC, datetime
from typing import Annotated

import typer

from cellwatch.cli.client import read_station
from cellwatch.cli.console import ConfigOption, tell


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(report)


def report(
    config: ConfigOption = None,
    is_opened: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write report.html into the output folder: results, doubts, plates, learning, failures."""
    from cellwatch.storage.reports.html import write_report

    station = read_station(config)
    place = write_report(
        station.state.folder, station.output.folder, station.name, datetime.now(UTC)
    )
    typer.echo(str(place))
    if is_opened and not webbrowser.open(place.absolute().as_uri()):
        tell("no browser can be opened here; open the file above")
