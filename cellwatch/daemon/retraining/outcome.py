"""What a run's report decides, and its candidate's way into the zoo."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from cellwatch.errors import RequestRefused
from cellwatch.files.atomic import flush
from cellwatch.records import TrainJob, TrainReport, Verdict
from cellwatch.storage.ledger import promotions
from cellwatch.storage.ledger.promotions import Decision, ModelName
from cellwatch.zoo.cards import CARD, read_card

GATE = "gate"


def add_candidate(made: Path, place: Path) -> None:
    """Move a candidate into the zoo; one that lies there already is the same, or an error."""
    if (place / CARD).exists():
        if made.exists() and read_card(made).sha256 != read_card(place).sha256:
            raise RequestRefused(f"{place} is another model than {made}")
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    made.rename(place)
    for folder in (place.parent, made.parent):  # before the ledger says that it is there
        flush(folder)


def decisions_of(db: Database, job: TrainJob, report: TrainReport) -> list[Decision]:
    """Return what a report decides, in order: of the provisional model, then of the candidate.

    A person may have chosen another model while the run was under way: then nothing of it is put
    into use, and it says so.
    """
    if job.kind == "session":
        return []
    used = promotions.in_use(db, job.group)
    now_used = used.model if used else ModelName(job.base.id, job.base.sha256)
    begun_with = ModelName(job.incumbent.id, job.incumbent.sha256)
    candidate = ModelName(report.model_id, report.model_sha256)
    if now_used != begun_with:
        reason = (
            f"'{now_used.id}' was chosen while it was trained against '{begun_with.id}', against "
            f"which it would have been {report.verdict}: {report.reason}"
        )
        decision = _decision(job, Verdict.INCONCLUSIVE, candidate, now_used, reason, report.numbers)
        return [decision]
    decisions = []
    if report.confirmation is not None and job.predecessor is not None:
        is_kept = report.confirmation == Verdict.CONFIRMED
        before = ModelName(job.predecessor.id, job.predecessor.sha256)
        stays = begun_with if is_kept else before
        decisions.append(
            _decision(job, report.confirmation, stays, begun_with, report.confirmation_reason, {})
        )
        now_used = stays
    decisions.append(
        _decision(job, report.verdict, candidate, now_used, report.reason, report.numbers)
    )
    return decisions


def _decision(
    job: TrainJob,
    verdict: Verdict,
    model: ModelName,
    previous: ModelName,
    reason: str,
    numbers: Mapping[str, Any],  # Any: JSON
) -> Decision:
    return Decision(job.group, verdict, model, previous, reason, numbers, job.run_id, GATE)
