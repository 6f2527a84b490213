"""The trainer: a process that makes a candidate from corrections and says what it is worth.

It is given a run folder with `job.json`, writes nothing outside of it, and leaves `report.json` and
a model folder `candidate`. Every step is kept there when it is done: a trainer that was killed goes
on where it stood. It gives way when it is told to: between two batches on a GPU, and by being
stopped by its parent on the CPU.
"""

import hashlib
import json
import logging
import os
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from cellwatch import __version__
from cellwatch.compute.device import choose_device, keep_freed_memory, optimised
from cellwatch.compute.processes import die_with_parent
from cellwatch.core.network import CPNet
from cellwatch.core.parameters import Normalisation, SegmentationParams
from cellwatch.daemon.retraining.data import (
    Replayed,
    held_out_of,
    images_of,
    replayed,
    without_damaged,
)
from cellwatch.daemon.retraining.evaluation import evidence_for
from cellwatch.daemon.retraining.judge import Judge, on_device
from cellwatch.daemon.retraining.pacing import Pacer
from cellwatch.daemon.retraining.planning import base_network, planned, shortened
from cellwatch.daemon.retraining.run_folder import (
    CANDIDATE,
    FAILURE,
    JOB,
    LEFT,
    PROGRESS,
    REFUSED,
    REPORT,
)
from cellwatch.errors import CellwatchError
from cellwatch.files.atomic import write_json
from cellwatch.files.digests import file_sha256
from cellwatch.records import ModelCard, Side, TrainingItem, TrainJob, TrainReport, Verdict
from cellwatch.training.checkpoint import LOG as FIT_LOG
from cellwatch.training.dataset import TrainingImage
from cellwatch.training.fit import Between, fit
from cellwatch.training.plans import FitPlan
from cellwatch.training.styling import style_facts
from cellwatch.zoo.cards import CARD, read_card
from cellwatch.zoo.catalog import add_model
from cellwatch.zoo.weights import load_network, save_network

logger = logging.getLogger(__name__)

WEIGHTS = "network.safetensors"
MAX_FOLDS = 4


def retrain(job: TrainJob, device: torch.device, pacer: Pacer) -> TrainReport:
    """Train a candidate and, where enough was corrected, the networks that judge it.

    Parameters
    ----------
    job : TrainJob
    device : torch.device
    pacer : Pacer
        Asked after each batch.

    Raises
    ------
    TrainingError
        When training diverges, or the time is too short to learn anything.
    BadTrainingData
        When no correction has an ROI.
    """
    folder = Path(job.folder)
    job, damaged = without_damaged(on_device(job, device))
    notes = [f"correction {key} is left out, what was kept of it is damaged" for key in damaged]
    items = [item for item in job.items if item.side == Side.TRAIN]
    lessons = images_of(items, job.channels)
    replay, noted = _replay_for(job)
    notes += noted
    images = [*lessons.values(), *(image.lesson for image in replay)]
    folds = folds_of(job) if job.kind != "session" else []
    plan = planned(job, images, len(folds), device, pacer)
    pacer.expect(plan.epochs * plan.steps_per_epoch * (1 + len(folds)))
    candidate = _candidate(job, items, images, plan, device, pacer)
    trained_on = {candidate.sha256: tuple(item.correction_id for item in items)}
    judge = Judge(job, device, pacer.give_way)
    if job.kind == "session":
        reason = "; ".join(["trained within a session: nothing is promoted by it", *notes])
        verdict = Verdict.INCONCLUSIVE
        return TrainReport(
            candidate.id, candidate.sha256, trained_on, (), verdict, reason, seconds=pacer.seconds
        )
    taught = _Taught(items, lessons, replay, folds)
    judges, learned = _judging(job, taught, plan, device, pacer)
    pacer.say("scoring on images that were not trained on")
    found = evidence_for(job, folder / CANDIDATE, judges, judge)
    numbers = {"smoke_test": list(found.smoke.problems), "folds": len(folds), "epochs": plan.epochs}
    return TrainReport(
        candidate.id,
        candidate.sha256,
        trained_on | learned,
        tuple(found.scores),
        found.decision.verdict,
        "; ".join([found.decision.reason + shortened(job, plan), *notes]),
        {**found.decision.numbers, **numbers},
        found.confirmation.verdict if found.confirmation else None,
        found.confirmation.reason if found.confirmation else "",
        pacer.seconds,
        damaged,
    )


@dataclass(frozen=True, slots=True)
class _Taught:
    """What a candidate is trained on, and what each network that judges it leaves out."""

    items: Sequence[TrainingItem]
    lessons: Mapping[int, TrainingImage]  # by correction
    replay: Sequence[Replayed]
    folds: Sequence[Collection[str]]  # content keys


def _judging(
    job: TrainJob, taught: _Taught, plan: FitPlan, device: torch.device, pacer: Pacer
) -> tuple[dict[str, tuple[str, CPNet]], dict[str, tuple[int, ...]]]:
    """Train the fold networks: by content key who left it out, and what each was trained on."""
    judges: dict[str, tuple[str, CPNet]] = {}
    trained_on: dict[str, tuple[int, ...]] = {}
    for number, left_out in enumerate(taught.folds):
        kept = [item for item in taught.items if item.content_key not in left_out]
        ids = [item.correction_id for item in kept if item.correction_id in taught.lessons]
        part = [taught.lessons[key] for key in ids]
        if not any(image.n_rois for image in part):
            pacer.skip(plan.steps)
            continue  # all ROIs lie in what it would leave out: nobody can judge there
        part += [image.lesson for image in taught.replay if image.content not in left_out]
        place = Path(job.folder) / f"fold{number}"
        own = replace(plan, seed=plan.seed + 1 + number)
        network = _trained(place, job, part, own, device, pacer)
        learned = tuple(item.correction_id for item in kept)
        sha256 = _identity(place / WEIGHTS, learned)
        trained_on[sha256] = learned
        judges |= dict.fromkeys(left_out, (sha256, network))
    return judges, trained_on


def _replay_for(job: TrainJob) -> tuple[list[Replayed], list[str]]:
    # Without what no network of the run may see, and what to say of that.
    held, found = held_out_of(job), replayed(job)
    replay = [image for image in found if image.content not in held]
    n_left = len(found) - len(replay)
    told = f"{n_left} of the replayed images are held out, and not replayed"
    return replay, [told] if n_left else []


def folds_of(job: TrainJob) -> list[set[str]]:
    """Return the contents that each short training leaves out; none where they are not needed.

    Cross-fitting is for groups with few held-out images: then acquisitions are left out in turn,
    new ones and earlier ones spread alike. The earlier ones tell what is forgotten, or spoilt by
    wrong corrections that came since.
    """
    rule_enough = int(job.rule["enough_images"])
    held = {item.content_key for item in job.items if item.side == Side.HELD_OUT}
    seen = set(job.seen.get(job.incumbent.sha256, ()))
    train = dict.fromkeys(item.content_key for item in job.items if item.side == Side.TRAIN)
    fresh = [key for key in train if key not in seen]
    if len(held) >= rule_enough or not fresh or len(train) < 2:
        return []
    earlier = [key for key in train if key in seen]
    n_folds = min(MAX_FOLDS, len(train))
    spread = [*fresh, *earlier]
    return [set(spread[number::n_folds]) for number in range(n_folds)]


def _candidate(
    job: TrainJob,
    items: Sequence[TrainingItem],
    images: Sequence[TrainingImage],
    plan: FitPlan,
    device: torch.device,
    pacer: Pacer,
) -> ModelCard:
    place = Path(job.folder) / CANDIDATE
    if (place / CARD).exists():
        return read_card(place)
    fit_folder = Path(job.folder) / "fit"
    network = _trained(fit_folder, job, images, plan, device, pacer)
    pacer.say("measuring the styles of the corrected images")
    optimised(network, device)
    facts = style_facts(network, images, SegmentationParams(precision=plan.precision), plan)
    card = ModelCard(
        id=job.model_id,
        sha256="",
        diam_mean=0.0,
        diam_labels=0.0,
        parent=job.base.id,
        data=(
            {
                "set": f"corrections of {job.group}",
                "images": len({item.content_key for item in items}),
                "rois": sum(image.n_rois for image in images),
                "licence": "the user's own",
            },
        ),
        channels=("cell", "nucleus")[: job.channels],
        recipe={
            **asdict(plan),
            "parent_sha256": job.base.sha256,
            "corrections": [item.correction_id for item in items],
            "replayed": list(job.base_data),
            "normalisation": asdict(Normalisation()),
        },
        steps=plan.steps,
        seed=plan.seed,
        code_version=__version__,
    )
    # Models adapted on a few images use their training mean, not a size model.
    facts = replace(facts, size=None)
    return add_model(place, network.cpu(), card, fit_folder / FIT_LOG, styles=facts)


def _trained(
    folder: Path,
    job: TrainJob,
    images: Sequence[TrainingImage],
    plan: FitPlan,
    device: torch.device,
    pacer: Pacer,
) -> CPNet:
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / WEIGHTS).exists():
        pacer.skip(plan.steps)
        return load_network(folder / WEIGHTS)
    network = base_network(job, images)
    between = Between(pacer.step, pacer.give_way)
    for report in fit(network, images, plan, folder, device=device, between=between):
        pacer.say(f"{folder.name}: epoch {report.epoch + 1} of {plan.epochs}", report.loss)
    network.cpu()
    save_network(network, folder / WEIGHTS, is_half=False)
    return network


def _identity(weights: Path, learned: Sequence[int]) -> str:
    # Two short trainings may end with the same weights though one was offered more images.
    return hashlib.sha256(f"{file_sha256(weights)} {sorted(learned)}".encode()).hexdigest()


def main() -> None:
    """Carry out the job of the run folder that the arguments name."""
    folder, parent = Path(sys.argv[1]), int(sys.argv[2])
    die_with_parent(parent)
    os.nice(19)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    job = TrainJob.from_json(json.loads((folder / JOB).read_text(encoding="utf-8")))
    pacer = Pacer(lambda said: write_json(folder / PROGRESS, said))
    # Unbuffered: a thread that waits in a buffered read would abort the interpreter's end.
    orders = os.fdopen(os.dup(0), "rb", buffering=0)
    threading.Thread(target=pacer.listen, args=(orders,), daemon=True).start()
    keep_freed_memory()
    try:
        device = choose_device(job.device)
        if device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(job.memory_share)
        write_json(folder / REPORT, retrain(job, device, pacer).to_json())
    except CellwatchError as error:
        (folder / FAILURE).write_text(str(error), encoding="utf-8")
        sys.exit(REFUSED)
    except torch.OutOfMemoryError:
        logger.warning("the GPU has too little memory beside the worker; training continues later")
        os._exit(LEFT)


if __name__ == "__main__":
    main()
