"""Training runs in the ledger: begun, ended, and what they prove without a leak."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlite_utils import Database

from cellwatch.records import AskedRun, CorrectionState, Side, TrainingRun, TrainJob, TrainReport
from cellwatch.storage.ledger.acquisitions import iso
from cellwatch.storage.ledger.corrections import sides, trainable
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.precedence import in_effect
from cellwatch.storage.ledger.promotions import Decision, decide
from cellwatch.storage.ledger.rows import first, records

TWIN = "/fold"  # behind a model's id: a network of its night that left some acquisitions out


@dataclass(frozen=True, slots=True)
class Leak:
    """A score of a network on what it was trained on, or a held-out image that was trained on."""

    problem: str
    kind: str
    model_id: str
    correction_id: int
    content_key: str
    file: str
    score_id: int | None


def begin(db: Database, asked: AskedRun, now: datetime) -> int | None:
    """Record that a run begins; return its id.

    Returns
    -------
    int or None
        None: this group had its run of this night already, or one is under way.
    """
    with transaction(db):
        if _is_any_under_way(db):
            return None
        already = "kind = 'night' AND group_name = ? AND local_date = ?"
        of = [asked.group, asked.local_date]
        if asked.kind == "night" and db.table("runs").count_where(already, of):
            return None
        return _insert(db, asked, "running", now)


def miss(db: Database, asked: AskedRun, reason: str, now: datetime) -> bool:
    """Record that a night passes without its run, and why; False: it had one, or that is known."""
    with transaction(db):
        already = "kind = 'night' AND group_name = ? AND local_date = ?"
        if db.table("runs").count_where(already, [asked.group, asked.local_date]):
            return False
        key = _insert(db, asked, "skipped", now)
        db.table("runs").update(key, {"ended_at": iso(now), "reason": reason})
        return True


def ask(db: Database, asked: AskedRun, now: datetime) -> int:
    """Record that somebody asked for a run, which waits for its turn; return its id."""
    with transaction(db):
        return _insert(db, asked, "waiting", now)


def waiting(db: Database) -> list[tuple[int, AskedRun]]:
    """Return the runs that wait for their turn and their ids, oldest first."""
    rows = db.execute(
        "SELECT id, group_name, kind, local_date FROM runs WHERE state = 'waiting' ORDER BY id"
    ).fetchall()
    return [(key, AskedRun(group, kind, date)) for key, group, kind, date in rows]


def begin_waiting(db: Database, run_id: int, now: datetime) -> bool:
    """Record that a run that waited begins; False: another one is under way."""
    with transaction(db):
        if _is_any_under_way(db):
            return False
        db.table("runs").update(run_id, {"state": "running", "started_at": iso(now)})
        return True


def plan(db: Database, job: TrainJob) -> None:
    """Keep what a run was told to do, so that it can continue after anything died."""
    with transaction(db):
        db.table("runs").update(
            job.run_id,
            {"folder": job.folder, "job": json.dumps(job.to_json()), "model_id": job.model_id},
        )


def skip(db: Database, run_id: int, reason: str, now: datetime) -> None:
    """Record that a run was skipped, and why; "": there was nothing new to learn from."""
    _close(db, run_id, "skipped", reason, now)


def fail(db: Database, run_id: int, reason: str, now: datetime) -> None:
    """Record that a run came to nothing, and why; the model in use stays."""
    _close(db, run_id, "failed", reason, now)


def finish(
    db: Database, run_id: int, report: TrainReport, decisions: list[Decision], now: datetime
) -> None:
    """Record all that a run came to, in one transaction: nothing is ever half promoted."""
    with transaction(db):
        keys = _content_keys(db)
        for sha256, corrections in report.trained_on.items():
            for correction in corrections:
                db.table("trained_on").insert(
                    {
                        "model_sha256": sha256,
                        "correction_id": correction,
                        "content_key": keys[correction],
                        "run_id": run_id,
                    },
                    pk=("model_sha256", "correction_id"),
                    ignore=True,
                )
        for score in report.scores:
            db.table("scores").insert(
                {
                    "kind": score.kind,
                    "model_id": score.model_id,
                    "model_sha256": score.model_sha256,
                    "correction_id": score.correction_id,
                    "content_key": score.content_key,
                    "run_id": run_id,
                    "ap50": round(score.average_precision, 6),
                    "ap75": score.average_precision_75,
                    "true_positives": score.true_positives,
                    "false_positives": score.false_positives,
                    "false_negatives": score.false_negatives,
                    "found": score.found,
                    "scored_at": iso(now),
                }
            )
        used = report.trained_on.get(report.model_sha256, ())
        marks = ",".join("?" * len(used))
        db.execute(
            f"UPDATE corrections SET state = 'used', state_since = ? "
            f"WHERE state = 'trainable' AND id IN ({marks})",
            [iso(now), *used],
        )
        _reject_damaged(db, report, now)
        for decision in decisions:
            decide(db, decision, now)
        db.table("runs").update(
            run_id,
            {
                "state": "ended",
                "ended_at": iso(now),
                "seconds": report.seconds,
                "model_id": report.model_id,
                "model_sha256": report.model_sha256,
                "reason": _outcome(report, decisions),
            },
        )


def _reject_damaged(db: Database, report: TrainReport, now: datetime) -> None:
    # Else every night would be held for them.
    for key, why in report.damaged.items():
        db.execute(
            "UPDATE corrections SET state = 'rejected', state_since = ?, reason = ?, "
            "remedy = 'save its file again' WHERE id = ? AND state IN ('trainable', 'used')",
            [iso(now), f"what was kept of it is damaged: {why}", int(key)],
        )


def _outcome(report: TrainReport, decisions: list[Decision]) -> str:
    # As it was decided of the candidate: a person may have chosen meanwhile.
    verdict, reason = report.verdict, report.reason
    if decisions:
        verdict, reason = decisions[-1].verdict, decisions[-1].reason
    return f"{verdict}: {reason}"


def give_up(
    db: Database, group: str, among: Sequence[int], reason: str, now: datetime
) -> list[TrainingRun]:
    """Record that the runs of a group ("": of all) that run or wait are given up; return them.

    Only those among the ids: others were asked for since, and by somebody else.
    """
    with transaction(db):
        sql = "SELECT * FROM runs WHERE state IN ('running', 'waiting') AND ? IN ('', group_name)"
        rows = [row for row in records(db, TrainingRun, sql, [group]) if row.id in among]
        for row in rows:
            _close(db, row.id, "failed", reason, now)
            db.table("runs").update(row.id, {"is_cancelled": 1})
    return rows


def is_under_way(db: Database, run_id: int) -> bool:
    """Say whether a run is running as far as the ledger knows."""
    return bool(db.table("runs").count_where("id = ? AND state = 'running'", [run_id]))


def unfinished(db: Database) -> TrainingRun | None:
    """Return the run that is under way; None: there is none."""
    return first(db, TrainingRun, "SELECT * FROM runs WHERE state = 'running' LIMIT 1")


def in_training(db: Database, correction_id: int) -> str:
    """Return the model that is being trained on a correction just now; "": there is none."""
    run = unfinished(db)
    if run is None or run.job is None:
        return ""
    is_learned = any(item["correction_id"] == correction_id for item in run.job["items"])
    return str(run.model_id) if is_learned else ""


def latest(db: Database, group: str) -> TrainingRun:
    """Return the last run of a group that has had one."""
    sql = "SELECT * FROM runs WHERE group_name = ? ORDER BY id DESC LIMIT 1"
    (found,) = records(db, TrainingRun, sql, [group])
    return found


def dates_of(db: Database, group: str) -> list[str]:
    """Return the local dates of a group's nights."""
    sql = "SELECT local_date FROM runs WHERE kind = 'night' AND group_name = ?"
    return [date for (date,) in db.execute(sql, [group]).fetchall()]


def seen_by(db: Database, sha256: str) -> tuple[str, ...]:
    """Return the contents that a model was trained on."""
    sql = "SELECT DISTINCT content_key FROM trained_on WHERE model_sha256 = ? ORDER BY content_key"
    return tuple(key for (key,) in db.execute(sql, [sha256]).fetchall())


def judged_in(db: Database, run_id: int | None) -> tuple[str, ...]:
    """Return the contents that the scores of a run are of: the evidence of its decision."""
    sql = "SELECT DISTINCT content_key FROM scores WHERE run_id = ? ORDER BY content_key"
    return tuple(key for (key,) in db.execute(sql, [run_id]).fetchall())


def twins_found(db: Database, model_id: str) -> dict[str, tuple[str, int]]:
    """Return what the twins of a model found on corrections that they were not trained on.

    A twin is a network of the same night that left some acquisitions out; its score there is what
    the model itself would have reached without them. By the correction's id.
    """
    sql = """
        SELECT correction_id, found, false_positives FROM scores
        WHERE kind = 'cross_fit' AND model_id = ? AND found IS NOT NULL ORDER BY id
    """
    rows = db.execute(sql, [f"{model_id}{TWIN}"]).fetchall()
    return {str(key): (found, int(false)) for key, found, false in rows}


def new_rois(db: Database, group: str, lead: str = "") -> int:
    """Return the ROIs of corrections that the next training would take and none has taken yet.

    `lead` is the annotator whose corrections go before others' of the same part.
    """
    held = {key for key, side in sides(db, group).items() if side == Side.HELD_OUT}
    rows = in_effect(trainable(db, group), lead)
    return sum(
        max(row.rois, row.predicted, 1)
        for row in rows
        if row.state == CorrectionState.TRAINABLE and row.content_key not in held
    )


def models_named(db: Database, prefix: str) -> int:
    """Return how many runs gave their candidate a name with this beginning."""
    sql = "SELECT count(*) FROM runs WHERE substr(model_id, 1, length(?)) = ?"
    return int(db.execute(sql, [prefix, prefix]).fetchone()[0])


def leaks(db: Database) -> list[Leak]:
    """Return every score of a network on an acquisition that it was trained on: there is none.

    Also every held-out acquisition that some network of its group was trained on.
    """
    scored = """
        SELECT s.id AS score_id, s.kind, s.model_id, s.correction_id, s.content_key, c.file,
               'a score used an image that its network was trained on' AS problem
        FROM scores s JOIN corrections c ON c.id = s.correction_id
        WHERE EXISTS (SELECT 1 FROM trained_on t
                      WHERE t.model_sha256 = s.model_sha256 AND t.content_key = s.content_key)
    """
    held = """
        SELECT NULL AS score_id, 'held_out' AS kind, r.model_id, t.correction_id, t.content_key,
               c.file, 'a held-out image was trained on' AS problem
        FROM trained_on t JOIN runs r ON r.id = t.run_id
        JOIN corrections c ON c.id = t.correction_id
        JOIN sides s ON s.group_name = r.group_name AND s.content_key = t.content_key
        WHERE s.side = 'held_out'
    """
    return [*records(db, Leak, scored), *records(db, Leak, held)]


def _is_any_under_way(db: Database) -> bool:
    sql = "SELECT 1 FROM runs WHERE state = 'running' LIMIT 1"
    return db.execute(sql).fetchone() is not None


def _insert(db: Database, asked: AskedRun, state: str, now: datetime) -> int:
    table = db.table("runs").insert(
        {
            "group_name": asked.group,
            "kind": asked.kind,
            "local_date": asked.local_date,
            "state": state,
            "started_at": iso(now),
        }
    )
    return int(table.last_pk)  # type: ignore[arg-type]  # None only before an insert


def _close(db: Database, run_id: int, state: str, reason: str, now: datetime) -> None:
    with transaction(db):
        db.table("runs").update(run_id, {"state": state, "ended_at": iso(now), "reason": reason})


def _content_keys(db: Database) -> dict[int, str]:
    sql = "SELECT id, content_key FROM corrections WHERE content_key IS NOT NULL"
    return dict(db.execute(sql).fetchall())
