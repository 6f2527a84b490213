"""Build a zoo: cluster images by style, train a network for each cluster, score the ensemble.

Every step leaves its result in the zoo's folder and is not done again: a build that was cut off
continues where it stopped. The folder becomes a zoo with a classifier named `auto`.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from cellwatch.compute.models import Model, ready_model
from cellwatch.core.clusters import require_leiden
from cellwatch.core.network import NetworkConfig, fresh_network
from cellwatch.core.styles import classifier_of
from cellwatch.errors import BadTrainingData
from cellwatch.records import ChannelChoice, ClassifierCard, ClusterCard
from cellwatch.training.dataset import TrainingImage, enough_rois, mean_diameter
from cellwatch.training.plans import FitPlan
from cellwatch.workflows.run_request import RunRequest
from cellwatch.workflows.train import Prepared, content_digest, read_images, train
from cellwatch.workflows.zoo.clusters import (
    Clustering,
    ClusterRequest,
    StyleTable,
    cluster,
    style_table,
)
from cellwatch.workflows.zoo.request import (
    AUTO,
    GENERALIST,
    ZooRequest,
    hold_models,
    keep_request,
    name_of,
)
from cellwatch.zoo.cards import CARD, find_model
from cellwatch.zoo.classifiers import CARD as CLASSIFIER_CARD
from cellwatch.zoo.classifiers import add_classifier

Tell = Callable[[str], None]


def build_zoo(
    request: ZooRequest,
    out: Path,
    device: torch.device,
    tell: Tell,
    *,
    is_clustered_only: bool = False,
) -> tuple[StyleTable, Clustering]:
    """Do what is left to do of a zoo, up to its classifier.

    Parameters
    ----------
    request : ZooRequest
    out : Path
        The zoo's folder.
    device : torch.device
    tell : callable
        Gets a line of progress.
    is_clustered_only : bool
        Whether to stop when the clusters are known, before anything is trained.

    Raises
    ------
    UsageError
        When the folder holds a zoo that was asked for differently.
    BadTrainingData
        When the sets are not fit to train on.
    """
    require_leiden()
    held = hold_models(request, out)
    keep_request(request, {}, out)
    training, tests = _read_sets(request.sets, out, tell)
    _refuse_mixed_channels([image for each in training.values() for image in each])
    _refuse_trained_on(training, tests)
    keep_request(request, {name: content_digest(each) for name, each in training.items()}, out)
    style_model = ready_model(find_model(held[request.style_model], out), device)
    tell(f"{sum(map(len, training.values()))} training images of {len(training)} sets")
    precision = request.plan.precision
    table = style_table(training, tests, style_model, precision, out, tell)
    wanted = ClusterRequest(request.kind, request.subset, request.plan.seed)
    found = cluster(table, wanted, out)
    tell(f"{len(found.names)} clusters: {', '.join(found.names)}")
    if is_clustered_only:
        return table, found
    parts = _parts(request, training, found)
    models = {
        name: held[request.reuse[kind]] if kind in request.reuse else name
        for name, kind in zip(found.names, found.kinds, strict=True)
    }
    for name, (plan, images) in parts.items():
        train_part(replace(request, plan=plan), name, images, out, device, tell)
    write_classifier(table, found, models, style_model, out)
    return table, found


def _read_sets(
    sets: Sequence[str], out: Path, tell: Tell
) -> tuple[dict[str, list[TrainingImage]], dict[str, list[TrainingImage]]]:
    """Read the training and the test images of all sets, by name."""
    training = {n: read_images(Path(n) / "train", name_of(n), out / "flows") for n in sets}
    tested = [name for name in sets if (Path(name) / "test").is_dir()]
    for name in sets:
        if name not in tested:
            tell(f"{name} has no folder test, so nothing is scored on it")
    tests = {name: read_images(Path(name) / "test", name_of(name)) for name in tested}
    return (
        {name_of(name): images for name, images in training.items()},
        {name_of(name): images for name, images in tests.items()},
    )


def _parts(
    request: ZooRequest, training: Mapping[str, Sequence[TrainingImage]], found: Clustering
) -> dict[str, tuple[FitPlan, list[TrainingImage]]]:
    """Return the networks that are trained here: by name, how and on which images.

    Raises
    ------
    BadTrainingData
        When the images of one have too few ROIs; the cluster is named, and nothing is trained.
    """
    images = [image for each in training.values() for image in each]
    clustered = [
        replace(image, cluster=found.names[number])
        for image, number in zip(images, found.clusters, strict=True)
    ]
    parts: dict[str, tuple[FitPlan, list[TrainingImage]]] = {}
    if not request.generalist:
        parts[GENERALIST] = (replace(request.plan, is_balanced=True), clustered)
    for name, kind in zip(found.names, found.kinds, strict=True):
        if kind not in request.reuse:
            members = [image for image in clustered if image.cluster == name]
            parts[name] = (request.plan, members)
    for name, (plan, members) in parts.items():
        try:
            enough_rois(members, plan.min_rois)
        except BadTrainingData as error:
            raise BadTrainingData(
                f"cluster '{name}' ({len(members)} images) cannot be trained: {error}"
            ) from error
    return parts


def train_part(
    request: ZooRequest,
    name: str,
    images: Sequence[TrainingImage],
    out: Path,
    device: torch.device,
    tell: Tell,
) -> None:
    """Train the network of a part of the images from scratch, if it is not there yet."""
    folder = out / name
    if (folder / CARD).exists():
        return
    plan = request.plan
    kept, left_out = enough_rois(images, plan.min_rois)
    config = NetworkConfig(diam_mean=request.diam_mean, diam_labels=mean_diameter(kept))
    counts = Counter(image.name.rsplit("/", 1)[0] for image in kept)
    rois = Counter[str]()
    for image in kept:
        rois[image.name.rsplit("/", 1)[0]] += image.n_rois
    sets = [
        {"set": s, "images": n, "rois": rois[s], "licence": request.licence}
        for s, n in counts.items()
    ]
    prepared = Prepared(
        kept, left_out, fresh_network(config, plan.seed), sets, None, kept[0].plane.shape[0]
    )
    run = RunRequest(
        data=request.sets,
        start="scratch",
        plan=plan,
        channels=ChannelChoice(),
        diam_mean=request.diam_mean,
        licences=(request.licence,) * len(request.sets),
        model_id=name,
        zoo=str(out.absolute()),
        cluster=name,
    )
    folder.mkdir(parents=True, exist_ok=True)
    few = f", {len(left_out)} left out (fewer than {plan.min_rois} ROIs)" if left_out else ""
    tell(f"training {name}: {len(kept)} images{few}, {plan.steps} steps")
    for report in train(run, prepared, folder, device):
        if (report.epoch + 1) % max(1, plan.epochs // 10) == 0:
            tell(f"{name}: epoch {report.epoch + 1} of {plan.epochs}, loss {report.loss:.4f}")


def write_classifier(
    table: StyleTable,
    found: Clustering,
    models: Mapping[str, str],
    style_model: Model,
    out: Path,
) -> None:
    """Store the classifier of the training styles, if it is not there yet."""
    if (out / AUTO / CLASSIFIER_CARD).exists():
        return
    training = [i for i, test in enumerate(table.is_test) if not test]
    cards = []
    for number, name in enumerate(found.names):
        members = [i for i, c in zip(training, found.clusters, strict=True) if c == number]
        sets = Counter(table.kinds[i] for i in members)
        model = find_model(models[name], out).card
        cards.append(
            ClusterCard(name, model.id, model.sha256, len(members), dict(sets.most_common()))
        )
    card = ClassifierCard(
        id=AUTO,
        sha256="",
        styles_sha256="",
        style_model=style_model.card.id,
        style_model_sha256=style_model.card.sha256,
        clusters=tuple(cards),
        images=tuple(table.names[i] for i in training),
        recipe=found.report,
    )
    add_classifier(out / AUTO, classifier_of(table.styles[training], found.clusters), card)


def _refuse_mixed_channels(images: Sequence[TrainingImage]) -> None:
    first = images[0]
    for image in images:
        if image.plane.shape[0] != first.plane.shape[0]:
            raise BadTrainingData(
                f"{first.name} has {first.plane.shape[0]} channels and {image.name} has "
                f"{image.plane.shape[0]}; a zoo's networks are all fed the same"
            )


def _content_of(image: TrainingImage) -> str:
    return hashlib.sha256(f"{image.plane.shape}".encode() + image.plane.tobytes()).hexdigest()


def _refuse_trained_on(
    training: Mapping[str, Sequence[TrainingImage]], tests: Mapping[str, Sequence[TrainingImage]]
) -> None:
    seen = {_content_of(image): image.name for each in training.values() for image in each}
    for image in (image for each in tests.values() for image in each):
        is_blank = not image.plane.any()  # one blank field is like another
        if not is_blank and (same := seen.get(_content_of(image))):
            raise BadTrainingData(
                f"'{image.name}' of a folder test is to be scored on, and '{same}' of a folder "
                "train to be trained on: the same image"
            )
