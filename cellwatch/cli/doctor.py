"""The command that examines a machine and a station, and says what to do."""

import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import typer

from cellwatch.cli.console import ConfigOption, JsonOption, counted, print_json, tell
from cellwatch.config.locate import NAME, VARIABLE, find_config
from cellwatch.errors import EXIT_FAILED

COLOURS = {"ok": typer.colors.GREEN, "note": typer.colors.YELLOW, "problem": typer.colors.RED}


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(doctor)


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Examine the machine and the station, and say what to do. Exit code 1 if there is a problem.

    Without a configuration the machine alone is examined. Nothing is left changed.
    """
    from cellwatch.compute.machine import examine_machine
    from cellwatch.daemon.service.doctor import examine

    place = _config_or_none(config)
    found = []
    for finding in examine(place, datetime.now(UTC)) if place else examine_machine():
        found.append(finding)
        if not as_json:
            verdict = typer.style(f"{finding.verdict:8}", fg=COLOURS[finding.verdict])
            typer.echo(f"{verdict} {finding.subject}: {finding.text}")
            if finding.remedy:
                typer.echo(f"{'':9}→ {finding.remedy}")
    problems = sum(1 for finding in found if finding.verdict == "problem")
    if as_json:
        config_text = str(place) if place else None
        print_json({"config": config_text, "findings": [asdict(each) for each in found]})
    elif problems:
        tell(f"{counted(problems, 'problem')}")
    else:
        tell("no problem" if place else "no problem; for a station: cellwatch doctor --config FILE")
    if problems:
        raise typer.Exit(EXIT_FAILED)


def _config_or_none(given: Path | None) -> Path | None:
    # A configuration that was named has to be there.
    if given is None and not os.environ.get(VARIABLE) and not Path(NAME).is_file():
        return None
    return find_config(given)
