"""Trainings: asked for, given up, within a session."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from cellwatch.config.schema import Config
from cellwatch.daemon.corrections import drop_watcher
from cellwatch.daemon.requests import models
from cellwatch.daemon.requests.corrections import folder_of
from cellwatch.daemon.retraining import scheduler
from cellwatch.daemon.retraining.nights import Nights
from cellwatch.daemon.retraining.selection import job_of
from cellwatch.errors import RequestRefused
from cellwatch.records import AskedRun
from cellwatch.storage.ledger import training_runs
from cellwatch.storage.ledger.requests import Answer, Request

Said = Mapping[str, Any]  # Any: JSON


def retrain(nights: Nights, said: Said, now: datetime) -> Answer:
    """Ask for trainings: of one group, or of all that have new corrections.

    Raises
    ------
    RequestRefused
        When there is nothing to train, or it is being trained.
    """
    wanted = [said["group"]] if said.get("group") else _with_news(nights)
    busy = [] if said.get("group") else [g for g in wanted if scheduler.is_asked(nights, g)]
    wanted = [group for group in wanted if group not in busy]
    if busy and not wanted:
        raise RequestRefused(f"{', '.join(busy)}: being trained now, or waiting for it")
    if not wanted:
        waiting = "" if _all_taken_in(nights) else "; dropped files wait until the daemon runs"
        text = f"no group has new corrections{waiting}; name one to train it all the same"
        raise RequestRefused(text)
    date = now.astimezone().date().isoformat()
    for group in wanted:
        scheduler.ask_for(nights, AskedRun(group, said.get("kind", "asked"), date), now)
    text = f"{', '.join(wanted)} will be trained"
    text += f"; {', '.join(busy)}: being trained now, or waiting for it" if busy else ""
    return Answer(True, text, {"groups": wanted})


def cancel(nights: Nights, request: Request, now: datetime) -> Answer:
    """Give up trainings that are under way or wait.

    Raises
    ------
    RequestRefused
        When there are none.
    """
    said = request.arguments
    group, reason = said.get("group") or "", f"cancelled by {request.asked_by}"
    rows = training_runs.give_up(nights.db, group, said["runs"], reason, now)
    if not rows:
        of = f" of '{group}'" if group else ""
        raise RequestRefused(f"no training{of} is under way or waits")
    groups = list(dict.fromkeys(row.group_name for row in rows))
    text = f"the training of {', '.join(groups)} is cancelled; the corrections stay, and the model"
    return Answer(True, text, {"groups": groups, "folders": [row.folder for row in rows]})


def session(db: Database, config: Config, nights: Nights, said: Said, now: datetime) -> Answer:
    """Put the training of a session together; the session itself trains."""
    group = models.group_named(config, said["group"])
    asked = AskedRun(group.name, "session", now.astimezone().date().isoformat())
    job = job_of(db, 0, asked, group, config, nights.configured, now)
    return Answer(True, f"'{group.name}' trains within a session", {"job": job.to_json()})


def _all_taken_in(nights: Nights) -> bool:
    folder = folder_of(nights.config)
    return not folder.is_dir() or drop_watcher.all_answered(nights.db, folder)


def _with_news(nights: Nights) -> list[str]:
    lead = nights.config.retrain.lead
    return [group for group in nights.groups if training_runs.new_rois(nights.db, group, lead)]
