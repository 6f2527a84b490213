"""Train and score models on folders of images and masks: files in, run folder or scores out."""

import copy
import hashlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from cellwatch import __version__
from cellwatch.compute.device import optimised
from cellwatch.compute.models import Model, channels_for
from cellwatch.core.arrays import Float32, Int32
from cellwatch.core.channels import take_channels
from cellwatch.core.image import normalise, percentiles
from cellwatch.core.network import CPNet, NetworkConfig, fresh_network
from cellwatch.core.parameters import Normalisation, SegmentationParams
from cellwatch.errors import BadTrainingData, TrainingError
from cellwatch.records import ChannelChoice, ModelCard
from cellwatch.storage.datasets.pairs import Pair, find_pairs, load_pair, set_names
from cellwatch.training.batches import draw_batches
from cellwatch.training.checkpoint import CHECKPOINT, EpochReport
from cellwatch.training.checkpoint import LOG as FIT_LOG
from cellwatch.training.dataset import (
    TrainingImage,
    enough_rois,
    mean_diameter,
    training_image,
)
from cellwatch.training.fit import (
    JUDGED_EPOCHS,
    Between,
    fit,
    make_optimiser,
    ready_to_train,
    train_step,
)
from cellwatch.training.plans import FORWARD, LEAST_EPOCHS, FitPlan, schedule_named, with_steps
from cellwatch.training.styling import steps_worth, style_facts
from cellwatch.workflows.evaluate import scores_on
from cellwatch.workflows.run_request import RunRequest, refuse_another, refuse_finished
from cellwatch.zoo.cards import RUN, ModelPlace, find_model
from cellwatch.zoo.catalog import add_model, load_model
from cellwatch.zoo.weights import with_diameters

SCRATCH = "scratch"
TIMED_STEPS = 10
ANY_CHANNEL = ChannelChoice()
FLOWS = "flows"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything in memory that a run needs.

    Attributes
    ----------
    images : list of TrainingImage
    left_out, flat : list of TrainingImage
        Not trained on: those with too few ROIs, and those with ROIs in which nothing can be seen.
    network : CPNet
    sets : list of mapping
        For the card.
    parent : str or None
    n_channels : int
        Fed, of one or two.
    """

    images: list[TrainingImage]
    left_out: list[TrainingImage]
    network: CPNet
    sets: list[dict[str, Any]]  # Any: JSON
    parent: str | None
    n_channels: int
    flat: list[TrainingImage] = field(default_factory=list)


def prepare(
    request: RunRequest,
    on_image: Callable[[], None] = lambda: None,
    flow_cache: Path | None = None,
) -> Prepared:
    """Read the images, compute their flows, and load or make the network.

    Parameters
    ----------
    request : RunRequest
    on_image : callable
        Called after each image.
    flow_cache : Path or None
        A folder that keeps flows between runs.

    Raises
    ------
    BadTrainingData
        When a folder is not fit to train on; nothing has been trained then.
    """
    images: list[TrainingImage] = []
    sets = []
    names = set_names([Path(folder) for folder in request.data])
    for (folder, name), licence in zip(names.items(), request.licences, strict=True):
        found = read_images(folder, name, flow_cache, request.channels, on_image)
        rois = sum(image.n_rois for image in found)
        if not rois:
            raise BadTrainingData(
                f"{folder}: every label image is empty; there is nothing to learn"
            )
        sets.append({"set": name, "images": len(found), "rois": rois, "licence": licence})
        images += found
    counts = {image.plane.shape[0] for image in images}
    if len(counts) > 1:
        raise BadTrainingData("some images have one channel and some two; choose with --channels")
    flat = [image for image in images if image.n_rois and not image.plane[0].any()]
    seen = [image for image in images if image.n_rois == 0 or image.plane[0].any()]
    if not any(image.n_rois for image in seen):
        raise BadTrainingData(
            f"{flat[0].name}, and all others with ROIs, are flat (percentiles 1 and 99 are one "
            "value): nothing can be learnt from them"
        )
    kept, left_out = enough_rois(seen, request.plan.min_rois)
    network, parent = _start(request, kept)
    return Prepared(kept, left_out, network, sets, parent, counts.pop(), flat)


def read_images(
    folder: Path,
    name: str,
    flow_cache: Path | None = None,
    choice: ChannelChoice = ANY_CHANNEL,
    on_image: Callable[[], None] = lambda: None,
) -> list[TrainingImage]:
    """Read the pairs of a folder, ready to train on; `name` is what the set is called.

    Raises
    ------
    BadTrainingData
        When an image has no masks, or one of them is not fit to train on.
    """
    images = []
    for pair in find_pairs(folder):
        plane, labels, _ = _plane(pair, choice, None)
        limits = percentiles(plane, Normalisation())
        images.append(
            training_image(
                f"{name}/{pair.image.name}",
                normalise(plane, limits),
                labels,
                cluster=name,
                is_confirmed_empty=pair.is_empty,
                flow_cache=flow_cache,
            )
        )
        on_image()
    return images


def within_budget(
    prepared: Prepared, plan: FitPlan, seconds: float, device: torch.device, *, is_fixed: bool
) -> FitPlan:
    """Return the plan with as many steps as fit into a time, in s, with all that goes with them.

    Taken off are the steps that were timed, the judging by a validation part, the batches after the
    last step, and the measuring of styles and sizes; not the scoring on test folders.

    Raises
    ------
    TrainingError
        When too few fit.
    UsageError
        When they are too few for epochs of a length that is fixed.
    """
    usual, spent = seconds_a_step(prepared, plan, seconds, device)
    judged = math.ceil(plan.validation * len(prepared.images) / plan.batch_size) * JUDGED_EPOCHS
    diam_mean = prepared.network.config.diam_mean
    beside = spent + plan.steps_worth_after + judged * FORWARD
    beside += steps_worth(prepared.images, diam_mean, plan)
    steps = int(seconds / usual - beside)
    if steps < LEAST_EPOCHS:
        raise TrainingError(
            f"a budget of {seconds:.0f} s allows {max(0, steps)} steps here, and a schedule needs "
            f"{LEAST_EPOCHS} at the least: about {usual * (LEAST_EPOCHS + beside + 1):.0f} s with "
            "what is measured before and after them"
        )
    return with_steps(plan, steps, is_fixed=is_fixed, is_most=True)


def seconds_a_step(
    prepared: Prepared, plan: FitPlan, seconds: float, device: torch.device
) -> tuple[float, int]:
    """Return how long a step takes, and how many were made to find out.

    Ten steps are timed on a copy of the network, with batches drawn as the run draws them. A third
    of the time that there is, in s, is the most that they may use up.
    """
    network = ready_to_train(copy.deepcopy(prepared.network), device, plan.precision)
    optimiser = make_optimiser(network, plan)
    batches = (
        batch
        for epoch in range(TIMED_STEPS + 1)
        for batch in draw_batches(prepared.images, plan, network.config, epoch)
    )
    train_step(network, optimiser, next(batches), plan.precision)  # the first is slower
    taken: list[float] = []
    while len(taken) < TIMED_STEPS and (not taken or sum(taken) < seconds / 3):
        began = time.monotonic()
        train_step(network, optimiser, next(batches), plan.precision)
        taken.append(time.monotonic() - began)
    # A step in which the process was stopped (images came) tells nothing: the median does.
    usual = statistics.median(taken)
    return usual, len(taken) + 1


def train(
    request: RunRequest,
    prepared: Prepared,
    folder: Path,
    device: torch.device,
    on_step: Callable[[], None] = lambda: None,
    on_note: Callable[[str], None] = lambda _note: None,
) -> Iterator[EpochReport]:
    """Train, report each epoch, and leave a model in the run folder at the end.

    Parameters
    ----------
    request : RunRequest
    prepared : Prepared
    folder : Path
    device : torch.device
    on_step : callable
        Called after each step.
    on_note : callable
        Told what is done before the first step and after the last.

    Raises
    ------
    TrainingError
        When the folder holds a finished model, or training diverges.
    """
    refuse_finished(folder)
    if request.plan.simulated:  # specimens have all channels that the network is fed
        prepared = replace(prepared, n_channels=prepared.network.config.channels)
    request = replace(request, content=content_digest(prepared.images))
    if (folder / RUN).exists():
        refuse_another(RunRequest.read(folder), request, folder)
    request.write(folder)
    if (folder / CHECKPOINT).exists():
        on_note(f"continuing from the checkpoint in {folder}")
    plan, between = request.plan, Between(on_step)
    for report in fit(
        prepared.network, prepared.images, plan, folder, device=device, between=between
    ):
        yield report
        if report.epoch + 1 == plan.epochs and plan.steps_worth_after:
            on_note("averaging the batch normalisation again")
    on_note("measuring the styles and sizes of the training images")
    measured = SegmentationParams(precision=request.plan.precision)
    optimised(prepared.network, device)
    styles = style_facts(prepared.network, prepared.images, measured, request.plan)
    card = _card(request, prepared)
    if request.tests:
        on_note("scoring on the test folders")
        model = Model(prepared.network, card, styles)
        tests = [Path(name) for name in request.tests]
        card = replace(card, scores=scores_on(tests, model, request.channels))
    add_model(folder, prepared.network.cpu(), card, folder / FIT_LOG, styles=styles)
    (folder / CHECKPOINT).unlink()


def content_digest(images: Sequence[TrainingImage]) -> str:
    """Return a sha256 over what a run trains on."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(image.name.encode())
        digest.update(image.plane.tobytes())
        digest.update(image.labels.tobytes())
    return digest.hexdigest()


def _card(request: RunRequest, prepared: Prepared) -> ModelCard:
    return ModelCard(
        id=request.model_id,
        sha256="",
        diam_mean=0.0,
        diam_labels=0.0,
        parent=prepared.parent,
        data=tuple(prepared.sets),
        channels=("cell", "nucleus")[: prepared.n_channels],
        recipe={
            **asdict(request.plan),
            "left_out": [image.name for image in (*prepared.left_out, *prepared.flat)],
            "normalisation": asdict(Normalisation()),
        },
        steps=request.plan.steps,
        seed=request.plan.seed,
        code_version=__version__,
        about=request.about,
    )


def default_plan(schedule: str, n_images: int) -> FitPlan:
    """Return the paper's plan for a set: its schedule, all images in each epoch, at least 8."""
    paper = schedule_named(schedule)
    return FitPlan(schedule, paper.epochs, images_per_epoch=max(8, n_images))


def count_images(folders: Sequence[Path]) -> int:
    """Return how many pairs the folders hold."""
    return sum(len(find_pairs(folder)) for folder in folders)


def _plane(
    pair: Pair, choice: ChannelChoice, card: ModelCard | None
) -> tuple[Float32, Int32, float | None]:
    image, labels = load_pair(pair)
    known = card or ModelCard("", "", 0.0, 0.0, channels=("cell", "nucleus"))
    chosen, _ = channels_for(image, known, choice)
    return take_channels(image.pixels[0, 0, 0], chosen), labels, image.info.pixel_size_um


def find_start(request: RunRequest) -> ModelPlace | None:
    """Return where the model lies that a run starts from; None: it starts from scratch.

    Raises
    ------
    UnknownModel
        When there is none of that name.
    """
    if request.start == SCRATCH:
        return None
    return find_model(request.start, Path(request.zoo) if request.zoo else None)


def _start(request: RunRequest, images: Sequence[TrainingImage]) -> tuple[CPNet, str | None]:
    diameter = mean_diameter(images)
    place = find_start(request)
    if place is None:
        config = NetworkConfig(diam_mean=request.diam_mean, diam_labels=diameter)
        return fresh_network(config, request.plan.seed), None
    return with_diameters(load_model(place), diam_labels=diameter), place.card.id
