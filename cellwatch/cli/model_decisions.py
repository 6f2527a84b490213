"""Commands about the models of a group: history, promote, rollback."""

from typing import Annotated

import typer

from cellwatch.cli.client import ask, ledger_of, read_station, show
from cellwatch.cli.console import ConfigOption, JsonOption, local_time, print_json, print_table
from cellwatch.storage.reports import learning


def models_history(
    group: Annotated[str, typer.Argument(help="Group; else all groups.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the decisions on models with their numbers, newest first."""
    station = read_station(config)
    with ledger_of(station) as db:
        rows = learning.decisions(db, group)
    if as_json:
        print_json(rows)
        return
    table = [
        [
            local_time(r.decided_at),
            r.group_name,
            r.model_id or ("(as configured)" if r.model_id == "" else ""),
            r.verdict,
            r.reason or "",
        ]
        for r in rows
    ]
    print_table("", ["when", "group", "model", "verdict", "reason"], table)


def models_promote(
    model: Annotated[
        str, typer.Argument(help="Id of a model in the station's zoo, or of a built-in model.")
    ],
    group: Annotated[str, typer.Option(help="Group; a nightly id names its own.")] = "",
    why: Annotated[str, typer.Option(help="Reason, for the ledger.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Use a model for a group's new experiments, whatever the gate decided."""
    said = {"model": model, "group": group, "why": why}
    show(ask(read_station(config), "promote", said), as_json=as_json)


def models_rollback(
    group: Annotated[str, typer.Argument(help="Group whose last promotion is undone.")],
    why: Annotated[str, typer.Option(help="Reason, for the ledger.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Return to the model that a group used before."""
    show(ask(read_station(config), "rollback", {"group": group, "why": why}), as_json=as_json)
