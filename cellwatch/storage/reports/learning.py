"""Read-only reports on groups, trainings and models, with the standard library alone."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cellwatch.records import Promotion, TrainingRun
from cellwatch.storage.ledger.rows import first, records
from cellwatch.storage.reports.corrections import groups_corrected

GROUPS = "groups"  # of the station's facts: those of the configuration, as JSON
GROUP_MODELS = "group_models"  # by group the model that the configuration names, as JSON


def groups_known(db: sqlite3.Connection) -> set[str]:
    """Return the groups that have corrections or promotions."""
    promoted = db.execute("SELECT DISTINCT group_name FROM promotions")
    return groups_corrected(db) | {name for (name,) in promoted}


def n_audited(db: sqlite3.Connection) -> tuple[int, int]:
    """Return how many scores there are, and how many networks were trained."""
    n_scores = db.execute("SELECT count(*) FROM scores").fetchone()[0]
    n_networks = db.execute("SELECT count(DISTINCT model_sha256) FROM trained_on").fetchone()[0]
    return int(n_scores), int(n_networks)


def groups_configured(db: sqlite3.Connection) -> list[str] | None:
    """Return the groups of the configuration that the daemon last read; None: it never said."""
    row = db.execute("SELECT value FROM station WHERE key = ?", [GROUPS]).fetchone()
    return list(json.loads(row[0])) if row else None


def models_configured(db: sqlite3.Connection) -> dict[str, str]:
    """Return by group the model that the configuration named when it was last read."""
    row = db.execute("SELECT value FROM station WHERE key = ?", [GROUP_MODELS]).fetchone()
    return dict(json.loads(row[0])) if row else {}


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """A group for `status`.

    Attributes
    ----------
    group : str
    model, verdict, since : str or None
        The promoted model in use and how it came; None: what the configuration names.
    corrections : dict of str to int
        By state.
    last_run : TrainingRun or None
    last_decision : Promotion or None
    """

    group: str
    model: str | None
    verdict: str | None
    since: str | None
    corrections: dict[str, int]
    last_run: TrainingRun | None
    last_decision: Promotion | None


def group_facts(db: sqlite3.Connection, names: Sequence[str]) -> list[GroupFacts]:
    """Return of each group: the model in use, its corrections, its last training."""
    return [_group_facts(db, name) for name in names]


def _group_facts(db: sqlite3.Connection, name: str) -> GroupFacts:
    of = "SELECT * FROM promotions WHERE group_name = ?"
    newest = "ORDER BY id DESC LIMIT 1"
    used = first(
        db, Promotion, f"{of} AND verdict NOT IN ('declined', 'inconclusive') {newest}", [name]
    )
    counts = db.execute(
        "SELECT state, count(*) FROM corrections WHERE group_name = ? AND kind = 'labels' "
        "AND state NOT IN ('rejected', 'orphan') AND reason IS NULL GROUP BY state",
        [name],
    ).fetchall()
    runs = f"SELECT * FROM runs WHERE group_name = ? AND state != 'skipped' {newest}"
    return GroupFacts(
        name,
        (used.model_id or None) if used else None,
        used.verdict if used and used.model_id else None,
        used.decided_at if used else None,
        dict(counts),
        first(db, TrainingRun, runs, [name]),
        first(db, Promotion, f"{of} {newest}", [name]),
    )


def running(db: sqlite3.Connection) -> TrainingRun | None:
    """Return the training that is under way; None: there is none."""
    return first(db, TrainingRun, "SELECT * FROM runs WHERE state = 'running' LIMIT 1")


def not_ended(db: sqlite3.Connection, group: str = "") -> list[int]:
    """Return the ids of the trainings of a group ("": of all) that run or wait."""
    sql = "SELECT id FROM runs WHERE state IN ('running', 'waiting') AND ? IN ('', group_name)"
    return [key for (key,) in db.execute(sql, [group])]


@dataclass(frozen=True, slots=True)
class WaitingRun:
    """A training that waits for its turn."""

    id: int
    group_name: str
    kind: str
    asked_at: str


def waiting(db: sqlite3.Connection) -> list[WaitingRun]:
    """Return the trainings that wait for their turn, oldest first."""
    sql = "SELECT id, group_name, kind, started_at AS asked_at FROM runs WHERE state = 'waiting'"
    return records(db, WaitingRun, f"{sql} ORDER BY id")


def last_skip(db: sqlite3.Connection, group: str) -> str:
    """Return why the last night of a group was skipped; "": it was not, or had nothing new."""
    row = db.execute(
        "SELECT state, reason FROM runs WHERE group_name = ? ORDER BY id DESC LIMIT 1", [group]
    ).fetchone()
    return str(row["reason"]) if row and row["state"] == "skipped" else ""


def decisions(db: sqlite3.Connection, group: str = "") -> list[Promotion]:
    """Return what was decided of models, and the trainings that came to nothing, newest first."""
    sql = "SELECT * FROM promotions WHERE ? IN ('', group_name) ORDER BY id DESC"
    decided = records(db, Promotion, sql, [group])
    sql = """
        SELECT NULL AS id, id AS run_id, group_name, model_id, NULL AS model_sha256,
               NULL AS previous_id, NULL AS previous_sha256, reason, NULL AS numbers,
               NULL AS decided_by, ended_at AS decided_at,
               CASE WHEN is_cancelled THEN 'cancelled' ELSE 'failed' END AS verdict
        FROM runs
        WHERE state = 'failed' AND ? IN ('', group_name) ORDER BY id DESC
    """
    failed = records(db, Promotion, sql, [group])
    return sorted([*decided, *failed], key=lambda row: str(row.decided_at), reverse=True)


@dataclass(frozen=True, slots=True)
class MixedExperiment:
    """An experiment whose target was segmented with more than one model.

    Attributes
    ----------
    watch, experiment, target : str
    models : int
    model_ids : str
        Between commas.
    to_redo : int
        Its images that a rerun has not done yet.
    """

    watch: str
    experiment: str
    target: str
    models: int
    model_ids: str
    to_redo: int


def mixed_experiments(db: sqlite3.Connection) -> list[MixedExperiment]:
    """Return the experiments that were segmented with more than one model."""
    sql = """
        SELECT m.*, (SELECT count(*) FROM acquisitions a WHERE a.watch = m.watch
                     AND a.experiment = m.experiment AND a.superseded_by IS NULL
                     AND a.state IN ('queued', 'running') AND a.priority < 0) AS to_redo
        FROM mixed_experiments m
    """
    return records(db, MixedExperiment, sql)


@dataclass(frozen=True, slots=True)
class CorrectedImage:
    """What one corrected image cost and was worth.

    Attributes
    ----------
    share : float or None
        Of its ROIs that were done by hand; None: there are none.
    is_unseen : bool
        Whether the model was not trained on it when it was scored.
    """

    id: int
    received_at: str
    relative_path: str
    annotator: str
    model_id: str | None
    rois: int
    predicted: int
    added: int
    removed: int
    changed: int
    ap50: float
    minutes: float | None
    share: float | None
    is_unseen: bool


def effort(db: sqlite3.Connection, group: str) -> list[CorrectedImage]:
    """Return what each corrected image cost and was worth, oldest first."""
    sql = """
        SELECT c.id, c.received_at, a.relative_path, c.annotator, c.model_id, c.rois, c.predicted,
               c.added, c.removed, c.changed, c.ap50, c.minutes,
               CASE WHEN max(c.rois, c.predicted) > 0
                    THEN round(1.0 * (c.added + c.removed + c.changed)
                               / max(c.rois + c.removed, 1), 4) END AS share,
               EXISTS (SELECT 1 FROM scores s WHERE s.correction_id = c.id
                       AND s.kind = 'test_then_train') AS is_unseen
        FROM active_corrections c JOIN acquisitions a ON a.id = c.acquisition_id
        WHERE c.group_name = ? ORDER BY c.id
    """
    return records(db, CorrectedImage, sql, [group])


@dataclass(frozen=True, slots=True)
class Night:
    """A training that ended, with what was decided by it.

    Attributes
    ----------
    told : str
        The reason of the decision, else of the training.
    """

    id: int
    local_date: str
    kind: str
    state: str
    seconds: float | None
    model_id: str | None
    reason: str | None
    is_cancelled: bool
    verdict: str | None
    numbers: Mapping[str, Any] | None  # Any: JSON
    told: str | None


def nights(db: sqlite3.Connection, group: str) -> list[Night]:
    """Return each training of a group with what was decided by it, oldest first."""
    sql = """
        SELECT r.id, r.local_date, r.kind, r.state, r.seconds, r.model_id, r.reason,
               r.is_cancelled, p.verdict, p.numbers, coalesce(p.reason, r.reason) AS told
        FROM runs r LEFT JOIN promotions p ON p.run_id = r.id
              AND p.verdict NOT IN ('confirmed', 'revoked')
        WHERE r.group_name = ? AND r.state IN ('ended', 'failed') ORDER BY r.id
    """
    return records(db, Night, sql, [group])


@dataclass(frozen=True, slots=True)
class Agreement:
    """Mean AP@0.5 of annotators with themselves and with each other; None: nobody looked twice."""

    own: float | None
    second_looks: int | None
    between_annotators: float | None


def agreement(db: sqlite3.Connection, group: str) -> Agreement:
    """Return how well annotators agree: with themselves, and with each other."""
    sql = """
        SELECT avg(CASE WHEN kind = 'second_look' THEN agreement END) AS own,
               sum(kind = 'second_look' AND agreement IS NOT NULL) AS second_looks,
               avg(CASE WHEN kind = 'labels' THEN agreement END) AS between_annotators
        FROM corrections WHERE group_name = ? AND state IN ('trainable', 'used')
    """
    (found,) = records(db, Agreement, sql, [group])
    return found
