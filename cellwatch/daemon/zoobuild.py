"""Build a zoo: cluster images by style, train a network for each cluster, score the ensemble.

Every step leaves its result in the zoo's folder and is not done again: a build that was cut off
goes on where it stood. The folder becomes a zoo with a classifier named `auto`.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from cellwatch.core.network import NetworkConfig, fresh_network
from cellwatch.core.styles import classifier_of
from cellwatch.daemon.choosing import Model, ready_model
from cellwatch.daemon.learning import Prepared, read_images, train
from cellwatch.daemon.runs import RunRequest
from cellwatch.daemon.zooclusters import (
    Clustering,
    ClusterRequest,
    StyleTable,
    cluster,
    style_table,
)
from cellwatch.errors import BadTrainingData, UsageError
from cellwatch.records import ChannelChoice, ClassifierCard, ClusterCard
from cellwatch.training.dataset import TrainingImage, enough_rois, mean_diameter
from cellwatch.training.plans import FitPlan
from cellwatch.zoo.cards import BUILTIN, CARD, find_model, list_models
from cellwatch.zoo.catalog import hold_model
from cellwatch.zoo.classifiers import CARD as CLASSIFIER_CARD
from cellwatch.zoo.classifiers import add_classifier

REQUEST = "zoo.json"
AUTO = "auto"
GENERALIST = "generalist"
RESERVED = {AUTO, GENERALIST, "flows", "cellpose"}


@dataclass(frozen=True, slots=True)
class ZooRequest:
    """What a person asked a zoo to be; kept in its folder.

    Attributes
    ----------
    sets : tuple of str
        Folders with `train` and `test` below; the name of each is the type of its images.
    style_model : str
        Gives the styles.
    reuse : mapping of str to str
        By image type: the model that its clusters use instead of one trained here.
    generalist : str
        The model that the ensemble is measured against; "": one trained here.
    plan : FitPlan
        Of each network trained here.
    kind : "cyto" or "nuclei"
        Which of the paper's clusterings.
    subset : float
        Part of the images of each set that is clustered; the rest is assigned.
    diam_mean : float, px
    licence : str
    """

    sets: tuple[str, ...]
    style_model: str
    reuse: Mapping[str, str]
    generalist: str
    plan: FitPlan
    kind: str = "cyto"
    subset: float = 1.0
    diam_mean: float = 30.0
    licence: str = ""


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
    held = _checked(request, out)
    _keep(request, out)
    training = {
        name_of(name): read_images(Path(name) / "train", name_of(name), out / "flows")
        for name in request.sets
    }
    tests = {
        name_of(name): read_images(Path(name) / "test", name_of(name))
        for name in request.sets
        if (Path(name) / "test").is_dir()
    }
    _refuse_mixed_channels([image for each in training.values() for image in each])
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
    plan = replace(request.plan, images_per_epoch=max(8, request.plan.images_per_epoch))
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


def name_of(folder: str) -> str:
    """Return the image type of a set: the name of its folder."""
    return Path(folder).name


def find_sets(data: Sequence[Path]) -> tuple[str, ...]:
    """Return the sets that folders are, or hold: those with a folder `train`.

    Raises
    ------
    BadTrainingData
        When there is none, or two have one name.
    """
    found: list[str] = []
    for folder in data:
        inside = [folder] if (folder / "train").is_dir() else sorted(folder.glob("*"))
        found += [str(each.absolute()) for each in inside if (each / "train").is_dir()]
    if not found:
        raise BadTrainingData(
            f"{', '.join(map(str, data))}: no folder with a folder 'train' of images and masks"
        )
    for name, count in Counter(name_of(folder) for folder in found).items():
        if count > 1:
            raise BadTrainingData(
                f"{count} sets are named '{name}', and a set's name is the type of its images; "
                "rename one"
            )
    return tuple(found)


def _checked(request: ZooRequest, out: Path) -> dict[str, str]:
    # The ids under which the zoo holds the models that the request names.
    names = [name_of(folder) for folder in request.sets]
    taken = {card.id for card in list_models(BUILTIN)} | RESERVED
    if clash := sorted(taken.intersection(names)):
        raise UsageError(
            f"a set is named '{clash[0]}', and so would its network be; that name is taken: "
            "rename the set's folder"
        )
    if unknown := sorted(set(request.reuse) - set(names)):
        raise UsageError(f"--reuse: there is no set '{unknown[0]}'; there are {', '.join(names)}")
    named = {request.style_model, *request.reuse.values()}
    named |= {request.generalist} if request.generalist else set()
    out.mkdir(parents=True, exist_ok=True)
    return {name: hold_model(name, out) for name in sorted(named)}


def _refuse_mixed_channels(images: Sequence[TrainingImage]) -> None:
    first = images[0]
    for image in images:
        if image.plane.shape[0] != first.plane.shape[0]:
            raise BadTrainingData(
                f"{first.name} has {first.plane.shape[0]} channels and {image.name} has "
                f"{image.plane.shape[0]}; a zoo's networks are all fed the same"
            )


def _keep(request: ZooRequest, out: Path) -> None:
    text = json.dumps(asdict(request), indent=1, sort_keys=True) + "\n"
    path = out / REQUEST
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UsageError(
            f"{out} holds a zoo that was asked for differently (see {path}); "
            "go on with the same options, or build into another folder"
        )
    aside = path.with_name(f".{REQUEST}.partial")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
