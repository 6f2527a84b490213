"""Commands that train a group, and that segment an experiment again."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellwatch.cli.client import ask, groups_meant, learning_station, ledger_of, read_station, show
from cellwatch.cli.console import ConfigOption, JsonOption, print_json, print_table
from cellwatch.errors import UsageError
from cellwatch.storage.reports import learning

if TYPE_CHECKING:
    from cellwatch.config.schema import Config
    from cellwatch.records import TrainableCorrection


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(retrain)
    app.command()(rerun)


def retrain(
    group: Annotated[
        str, typer.Argument(help="Group to train; else all with new corrections.")
    ] = "",
    now: Annotated[bool, typer.Option("--now", help="Start immediately.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what a training would use.")
    ] = False,
    cancel: Annotated[
        bool,
        typer.Option(
            "--cancel",
            help="Cancel the running and the waiting trainings, of GROUP or of all groups.",
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a group on its corrections, as it happens every night.

    --dry-run shows the use of each correction: it trains, or it is held out for good and judges.
    Whether a new one will be held out is decided when the next training begins.
    """
    station = learning_station(config)
    if now + dry_run + cancel != 1:
        raise UsageError("say one of --now, --dry-run (to see what it would do) and --cancel")
    if cancel:
        groups_meant(station, group)
        with ledger_of(station) as db:
            said = {"group": group, "runs": learning.not_ended(db, group)}
        show(ask(station, "cancel", said), as_json=as_json)
        return
    if now:
        show(ask(station, "retrain", {"group": group}, wait_s=60.0), as_json=as_json)
        return
    rows = [would_train(station, name) for name in groups_meant(station, group)]
    if as_json:
        print_json(rows)
        return
    table = [
        [r["group"], str(len(r["corrections"])), str(r["rois"]), r["base"], r["says"]] for r in rows
    ]
    print_table("", ["group", "corrections", "ROIs", "begins with", "tonight"], table)
    each = [
        [r["group"], str(c["id"]), c["image"], c["part"], str(c["rois"]), c["annotator"], c["use"]]
        for r in rows
        for c in r["corrections"]
    ]
    if each:
        columns = ["group", "id", "image", "part", "ROIs", "annotator", "use"]
        print_table("", columns, each)


def rerun(
    experiment: Annotated[
        str, typer.Argument(help="Name of the experiment, as `explain` shows it.")
    ],
    model: Annotated[
        str, typer.Option("--model", help="Model; else the group's current model.")
    ] = "",
    watch: Annotated[str, typer.Option(help="Watched folder, where there are several.")] = "",
    target: Annotated[
        str, typer.Option(help="Target that gets the model, where there are several.")
    ] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Segment a whole experiment again with one model. New images go first.

    Its masks stay in place until the new ones are there; the old ones move to .superseded.
    """
    said = {"experiment": experiment, "model": model, "watch": watch or None, "target": target}
    show(ask(read_station(config), "rerun", said), as_json=as_json)


def would_train(station: "Config", group: str) -> dict[str, Any]:  # Any: JSON
    """Return what a training of a group would take, and whether a night would come to it."""
    from cellwatch.daemon.retraining.clock import NEVER
    from cellwatch.daemon.retraining.selection import groups_of, why_not_yet
    from cellwatch.storage.ledger import corrections, promotions, training_runs
    from cellwatch.storage.ledger.database import open_ledger
    from cellwatch.storage.ledger.precedence import in_effect, is_of

    db = open_ledger(station.state.folder)
    try:
        rows = in_effect(corrections.trainable(db, group), station.retrain.lead)
        base = promotions.base_of(db, group)
        reason = why_not_yet(db, group, station)
        held = corrections.sides(db, group)
        under_way = training_runs.unfinished(db)
        if under_way and under_way.group_name == group:
            reason = f"{under_way.model_id} is trained now; this is what one after it would take"
        elif not reason and station.retrain.at == NEVER:
            reason = "not by itself (retrain.at is never): cellwatch retrain --now"
        says = reason or "it would be trained"
        if (lead := station.retrain.lead) and rows and not any(is_of(row, lead) for row in rows):
            says += f"; no correction is by '{lead}' (retrain.lead)"
        return {
            "group": group,
            "corrections": [_taken(row, held.get(row.content_key)) for row in rows],
            "rois": sum(row.rois for row in rows),
            "base": base.id if base else groups_of(station)[group].target.model,
            "says": says,
        }
    finally:
        db.close()


def _taken(row: "TrainableCorrection", side: str | None) -> dict[str, Any]:  # Any: JSON
    plane = f"p{row.position} t{row.t} z{row.z}"
    part = [plane] if row.position or row.t or row.z else []
    if row.crop:
        crop = row.crop
        part.append(f"y{crop.y} x{crop.x} h{crop.height} w{crop.width}")
    part += ["checked region"] if row.is_in_region else []
    uses = {None: "new", "train": "trains", "held_out": "held out: judges"}
    return {
        "id": row.id,
        "image": row.relative_path,
        "part": " ".join(part),
        "rois": row.rois,
        "annotator": row.annotator,
        "use": uses[side],
    }
