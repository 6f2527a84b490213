"""Carry out what a person asked for through a command."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from cellwatch.config.schema import Config
from cellwatch.daemon.corrections import answers as receipts
from cellwatch.daemon.corrections import drop_watcher
from cellwatch.daemon.requests import models
from cellwatch.daemon.retraining import scheduler as training
from cellwatch.daemon.retraining.nights import Nights
from cellwatch.daemon.retraining.selection import job_of, why_not_yet
from cellwatch.errors import RequestRefused
from cellwatch.files.stems import stem_key
from cellwatch.records import AskedRun
from cellwatch.storage.corrections import answer_files
from cellwatch.storage.ledger import (
    annotations,
    corrections,
    flags,
    lookup,
    precedence,
    superseding,
    training_runs,
)
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.path_text import path_text, text_path
from cellwatch.storage.ledger.requests import Answer, Request

Said = Mapping[str, Any]  # Any: JSON


def carry_out(
    db: Database, config: Config, nights: Nights, request: Request, now: datetime
) -> Answer:
    """Do what was asked.

    Raises
    ------
    CellwatchError
        When it cannot be done; the text says why and what to do.
    """
    kinds: dict[str, Callable[[], Answer]] = {
        "flag": lambda: _flag(db, request, now),
        "unflag": lambda: _unflag(db, request, now),
        "checkout": lambda: _checkout(db, request.arguments, now),
        "withdraw": lambda: _withdraw(db, config, request.arguments, now),
        "confirm": lambda: _confirm(db, request, now),
        "retrain": lambda: _retrain(nights, request.arguments, now),
        "cancel": lambda: _cancel(nights, request, now),
        "session": lambda: _session(db, config, nights, request.arguments, now),
        "promote": lambda: models.promote(db, config, nights, request, now),
        "rollback": lambda: models.rollback(db, config, nights, request, now),
        "rerun": lambda: models.rerun(db, config, nights, request, now),
    }
    if request.kind not in kinds:
        raise RequestRefused(f"this daemon does not know '{request.kind}'; is it an older one?")
    return kinds[request.kind]()


def _flag(db: Database, request: Request, now: datetime) -> Answer:
    said = request.arguments
    flag = flags.Flag(said["name"], said.get("why", ""), said.get("roi"), request.asked_by)
    _require_roi(db, flag)
    found = flags.raise_flag(db, flag, now) or []
    text = f"flagged {said['name']}"
    if len(found) > 1:
        paths = [str(db.table("acquisitions").get(key)["path"]) for key in found]
        text += f": {len(found)} images of this name, {', '.join(paths)}"
    if not found:
        text += f"; it waits for the image, which is not known yet{_likely(db, flag.name)}"
    return Answer(True, text, {"found": found})


def _likely(db: Database, name: str) -> str:
    near = flags.resembling(db, name)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _require_roi(db: Database, flag: flags.Flag) -> None:
    found = flags.acquisitions_named(db, flag.name) if flag.roi else []
    most = lookup.most_rois(db, found)
    if flag.roi and most is not None and flag.roi > most:
        raise RequestRefused(f"{flag.name} has {most} ROIs; there is no ROI {flag.roi}")


def _unflag(db: Database, request: Request, now: datetime) -> Answer:
    name = request.arguments["name"]
    taken = flags.lower_flag(db, name, f"unflagged by {request.asked_by}", now)
    if not taken:
        known = flags.acquisitions_named(db, name, is_every=True)
        raise RequestRefused(f"{name} has no flag{'' if known else _likely(db, name)}")
    return Answer(True, f"took {taken} flag{'s' if taken > 1 else ''} off {name}", {"flags": taken})


def _checkout(db: Database, said: Said, now: datetime) -> Answer:
    with transaction(db):
        for made in said["made"]:
            row = {**made, "stem": path_text(stem_key(f"{made['stem']}.x"))}
            db.table("checkouts").insert({**row, "checked_out_at": now.isoformat()})
    return Answer(True, f"took {len(said['made'])} out", {})


def _withdraw(db: Database, config: Config, said: Said, now: datetime) -> Answer:
    taken = superseding.withdraw(db, int(said["id"]), now)
    if taken is None:
        raise RequestRefused(_why_not_standing(db, int(said["id"])))
    row, back = taken
    text = f"correction {row['id']} ({row['file']}) is withdrawn"
    if back is not None:
        text += f"; correction {back['id']} ({back['file']}: {back['rois']} ROIs) is active again"
    counting = precedence.counting_ids(db, config.retrain.lead)
    rivals = precedence.above(db, back["id"]) if back else precedence.sharing(db, row["id"])
    others = [rival for rival in rivals if rival["id"] in counting]
    if model := training_runs.in_training(db, row["id"]):
        text += f"; {model}, now in training, learns from it still (cellwatch retrain --cancel)"
    if row["kind"] == "region" and (under := annotations.with_region(db, row["id"])):
        text += f"; all of {receipts.named(under)} is used again, also what it did not mark"
    if others:
        text += f"; {receipts.named(others)} now applies to its pixels"
    if config.corrections is not None:
        if superseding.is_latest_of_file(db, row["id"]):
            answer_files.take_back(config.corrections.folder / text_path(row["file"]))
        receipts.answer_part(db, config.corrections.folder, row["id"])
    return Answer(True, text, {"stands_again": back["id"] if back else None})


def _confirm(db: Database, request: Request, now: datetime) -> Answer:
    key = int(request.arguments["id"])
    row = corrections.confirm(db, key, request.asked_by, now)
    if row is None:
        raise RequestRefused(
            f"correction {key} is not one that waits for a word: only the latest drop of a file "
            "that was rejected for a doubt can be confirmed (cellwatch corrections list)"
        )
    text = f"correction {key} ({row['file']}) is confirmed: it is read again, and learned from"
    return Answer(True, text, {"id": key})


def _why_not_standing(db: Database, key: int) -> str:
    row = next(db.table("corrections").rows_where("id = ?", [key]), None)
    if row is None:
        return f"there is no correction {key}; see: cellwatch corrections list --all"
    if row["superseded_by"] is not None:
        return (
            f"correction {key} is not active: correction {row['superseded_by']} took its place; "
            "to use it again, save its file again"
        )
    return f"correction {key} is not active: it is {row['state']}"


def _retrain(nights: Nights, said: Said, now: datetime) -> Answer:
    wanted = [said["group"]] if said.get("group") else _with_news(nights)
    busy = [] if said.get("group") else [g for g in wanted if training.is_asked(nights, g)]
    wanted = [group for group in wanted if group not in busy]
    if busy and not wanted:
        raise RequestRefused(f"{', '.join(busy)}: being trained now, or waiting for it")
    if not wanted:
        waiting = "" if _all_taken_in(nights) else "; dropped files wait until the daemon runs"
        text = f"no group has new corrections{waiting}; name one to train it all the same"
        raise RequestRefused(text)
    date = now.astimezone().date().isoformat()
    for group in wanted:
        training.ask_for(nights, AskedRun(group, said.get("kind", "asked"), date), now)
    text = f"{', '.join(wanted)} will be trained"
    text += f"; {', '.join(busy)}: being trained now, or waiting for it" if busy else ""
    return Answer(True, text, {"groups": wanted})


def _all_taken_in(nights: Nights) -> bool:
    folder = folder_of(nights.config)
    return not folder.is_dir() or drop_watcher.all_answered(nights.db, folder)


def _cancel(nights: Nights, request: Request, now: datetime) -> Answer:
    said = request.arguments
    group, reason = said.get("group") or "", f"cancelled by {request.asked_by}"
    rows = training_runs.give_up(nights.db, group, said["runs"], reason, now)
    if not rows:
        of = f" of '{group}'" if group else ""
        raise RequestRefused(f"no training{of} is under way or waits")
    groups = list(dict.fromkeys(row["group_name"] for row in rows))
    text = f"the training of {', '.join(groups)} is given up; the corrections stay, and the model"
    return Answer(True, text, {"groups": groups, "folders": [r["folder"] for r in rows]})


def _session(db: Database, config: Config, nights: Nights, said: Said, now: datetime) -> Answer:
    group = models.group_named(config, said["group"])
    asked = AskedRun(group.name, "session", now.astimezone().date().isoformat())
    job = job_of(db, 0, asked, group, config, nights.configured, now)
    return Answer(True, f"'{group.name}' trains within a session", {"job": job.to_json()})


def _with_news(nights: Nights) -> list[str]:
    quiet = "no new corrections"
    return [g for g in nights.groups if why_not_yet(nights.db, g, nights.config) != quiet]


def folder_of(config: Config) -> Path:
    """Return the corrections folder.

    Raises
    ------
    RequestRefused
        When the station has none.
    """
    if config.corrections is None:
        raise RequestRefused(
            "the configuration has no corrections folder; add corrections: {folder: corrections}"
        )
    return config.corrections.folder
