"""The trainer: a process that makes a candidate from corrections and says what it is worth.

It is given a run folder with `job.json`, writes nothing outside of it, and leaves `report.json` and
a model folder `candidate`. Every step is kept there when it is done: a trainer that was killed goes
on where it stood. It gives way when it is told to: between two batches on a GPU, and by being
stopped by its parent on the CPU.
"""

import hashlib
import json
import logging
import math
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from cellwatch.daemon.retraining.evaluation import FITS, evidence_for
from cellwatch.daemon.retraining.judge import Judge, on_device
from cellwatch.daemon.retraining.pacing import Pacer
from cellwatch.daemon.retraining.run_folder import (
    CANDIDATE,
    FAILURE,
    JOB,
    LEFT,
    PROGRESS,
    REFUSED,
    REPORT,
)
from cellwatch.errors import CellwatchError, TrainingError
from cellwatch.files.atomic import put_in_place
from cellwatch.records import ModelCard, Side, TrainingItem, TrainJob, TrainReport, Verdict
from cellwatch.training.checkpoint import LOG as FIT_LOG
from cellwatch.training.dataset import TrainingImage, mean_diameter
from cellwatch.training.fit import Between, fit
from cellwatch.training.plans import FORWARD, LEAST_EPOCHS, FitPlan, plan_from, with_steps
from cellwatch.training.styling import style_facts
from cellwatch.zoo.cards import CARD, read_card
from cellwatch.zoo.catalog import add_model
from cellwatch.zoo.hashes import file_sha256
from cellwatch.zoo.weights import load_network, save_network, with_diameters

if TYPE_CHECKING:
    from cellwatch.workflows.train import Prepared

logger = logging.getLogger(__name__)

PLAN, WEIGHTS = "plan.json", "network.safetensors"
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
        return TrainReport(
            candidate.id,
            candidate.sha256,
            trained_on,
            (),
            Verdict.INCONCLUSIVE,
            "; ".join(["trained within a session: nothing is promoted by it", *notes]),
            seconds=pacer.seconds,
        )
    judges: dict[str, tuple[str, CPNet]] = {}  # by content key: what was not trained on it
    for number, left_out in enumerate(folds):
        kept = [item for item in items if item.content_key not in left_out]
        part = [lessons[i.correction_id] for i in kept if i.correction_id in lessons]
        if not any(image.n_rois for image in part):
            pacer.skip(plan.steps)
            continue  # all ROIs lie in what it would leave out: nobody can judge there
        part += [image.lesson for image in replay if image.content not in left_out]
        place, own = folder / f"fold{number}", replace(plan, seed=plan.seed + 1 + number)
        network = _trained(place, job, part, own, device, pacer)
        learned = tuple(item.correction_id for item in kept)
        sha256 = _identity(place / WEIGHTS, learned)
        trained_on[sha256] = learned
        judges |= dict.fromkeys(left_out, (sha256, network))
    pacer.say("scoring on images that were not trained on")
    found = evidence_for(job, folder / CANDIDATE, judges, judge)
    return TrainReport(
        candidate.id,
        candidate.sha256,
        trained_on,
        tuple(found.scores),
        found.decision.verdict,
        "; ".join([found.decision.reason + _shortened(job, plan), *notes]),
        {
            **found.decision.numbers,
            "smoke_test": list(found.smoke.problems),
            "folds": len(folds),
            "epochs": plan.epochs,
        },
        found.confirmation.verdict if found.confirmation else None,
        found.confirmation.reason if found.confirmation else "",
        pacer.seconds,
        damaged,
    )


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


def planned(
    job: TrainJob, images: Sequence[TrainingImage], folds: int, device: torch.device, pacer: Pacer
) -> FitPlan:
    """Return the plan of all trainings of a run, shortened once to fit the budget, then kept."""
    path = Path(job.folder) / PLAN
    if path.exists():
        return plan_from(json.loads(path.read_text(encoding="utf-8")))
    from cellwatch.workflows.train import Prepared, seconds_a_step

    plan = plan_from(on_device(job, device).plan)
    pacer.say("timing ten steps")
    prepared = Prepared(list(images), [], _base(job, images), [], None, job.channels)
    usual, spent = seconds_a_step(prepared, plan, job.budget_s, device)
    each = usual * (1 + folds)  # s a step, of all trainings
    beside = usual * (spent + plan.steps_worth_after * (1 + folds))  # s
    beside += usual * _steps_worth_scoring(job, prepared, plan, folds)
    steps = max(0, min(plan.steps, int((job.budget_s - beside) / each)))
    least = min(LEAST_EPOCHS, plan.steps)
    if steps < least:
        raise TrainingError(
            f"retrain.budget of {_told(job.budget_s)} allows {steps} of {plan.steps} steps "
            f"of {1 + folds} trainings here, too few to learn; {least} of them take about "
            f"{_told(each * least + beside)}, all of them {_told(each * plan.steps + beside)}: "
            "raise it"
        )
    if steps < plan.steps:
        plan = with_steps(plan, steps, is_most=True)
    _write(path, asdict(plan))
    return plan


def _steps_worth_scoring(job: TrainJob, prepared: "Prepared", plan: FitPlan, folds: int) -> float:
    # Two networks look at each image that judges; the candidate also at what it was trained on.
    n_judges = sum(item.side == Side.HELD_OUT or folds > 0 for item in job.items)
    diam_mean = prepared.network.config.diam_mean
    areas = [i.labels.size * (diam_mean / i.diameter) ** 2 for i in prepared.images if i.diameter]
    n_fits = min(2 * FITS, len(job.items)) if job.seen.get(job.incumbent.sha256) else 0
    pixels = (2 * n_judges + n_fits) * sum(areas) / max(1, len(areas))
    return FORWARD * pixels / (plan.batch_size * plan.crop**2)


def _told(seconds: float) -> str:
    return f"{math.ceil(seconds)} s" if seconds < 120 else f"{math.ceil(seconds / 60)} min"


def _shortened(job: TrainJob, plan: FitPlan) -> str:
    of = plan_from(job.plan).steps
    return "" if plan.steps == of else f" (retrain.budget allowed {plan.steps} of {of} steps)"


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
    network = _base(job, images)
    between = Between(pacer.step, pacer.give_way)
    for report in fit(network, images, plan, folder, device=device, between=between):
        pacer.say(f"{folder.name}: epoch {report.epoch + 1} of {plan.epochs}", report.loss)
    network.cpu()
    aside = folder / f".{WEIGHTS}.partial"
    aside.unlink(missing_ok=True)
    save_network(network, aside, is_half=False)
    put_in_place(aside, folder / WEIGHTS)
    return network


def _identity(weights: Path, learned: Sequence[int]) -> str:
    # Two short trainings may end with the same weights though one was offered more images.
    return hashlib.sha256(f"{file_sha256(weights)} {sorted(learned)}".encode()).hexdigest()


def _base(job: TrainJob, images: Sequence[TrainingImage]) -> CPNet:
    weights = Path(job.base.folder) / "weights.safetensors"
    if file_sha256(weights) != job.base.sha256:
        raise TrainingError(f"{weights} is not the base '{job.base.id}' that the group began with")
    return with_diameters(load_network(weights), diam_labels=mean_diameter(images))


def _write(path: Path, data: Any) -> None:  # Any: JSON
    aside = path.with_name(f".{path.name}.partial")
    aside.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    put_in_place(aside, path)


def main() -> None:
    """Carry out the job of the run folder that the arguments name."""
    folder, parent = Path(sys.argv[1]), int(sys.argv[2])
    die_with_parent(parent)
    os.nice(19)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    job = TrainJob.from_json(json.loads((folder / JOB).read_text(encoding="utf-8")))
    pacer = Pacer(lambda said: _write(folder / PROGRESS, said))
    # Unbuffered: a thread that waits in a buffered read would abort the interpreter's end.
    orders = os.fdopen(os.dup(0), "rb", buffering=0)
    threading.Thread(target=pacer.listen, args=(orders,), daemon=True).start()
    keep_freed_memory()
    try:
        device = choose_device(job.device)
        if device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(job.memory_share)
        _write(folder / REPORT, retrain(job, device, pacer).to_json())
    except CellwatchError as error:
        (folder / FAILURE).write_text(str(error), encoding="utf-8")
        sys.exit(REFUSED)
    except torch.OutOfMemoryError:
        logger.warning("the GPU has too little memory beside the worker; training continues later")
        os._exit(LEFT)


if __name__ == "__main__":
    main()
