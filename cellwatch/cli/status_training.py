"""What `status` says of learning: flags, corrections, models, the training under way."""

import json
import sqlite3
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import Any

import typer

from cellwatch.cli.console import local_time
from cellwatch.records import TrainingRun
from cellwatch.storage.reports import corrections as reports
from cellwatch.storage.reports import learning, station
from cellwatch.storage.reports.corrections import PeoplesPart

PROGRESS = "progress.json"
SHOWN = ("id", "group_name", "kind", "model_id", "started_at")  # of the training under way


def learning_facts(db: sqlite3.Connection) -> dict[str, Any]:  # Any: JSON
    """Return what there is to say; empty for a ledger of an earlier version."""
    if not station.has_loop(db):
        return {}
    configured = learning.models_configured(db)
    names = sorted({*learning.groups_known(db), *configured})
    flagged = reports.n_flagged(db)
    served = learning.groups_configured(db)
    groups = [
        {
            **asdict(each),
            "is_served": served is None or each.group in served,
            "configured": configured.get(each.group),
            "last_skip": learning.last_skip(db, each.group),
        }
        for each in learning.group_facts(db, names)
    ]
    return {
        "flagged": flagged,
        "dropped": reports.dropped_in_vain(db),
        "groups": groups,
        "training": _under_way(learning.running(db)),
        "waiting": [asdict(each) for each in learning.waiting(db)],
        "mixed_experiments": [asdict(each) for each in learning.mixed_experiments(db)],
    }


def learning_lines(
    facts: dict[str, Any],  # Any: JSON
    now: datetime,
    *,
    is_running: bool,
) -> list[str]:
    """Return what `status` prints of it."""
    if not facts:
        return []
    lines = []
    if facts["flagged"]:
        lines.append(f"{facts['flagged']} flagged (cellwatch review)")
    if dropped := ", ".join(f"{n} {state}" for state, n in facts["dropped"].items()):
        lines.append(f"dropped files: {dropped} (cellwatch corrections list)")
    lines += [_group(group) for group in facts["groups"]]
    if (training := facts["training"]) and not is_running:
        lines.append(f"training {training['model_id']} continues when the daemon runs again")
    elif training:
        lines.append(_training(training, now))
    lines += [f"the training of {run['group_name']} waits for its turn" for run in facts["waiting"]]
    return [*lines, *(_mixed(each) for each in facts["mixed_experiments"])]


def _training(training: dict[str, Any], now: datetime) -> str:  # Any: JSON
    of = f" of {training['steps']}" if training.get("steps") else ""
    stage = training.get("stage") or "starting"
    left = ""
    if (seconds := training.get("left_s")) is not None:
        end = clock(now + timedelta(seconds=seconds), now)
        left = f", about {spelled(seconds)} to go, done at about {end}"
    return f"training {training['model_id']}: {stage}, step {training.get('step', 0)}{of}{left}"


def _mixed(mixed: dict[str, Any]) -> str:  # Any: JSON
    rerun = f"cellwatch rerun {quote(mixed['experiment'])} --watch {quote(mixed['watch'])}"
    to_redo = mixed["to_redo"]
    return (
        f"experiment {mixed['watch']}/{mixed['experiment']} has {mixed['target']} of "
        f"{mixed['models']} models ({mixed['model_ids']}); "
        + (f"{to_redo} of its images are being redone" if to_redo else f"make it one: {rerun}")
    )


def clock(moment: datetime, now: datetime) -> str:
    """Return a time of day for people, with the day of the week unless it is today."""
    there, here = moment.astimezone(), now.astimezone()
    return there.strftime("%H:%M" if there.date() == here.date() else "%a %H:%M")


def spelled(seconds: float) -> str:
    """Return a time for people.

    Examples
    --------
    >>> spelled(90), spelled(600), spelled(9000)
    ('90 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{max(0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _group(group: dict[str, Any]) -> str:  # Any: JSON
    configured = group.get("configured")
    model = f"uses {configured} (as configured)" if configured else "uses its base"
    if group["model"]:
        other = f"; the configuration names {configured}" if configured else ""
        model = f"uses {group['model']} ({group['verdict']} {group['since'][:10]}{other})"
    counts = ", ".join(f"{n} {state}" for state, n in group["corrections"].items())
    skip = group["last_skip"]
    skipped = f"; its last night was skipped: {skip}" if skip else ""
    if (last := group["last_run"]) and last["state"] == "failed":
        how = f"was {last['reason']}" if last.get("is_cancelled") else f"failed: {last['reason']}"
        skipped += f"; its last training {how}"
    if (said := group["last_decision"]) and said["model_id"] != group["model"]:
        skipped += f"; {said['model_id']} was {said['verdict']} (cellwatch models history)"
    if not group["is_served"]:
        model += ", and is in the configuration no more (cellwatch config check)"
    given = f"; corrections: {counts}" if counts else ""
    return f"group {group['group']} {model}{given}{skipped}"


def show_people(part: PeoplesPart) -> None:
    """Print what people said and did about one acquisition, for `explain`."""
    for flag in part.flags:
        roi = f" ROI {flag.roi}" if flag.roi else ""
        lowered = f"; taken off: {flag.lowered_why}" if flag.lowered_at else ""
        why = f": {flag.why}" if flag.why else ""
        typer.echo(
            f"  flagged{roi} by {flag.raised_by} at {local_time(flag.raised_at)}{why}{lowered}"
        )
    for out in part.checkouts:
        kind = ", a second look" if out.is_mirrored else ""
        short_id = f" as ~{out.short_id}" if out.short_id else ""
        typer.echo(
            f"  taken out{short_id} at {local_time(out.checked_out_at)} for {out.format}{kind}"
        )
    for given in part.corrections:
        reason = f": {' '.join(given.reason.split())}" if given.reason else ""
        scored = ""
        if given.ap50 is not None:  # neither rejected nor a region
            scored = f", {given.rois} ROIs, AP@0.5 before {given.ap50:.3f}"
        typer.echo(f"  correction {given.id} {given.file}: {given.state}{scored}{reason}")
    for pin in part.pins:
        typer.echo(
            f"  all images of experiment {pin.experiment} get {pin.model_id} for {pin.target}, "
            f"since {local_time(pin.pinned_at)} ({pin.pinned_by})"
        )


def _under_way(run: TrainingRun | None) -> dict[str, Any] | None:  # Any: JSON
    if run is None:
        return None
    facts = {key: getattr(run, key) for key in SHOWN}
    try:
        said = json.loads((Path(run.folder or "") / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        said = {}
    return {**facts, **said}
