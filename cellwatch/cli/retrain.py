"""Commands of the loop: retrain, rerun, effort, session; and what was decided of models."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellwatch.cli.client import ask, ledger_of, read_station, show
from cellwatch.cli.console import ConfigOption, JsonOption, print_json, print_table, tell
from cellwatch.errors import ExtraMissing, RequestRefused, UsageError
from cellwatch.storage.ledger.annotations import REGION_NOTE
from cellwatch.storage.reports import learning

if TYPE_CHECKING:
    from cellwatch.config.schema import Config

PAYING = 0.02  # AP@0.5 that the last corrections brought: below it more hardly pays


def register(app: typer.Typer) -> None:
    """Add these commands; those on models are added by the group of that name."""
    app.command()(retrain)
    app.command()(rerun)
    app.command()(effort)


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
    station = _learning_station(config)
    if now + dry_run + cancel != 1:
        raise UsageError("say one of --now, --dry-run (to see what it would do) and --cancel")
    if cancel:
        _groups(station, group)
        with ledger_of(station) as db:
            said = {"group": group, "runs": learning.not_ended(db, group)}
        show(ask(station, "cancel", said), as_json=as_json)
        return
    if now:
        show(ask(station, "retrain", {"group": group}, wait_s=60.0), as_json=as_json)
        return
    rows = [would_train(station, name) for name in _groups(station, group)]
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


def effort(
    group: Annotated[str, typer.Argument(help="Group; else all groups.")] = "",
    plot: Annotated[
        Path | None, typer.Option(help="Also draw it into a .png, .pdf or .svg file.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what correcting cost and gained, and whether more of it pays off."""
    station = _learning_station(config)
    found = []
    with ledger_of(station) as db:
        under_way = (learning.running(db) or {}).get("group_name")
        for name in _groups(station, group):
            images, nights = learning.effort(db, name), learning.nights(db, name)
            facts: dict[str, Any] = {"group": name, "images": images, "nights": nights}
            found.append(
                {
                    **facts,
                    "ceiling": learning.agreement(db, name),
                    "verdict": verdict(images, nights, is_training=name == under_way),
                }
            )
    if plot:
        _draw(found, plot)
    if as_json:
        print_json(found)
        return
    for facts in found:
        _show_effort(facts)


def verdict(
    images: list[dict[str, Any]],  # Any: what SQLite holds
    nights: list[dict[str, Any]],
    *,
    is_training: bool = False,
) -> str:
    """Say in one sentence whether more annotation still pays.

    Examples
    --------
    >>> verdict([], [])
    'nothing was corrected yet: three to five images are enough to begin'
    """
    if not images:
        return "nothing was corrected yet: three to five images are enough to begin"
    last: dict[str, Any] = nights[-1] if nights else {}  # Any: what SQLite holds
    is_scored = "candidate" in (last.get("numbers") or {})
    said = last.get("verdict")
    if said == "declined" or (said == "inconclusive" and is_scored):
        return f"the last training is not used ({said}): {last['told']}"
    if not is_scored:
        return _without_a_score(images, nights, is_training=is_training)
    gain = last["numbers"]["gain"]
    shares = [i["share"] for i in images if i["share"] is not None]
    by_hand = f"{shares[-1]:.0%} of the ROIs of the last image were done by hand"
    if gain >= PAYING:
        return f"it still pays: the last training gained {gain:+.3f} AP@0.5; {by_hand}"
    return (
        f"it hardly pays any more: the last training gained {gain:+.3f} AP@0.5; {by_hand}. "
        "Correct images of another kind, or only those that are flagged"
    )


def _without_a_score(
    images: list[dict[str, Any]],  # Any: what SQLite holds
    nights: list[dict[str, Any]],
    *,
    is_training: bool,
) -> str:
    if is_training:
        which = "another" if nights else "the first"
        return f"{which} training is under way (cellwatch status)"
    if nights:
        last = nights[-1]
        if (last["told"] or "").startswith("cancelled"):
            return f"the last training was {last['told']}: cellwatch retrain --now begins another"
        return f"the last training proves nothing ({last['verdict'] or 'failed'}): {last['told']}"
    wanted = "" if len(images) > 1 else "correct another image, then: "
    return f"no training was judged yet; {wanted}wait for the night, or cellwatch retrain --now"


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
            (r["decided_at"] or "")[:16],
            r["group_name"],
            r["model_id"] or ("(as configured)" if r["model_id"] == "" else ""),
            r["verdict"],
            r["reason"] or "",
        ]
        for r in rows
    ]
    print_table("", ["when (UTC)", "group", "model", "verdict", "reason"], table)


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


def _learning_station(config: Path | None) -> "Config":
    from cellwatch.daemon.requests.dispatch import folder_of

    station = read_station(config)
    folder_of(station)  # says what to add where there is none
    return station


def _groups(station: "Config", group: str) -> list[str]:
    from cellwatch.daemon.retraining.selection import groups_of

    known = list(groups_of(station))
    if group and group not in known:
        raise RequestRefused(f"there is no group '{group}'; there are {', '.join(known)}")
    return [group] if group else known


def would_train(station: "Config", group: str) -> dict[str, Any]:  # Any: JSON
    """Return what a training of a group would take, and whether a night would come to it."""
    from cellwatch.daemon.retraining.clock import NEVER
    from cellwatch.daemon.retraining.selection import groups_of, why_not_yet
    from cellwatch.storage.ledger import corrections, promotions, training_runs
    from cellwatch.storage.ledger.database import open_ledger
    from cellwatch.storage.ledger.precedence import counting, is_of

    db = open_ledger(station.state.folder)
    try:
        rows = counting(corrections.trainable(db, group), station.retrain.lead)
        base = promotions.base_of(db, group)
        reason = why_not_yet(db, group, station)
        held = corrections.sides(db, group)
        under_way = training_runs.unfinished(db)
        if under_way and under_way["group_name"] == group:
            reason = f"{under_way['model_id']} is trained now; this is what one after it would take"
        elif not reason and station.retrain.at == NEVER:
            reason = "not by itself (retrain.at is never): cellwatch retrain --now"
        says = reason or "it would be trained"
        if (lead := station.retrain.lead) and rows and not any(is_of(row, lead) for row in rows):
            says += f"; no correction is by '{lead}' (retrain.lead)"
        return {
            "group": group,
            "corrections": [_taken(row, held.get(row["content_key"])) for row in rows],
            "rois": sum(row["rois"] for row in rows),
            "base": base.id if base else groups_of(station)[group].target.model,
            "says": says,
        }
    finally:
        db.close()


def _taken(row: dict[str, Any], side: str | None) -> dict[str, Any]:  # Any: what SQLite holds
    plane = f"p{row['position']} t{row['t']} z{row['z']}"
    part = [plane] if row["position"] or row["t"] or row["z"] else []
    if row["crop"]:
        crop = json.loads(row["crop"])
        part.append(f"y{crop['y']} x{crop['x']} h{crop['height']} w{crop['width']}")
    part += ["checked region"] if REGION_NOTE in (row["notes"] or "") else []
    uses = {None: "new", "train": "trains", "held_out": "held out: judges"}
    return {
        "id": row["id"],
        "image": row["relative_path"],
        "part": " ".join(part),
        "rois": row["rois"],
        "annotator": row["annotator"],
        "use": uses[side],
    }


def _show_effort(facts: dict[str, Any]) -> None:  # Any: JSON
    typer.echo(f"{facts['group']}: {facts['verdict']}")
    rows = [
        [
            row["received_at"][:10],
            row["relative_path"],
            str(row["rois"]),
            f"+{row['added']} -{row['removed']} ~{row['changed']}",
            "" if row["share"] is None else f"{row['share']:.0%}",
            "" if row["minutes"] is None else f"{row['minutes']:.0f}",
            f"{row['ap50']:.3f}" + ("" if row["is_unseen"] else " (seen)"),
        ]
        for row in facts["images"]
    ]
    if rows:
        columns = ["day", "image", "ROIs", "by hand", "share", "minutes", "AP@0.5 before"]
        print_table("", columns, rows)
    nights = [
        [
            night["local_date"],
            night["model_id"] or "",
            night["verdict"] or _ended(night),
            _scored(night["numbers"]),
            "" if night["seconds"] is None else f"{night['seconds'] / 60:.0f}",
        ]
        for night in facts["nights"]
    ]
    if nights:
        columns = ["night", "model", "verdict", "AP@0.5 on unseen images", "minutes"]
        print_table("", columns, nights)
    for night in facts["nights"]:
        if night["state"] == "failed":
            how = "" if _ended(night) == "cancelled" else "failed: "
            tell(f"{night['model_id'] or night['local_date']} {how}{night['reason']}")
    own = facts["ceiling"]["own"]
    if own is not None:
        tell(f"you agree with yourself at AP@0.5 {own:.3f}: no model can be better than that")


def _ended(night: dict[str, Any]) -> str:  # Any: what SQLite holds
    is_cancelled = night["state"] == "failed" and night["reason"].startswith("cancelled")
    return "cancelled" if is_cancelled else str(night["state"])


def _scored(numbers: dict[str, Any] | None) -> str:  # Any: JSON
    if not numbers or "candidate" not in numbers:
        return ""
    low, high = numbers["interval_95"]
    return (
        f"{numbers['candidate']:.3f} against {numbers['incumbent']:.3f} "
        f"(gain {low:+.3f} to {high:+.3f})"
    )


def _draw(found: list[dict[str, Any]], path: Path) -> None:  # Any: JSON
    try:
        from cellwatch.workflows.effort_plot import draw_effort
    except ImportError as error:
        raise ExtraMissing("--plot needs matplotlib: pip install 'cellwatch[zoo]'") from error
    draw_effort(json.loads(json.dumps(found)), path)
    tell(f"drew {path}")
