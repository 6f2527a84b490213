"""Which model a group uses: decisions as rows, pins of experiments, bases that are frozen."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from cellwatch.records import Verdict
from cellwatch.storage.ledger.acquisitions import iso
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.path_text import path_text, text_path

IN_USE = tuple(verdict.value for verdict in Verdict if verdict.is_in_use)
_MARKS = ", ".join("?" * len(IN_USE))


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model by its id and its weights."""

    id: str
    sha256: str


# Stands for whatever the configuration names: nothing is promoted any more.
CONFIGURED = ModelName("", "")


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided of a model.

    Attributes
    ----------
    group : str
    verdict : Verdict
    model : ModelName
        In use from here on; of a verdict that declines: the one that was declined.
    previous : ModelName or None
        In use before.
    reason : str
    numbers : mapping
        JSON.
    run_id : int or None
    decided_by : str
    """

    group: str
    verdict: Verdict
    model: ModelName
    previous: ModelName | None
    reason: str
    numbers: Mapping[str, Any]  # Any: JSON
    run_id: int | None
    decided_by: str


@dataclass(frozen=True, slots=True)
class InUse:
    """The model that a group uses now.

    Attributes
    ----------
    model : ModelName
    verdict : Verdict
    previous : ModelName or None
    since : str
    run_id : int or None
        Whose evidence it came by; None: a person chose it.
    """

    model: ModelName
    verdict: Verdict
    previous: ModelName | None
    since: str
    run_id: int | None = None


def decide(db: Database, decision: Decision, now: datetime) -> None:
    """Record a decision; inside a transaction."""
    before = decision.previous
    db.table("promotions").insert(
        {
            "group_name": decision.group,
            "verdict": decision.verdict,
            "model_id": decision.model.id,
            "model_sha256": decision.model.sha256,
            "previous_id": before.id if before else None,
            "previous_sha256": before.sha256 if before else None,
            "reason": decision.reason,
            "numbers": json.dumps(dict(decision.numbers)),
            "run_id": decision.run_id,
            "decided_by": decision.decided_by,
            "decided_at": iso(now),
        }
    )


def in_use(db: Database | sqlite3.Connection, group: str) -> InUse | None:
    """Return the model that a group uses; None: the one that the configuration names."""
    sql = f"""
        SELECT model_id, model_sha256, verdict, previous_id, previous_sha256, decided_at, run_id
        FROM promotions WHERE group_name = ? AND verdict IN ({_MARKS}) ORDER BY id DESC LIMIT 1
    """
    row = db.execute(sql, [group, *IN_USE]).fetchone()
    if row is None or not row[0]:
        return None
    previous = ModelName(row[3], row[4]) if row[3] else None
    return InUse(ModelName(row[0], row[1]), Verdict(row[2]), previous, row[5], row[6])


def groups_with_work(db: Database | sqlite3.Connection) -> list[str]:
    """Return the groups that have standing corrections, or a model of their own in use."""
    sql = f"""
        SELECT group_name FROM corrections
        WHERE kind = 'labels' AND state IN ('trainable', 'used') AND group_name IS NOT NULL
        UNION SELECT group_name FROM promotions WHERE verdict IN ({_MARKS}) AND model_id != ''
        ORDER BY 1
    """
    return [name for (name,) in db.execute(sql, list(IN_USE)).fetchall()]


def why_not_used(db: Database, group: str, model_id: str) -> str:
    """Return the gate's last words on a candidate of a group that it did not let in; "": none."""
    sql = """
        SELECT verdict, reason FROM promotions WHERE group_name = ? AND model_id = ?
        ORDER BY id DESC LIMIT 1
    """
    row = db.execute(sql, [group, model_id]).fetchone()
    return f"{row[0]}: {row[1]}" if row and not Verdict(row[0]).is_in_use else ""


def before_current(db: Database, group: str) -> ModelName | None:
    """Return the model to which a rollback leads; None: to the one that the configuration names.

    That is what was in use before the current model came, also where decisions that kept it
    (a confirmation) lie between. What was taken back or revoked is gone for good: the next
    rollback leads further back, not forth again.
    """
    sql = f"""
        SELECT model_id, model_sha256, verdict, previous_id, previous_sha256 FROM promotions
        WHERE group_name = ? AND verdict IN ({_MARKS}) ORDER BY id
    """
    stack: list[ModelName] = []
    for model, sha256, verdict, before, before_sha256 in db.execute(sql, [group, *IN_USE]):
        named = ModelName(model, sha256)
        if named == CONFIGURED:
            stack.clear()
            continue
        if not stack and before:
            stack.append(ModelName(before, before_sha256))
        if verdict in (Verdict.ROLLED_BACK, Verdict.REVOKED) and named in stack:
            del stack[stack.index(named) + 1 :]
        elif not stack or stack[-1] != named:
            stack.append(named)
    return stack[-2] if len(stack) > 1 else None


def freeze_base(db: Database, group: str, base: ModelName, now: datetime) -> ModelName:
    """Return the base of a group, freezing the given one if it has none yet."""
    with transaction(db):
        db.table("groups").insert(
            {
                "name": group,
                "base_model_id": base.id,
                "base_model_sha256": base.sha256,
                "frozen_at": iso(now),
            },
            pk="name",
            ignore=True,
        )
        row = db.table("groups").get(group)
    return ModelName(row["base_model_id"], row["base_model_sha256"])


def base_of(db: Database | sqlite3.Connection, group: str) -> ModelName | None:
    """Return the frozen base of a group; None: it was never trained."""
    sql = "SELECT base_model_id, base_model_sha256 FROM groups WHERE name = ?"
    row = db.execute(sql, [group]).fetchone()
    return ModelName(row[0], row[1]) if row else None


def pinned(db: Database, watch: str, experiment: str, target: str) -> ModelName | None:
    """Return the model that an experiment keeps; None: it has none yet."""
    sql = """
        SELECT model_id, model_sha256 FROM pins WHERE watch = ? AND experiment = ? AND target = ?
    """
    row = db.execute(sql, [watch, path_text(experiment), target]).fetchone()
    return ModelName(*row) if row else None


def pin(
    db: Database,
    place: tuple[str, str, str],
    model: ModelName,
    by: str,
    now: datetime,
    *,
    is_repeat: bool = False,
) -> None:
    """Fix the model of an experiment, given as watch, experiment and target.

    With `is_repeat` another one may be there already; otherwise the first stays.
    """
    watch, experiment, target = place
    row = {
        "watch": watch,
        "experiment": path_text(experiment),
        "target": target,
        "model_id": model.id,
        "model_sha256": model.sha256,
        "pinned_by": by,
        "pinned_at": iso(now),
    }
    keys = ("watch", "experiment", "target")
    if is_repeat:
        db.table("pins").upsert(row, pk=keys)
    else:
        db.table("pins").insert(row, pk=keys, ignore=True)


def rerun(
    db: Database,
    place: tuple[str, str],
    pins: Mapping[str, ModelName | None],
    by: str,
    now: datetime,
    *,
    is_by_file: bool = False,
) -> int:
    """Queue a whole experiment again, behind new images; flagged ones go first.

    Parameters
    ----------
    db : Database
    place : (str, str)
        Watch and experiment.
    pins : mapping of str to ModelName or None
        By target: the model that it is done with; None: the style of its first image chooses.
    by : str
    now : datetime
    is_by_file : bool
        Whether it is each file that keeps a model, not the experiment.

    Returns
    -------
    int
        How many acquisitions. Their masks stay until the new ones are in place.
    """
    watch, experiment = place
    with transaction(db):
        for key in _files_of(db, place) if is_by_file else [experiment]:
            for target, model in pins.items():
                if model is None:
                    _unpin(db, (watch, key, target))
                    continue
                pin(db, (watch, key, target), model, by, now, is_repeat=True)
        flagged = "id IN (SELECT acquisition_id FROM flags WHERE lowered_at IS NULL)"
        done = db.execute(
            f"""
            UPDATE acquisitions SET state = 'queued', state_since = ?, reason = NULL, attempts = 0,
                   worker_deaths = 0, daemon_deaths = 0, retry_at = NULL,
                   compared_with = NULL, priority = CASE WHEN {flagged} THEN -1 ELSE -2 END
            WHERE watch = ? AND experiment = ? AND superseded_by IS NULL AND fingerprint != ''
                  AND state IN ('done', 'failed', 'quarantined', 'blocked')
            """,
            [iso(now), watch, path_text(experiment)],
        )
        return int(done.rowcount)


def queued(db: Database, place: tuple[str, str]) -> list[str]:
    """Return the paths of the images of a watched folder's experiment that wait for their turn."""
    sql = """
        SELECT path FROM acquisitions WHERE watch = ? AND experiment = ? AND state = 'queued'
        AND superseded_by IS NULL
    """
    values = [place[0], path_text(place[1])]
    return [path for (path,) in db.execute(sql, values).fetchall()]


def _unpin(db: Database, place: tuple[str, str, str]) -> None:
    watch, experiment, target = place
    sql = "DELETE FROM pins WHERE watch = ? AND experiment = ? AND target = ?"
    db.execute(sql, [watch, path_text(experiment), target])


def repinned_since(db: Database, place: tuple[str, str, str], moment: str) -> ModelName | None:
    """Return the model that a person chose for an experiment's target after a moment; else None."""
    watch, experiment, target = place
    sql = """
        SELECT model_id, model_sha256 FROM pins
        WHERE watch = ? AND experiment = ? AND target = ? AND pinned_at > ?
    """
    row = db.execute(sql, [watch, path_text(experiment), target, moment]).fetchone()
    return ModelName(*row) if row else None


def queue_again(db: Database, acquisition_id: int, now: datetime) -> None:
    """Put one acquisition that is done back into the queue, behind new images."""
    with transaction(db):
        db.execute(
            "UPDATE acquisitions SET state = 'queued', state_since = ?, attempts = 0, "
            "compared_with = NULL, priority = -2 WHERE id = ? AND state = 'done'",
            [iso(now), acquisition_id],
        )


def _files_of(db: Database, place: tuple[str, str]) -> list[str]:
    sql = "SELECT DISTINCT path FROM acquisitions WHERE watch = ? AND experiment = ?"
    rows = db.execute(sql, [place[0], path_text(place[1])]).fetchall()
    return [text_path(path) for (path,) in rows]
