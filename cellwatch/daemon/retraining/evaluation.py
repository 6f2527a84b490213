"""What a candidate is worth: it and the model in use, on images that neither was trained on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cellwatch.core.network import CPNet
from cellwatch.daemon.retraining.data import is_speaking, weightier
from cellwatch.daemon.retraining.judge import Judge, Seen
from cellwatch.records import (
    Evidence,
    Side,
    TrainingItem,
    TrainJob,
    UsedModel,
    Verdict,
)
from cellwatch.storage.ledger.training_runs import TWIN
from cellwatch.training.contradictions import Fit
from cellwatch.training.findings import Found, PairedImage
from cellwatch.training.gate_evidence import PromotionRule, SmokeTest
from cellwatch.training.promotion import GateDecision, decide, judge_provisional
from cellwatch.zoo.cards import read_card

FITTED_ROIS = 3  # an image with fewer is fitted or missed as a whole
FITS = 40  # new images, and earlier ones, at which the candidate looks again at the most
SMOKE_IMAGES = 3  # that were trained on: a network that finds nothing there is broken
SMOKE_ROIS = 5  # an image with fewer may be missed, but not all images with as many together


@dataclass(frozen=True, slots=True)
class EvidenceFound:
    """All that a run's decision rests on."""

    decision: GateDecision
    confirmation: GateDecision | None
    smoke: SmokeTest
    scores: list[Evidence]


def evidence_for(
    job: TrainJob,
    candidate: Path,
    folds: Mapping[str, tuple[str, CPNet]],
    judge: Judge,
) -> EvidenceFound:
    """Gather the evidence for a candidate and decide by it.

    Parameters
    ----------
    job : TrainJob
    candidate : Path
        Its model folder.
    folds : mapping of str to (str, CPNet)
        By content key: sha256 and network of the short training that left it out.
    judge : Judge

    Notes
    -----
    A held-out image is shown to the candidate itself; one that the candidate was trained on to the
    network that left it out. The model in use is asked only about images it has not seen either; of
    those that it was trained on, its own twin that left them out has told in its night.
    """
    job = replace(job, items=tuple(item for item in job.items if is_speaking(judge.kept(item))))
    made = UsedModel(job.model_id, read_card(candidate).sha256, str(candidate))
    judge.add(made)
    for sha256, network in folds.values():
        judge.add_network(f"{job.model_id}{TWIN}", sha256, network)
    confirmation = None
    incumbent = job.incumbent
    if job.predecessor is not None:
        confirmation = _judged_again(job, job.predecessor, judge)
        if confirmation is not None and confirmation.verdict == Verdict.REVOKED:
            incumbent = job.predecessor
    judge.add(incumbent)
    images, scores = _compared(job, (made, incumbent), folds, judge)
    smoke = _smoke(job, made, incumbent, judge)
    fits = [] if smoke.problems else _fits(job, made, incumbent, judge)
    decision = decide(images, smoke, PromotionRule(**job.rule), fits)
    return EvidenceFound(decision, confirmation, smoke, scores)


def _compared(
    job: TrainJob,
    models: tuple[UsedModel, UsedModel],  # the candidate and the incumbent
    folds: Mapping[str, tuple[str, CPNet]],
    judge: Judge,
) -> tuple[list[PairedImage], list[Evidence]]:
    made, incumbent = models
    images: list[PairedImage] = []
    scores: list[Evidence] = []
    for item in job.items:
        if item.side == Side.HELD_OUT:
            ours = judge.look(made.sha256, item, "held_out")
        elif item.content_key in folds:
            ours = judge.look(folds[item.content_key][0], item, "cross_fit")
        else:
            continue
        if item.content_key in job.seen.get(incumbent.sha256, ()):
            scores.append(ours.score)
            if (twin := _of_twin(job, item, incumbent, ours)) is not None:
                images.append(
                    PairedImage(
                        item.name, item.watch, item.content_key, ours.found, twin, is_earlier=True
                    )
                )
            continue
        theirs = judge.look(incumbent.sha256, item, ours.score.kind)
        images.append(
            PairedImage(
                item.name,
                item.watch,
                item.content_key,
                ours.found,
                theirs.found,
                is_held_out=item.side == Side.HELD_OUT,
            )
        )
        # One that was evaluated before for another reason is reported for this one.
        scores += [ours.score, replace(theirs.score, kind=ours.score.kind)]
    return images, scores


def _of_twin(job: TrainJob, item: TrainingItem, incumbent: UsedModel, ours: Seen) -> Found | None:
    known = job.earlier.get(str(item.correction_id))
    if known is None or incumbent != job.incumbent or len(known[0]) != ours.found.hits.size:
        return None
    if weightier(item, job.items):
        return None  # the twin was asked about all of it
    return Found(np.array([hit == "1" for hit in known[0]], np.bool_), known[1])


def _fits(job: TrainJob, made: UsedModel, incumbent: UsedModel, judge: Judge) -> list[Fit]:
    # No scores: what the candidate was trained on tells what cannot be learned. The newest new
    # images, and one part of each of the earlier ones, spread over their dates.
    seen = set(job.seen.get(incumbent.sha256, ()))
    by_date = sorted(job.items, key=lambda item: item.correction_id)
    trained = [
        item for item in by_date if item.side == Side.TRAIN and judge.rois(item) >= FITTED_ROIS
    ]
    earlier = list({i.content_key: i for i in trained if i.content_key in seen}.values())
    if not earlier:
        return []
    fresh = [item for item in trained if item.content_key not in seen][-FITS:]
    return [
        Fit(
            item.name,
            item.watch,
            item.content_key,
            judge.look(made.sha256, item, "smoke").found,
            item.content_key in seen,
        )
        for item in [*fresh, *earlier[:: math.ceil(len(earlier) / FITS)]]
    ]


def _judged_again(job: TrainJob, predecessor: UsedModel, judge: Judge) -> GateDecision | None:
    seen = {*job.seen.get(job.incumbent.sha256, ()), *job.seen.get(predecessor.sha256, ())}
    seen |= set(job.let_in_by)
    fresh = [item for item in job.items if item.content_key not in seen]
    if not fresh:
        return None
    judge.add(job.incumbent)
    judge.add(predecessor)
    images = [
        PairedImage(
            item.name,
            item.watch,
            item.content_key,
            judge.look(job.incumbent.sha256, item, "held_out").found,
            judge.look(predecessor.sha256, item, "held_out").found,
        )
        for item in fresh
    ]
    return judge_provisional(images)


def _finds_nothing_in(trained: Sequence[TrainingItem], made: UsedModel, judge: Judge) -> int:
    with_rois = [item for item in trained if judge.rois(item)]
    if sum(judge.rois(item) for item in with_rois) < SMOKE_ROIS:
        return 0
    finds = any(judge.look(made.sha256, item, "smoke").n_rois for item in with_rois)
    return 0 if finds else len(with_rois)


def _smoke(job: TrainJob, made: UsedModel, incumbent: UsedModel, judge: Judge) -> SmokeTest:
    if not judge.is_finite(made.sha256):
        return SmokeTest(("its weights are not all numbers",))
    problems = []
    trained = [item for item in job.items if item.side == Side.TRAIN]
    crowded = [item for item in trained if judge.rois(item) >= SMOKE_ROIS]
    ours = theirs = 0.0
    for item in crowded[:SMOKE_IMAGES]:
        seen = judge.look(made.sha256, item, "smoke")
        if not seen.n_rois:
            problems.append(f"it finds nothing in '{item.name}', which it was trained on")
        ours += seen.seconds
        theirs += judge.look(incumbent.sha256, item, "smoke").seconds
    # A second more says nothing: so much may other work of the machine take.
    times_as_long = max(1.0, (ours - 1.0) / theirs) if theirs else 1.0
    if not crowded and (n := _finds_nothing_in(trained, made, judge)):
        problems.append(f"it finds nothing in any of the {n} corrected images it was trained on")
    for item in trained:
        kept = judge.kept(item)
        if kept.is_empty and (n := judge.look(made.sha256, item, "smoke").n_rois):
            was = judge.look(incumbent.sha256, item, "smoke").n_rois
            if n > was:
                problems.append(f"it finds {n} ROIs in '{item.name}', where nothing is")
    return SmokeTest(tuple(problems), times_as_long)
