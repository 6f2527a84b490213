"""Corrections: taken out, withdrawn, confirmed."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from cellwatch.config.schema import Config
from cellwatch.daemon.corrections import answers as receipts
from cellwatch.errors import RequestRefused
from cellwatch.storage.corrections import answer_files
from cellwatch.storage.ledger import (
    annotations,
    checkouts,
    confirmations,
    precedence,
    superseding,
    training_runs,
)
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.path_text import text_path
from cellwatch.storage.ledger.requests import Answer, Request

Said = Mapping[str, Any]  # Any: JSON


def checkout(db: Database, said: Said, now: datetime) -> Answer:
    """Record what was taken out."""
    with transaction(db):
        for made in said["made"]:
            checkouts.record(db, made, now)
    return Answer(True, f"checkouts recorded: {len(said['made'])}", {})


def withdraw(db: Database, config: Config, said: Said, now: datetime) -> Answer:
    """Withdraw a correction; what it replaced is active again.

    Raises
    ------
    RequestRefused
        When it is not active.
    """
    taken = superseding.withdraw(db, int(said["id"]), now)
    if taken is None:
        raise RequestRefused(_why_not_active(db, int(said["id"])))
    row, back = taken
    text = f"correction {row.id} ({row.file}) is withdrawn"
    if back is not None:
        text += f"; correction {back.id} ({back.file}: {back.rois} ROIs) is active again"
    used = precedence.ids_in_effect(db, config.retrain.lead)
    rivals = precedence.above(db, back.id) if back else precedence.sharing(db, row.id)
    others = [rival for rival in rivals if rival.id in used]
    if model := training_runs.in_training(db, row.id):
        text += f"; {model}, now in training, learns from it still (cellwatch retrain --cancel)"
    if row.kind == "region" and (under := annotations.with_region(db, row.id)):
        text += f"; all of {receipts.named(under)} is used again, also what it did not mark"
    if others:
        text += f"; {receipts.named(others)} now applies to its pixels"
    if config.corrections is not None:
        if superseding.is_latest_of_file(db, row.id):
            answer_files.take_back(config.corrections.folder / text_path(row.file))
        receipts.answer_part(db, config.corrections.folder, row.id)
    return Answer(True, text, {"active_again": back.id if back else None})


def confirm(db: Database, request: Request, now: datetime) -> Answer:
    """Accept a correction that was rejected for a doubt.

    Raises
    ------
    RequestRefused
        When it was not.
    """
    key = int(request.arguments["id"])
    row = confirmations.confirm(db, key, request.asked_by, now)
    if row is None:
        raise RequestRefused(
            f"correction {key} cannot be confirmed: only the latest drop of a file "
            "that was rejected for a doubt can be confirmed (cellwatch corrections list)"
        )
    text = f"correction {key} ({row.file}) is confirmed: it is read again, and learned from"
    return Answer(True, text, {"id": key})


def _why_not_active(db: Database, key: int) -> str:
    row = superseding.by_id(db, key)
    if row is None:
        return f"there is no correction {key}; see: cellwatch corrections list --all"
    if row.superseded_by is not None:
        return (
            f"correction {key} is not active: correction {row.superseded_by} took its place; "
            "to use it again, save its file again"
        )
    return f"correction {key} is not active: it is {row.state}"


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
