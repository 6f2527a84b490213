"""Build a zoo: cluster images by style, train a network for each cluster, score the ensemble.

Every step leaves its result in the zoo's folder and is not done again: a build that was cut off
goes on where it stood. The folder becomes a zoo with a classifier named `auto`.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cellwatch.core.arrays import Float32, Int64
from cellwatch.core.clusters import ClusterPlan, leiden, paper_plan, purity, stability
from cellwatch.core.network import NetworkConfig, fresh_network
from cellwatch.core.parameters import Normalisation, SegmentationParams
from cellwatch.core.styles import StyleClassifier, classifier_of
from cellwatch.daemon.choosing import Model, ready_model
from cellwatch.daemon.learning import Prepared, RunRequest, read_images, train
from cellwatch.errors import BadTrainingData, UsageError
from cellwatch.records import ChannelChoice, ClassifierCard, ClusterCard
from cellwatch.storage.pairs import find_pairs
from cellwatch.training.dataset import TrainingImage, enough_rois, mean_diameter
from cellwatch.training.plans import FitPlan
from cellwatch.training.styling import native_style
from cellwatch.zoo.cards import CARD, find_model
from cellwatch.zoo.catalog import hold_model
from cellwatch.zoo.classifiers import CARD as CLASSIFIER_CARD
from cellwatch.zoo.classifiers import add_classifier

REQUEST = "zoo.json"
STYLES = "styles.npz"
CLUSTERS = "clusters.json"
AUTO = "auto"
GENERALIST = "generalist"


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


@dataclass(frozen=True, slots=True)
class StyleTable:
    """The styles of a zoo's images.

    Attributes
    ----------
    names : tuple of str
    kinds : tuple of str
        The image type of each: its set.
    is_test : (N,) bool
    styles : (N, W) float32
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    is_test: np.ndarray
    styles: Float32


@dataclass(frozen=True, slots=True)
class Clustering:
    """The clusters of the training images and how good they are.

    Attributes
    ----------
    clusters : (N,) int64
        Of each training image.
    names : tuple of str
        Of each cluster: its most common image type, with a number from the second on.
    kinds : tuple of str
        Of each cluster: its most common image type.
    report : mapping
        JSON: plan, purity, stability, accuracy on the test images.
    """

    clusters: Int64
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    report: Mapping[str, Any]  # Any: JSON


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
    _keep(request, out)
    images = {
        name: read_images(_train(name), name_of(name), out / "flows") for name in request.sets
    }
    named = {request.style_model, *request.reuse.values()}
    held = {name: hold_model(name, out) for name in sorted(named)}
    style_model = ready_model(find_model(held[request.style_model], out), device)
    tell(f"{sum(map(len, images.values()))} training images of {len(images)} sets")
    table = style_table(request, images, style_model, out, tell)
    found = cluster(table, request, out)
    tell(f"{len(found.names)} clusters: {', '.join(found.names)}")
    if is_clustered_only:
        return table, found
    training = [image for each in images.values() for image in each]
    clustered = [
        replace(image, cluster=found.names[c])
        for image, c in zip(training, found.clusters, strict=True)
    ]
    if not request.generalist:
        balanced = replace(request, plan=replace(request.plan, is_balanced=True))
        train_part(balanced, GENERALIST, clustered, out, device, tell)
    models = {}
    for name, kind in zip(found.names, found.kinds, strict=True):
        reused = request.reuse.get(kind)
        models[name] = held[reused] if reused else name
        if not reused:
            members = [image for image in clustered if image.cluster == name]
            train_part(request, name, members, out, device, tell)
    write_classifier(request, table, found, models, style_model, out)
    return table, found


def style_table(
    request: ZooRequest,
    images: Mapping[str, Sequence[TrainingImage]],
    model: Model,
    out: Path,
    tell: Tell,
) -> StyleTable:
    """Return the styles of all images at their own scale; those of a cut-off build are kept."""
    if (out / STYLES).exists():
        with np.load(out / STYLES, allow_pickle=False) as kept:
            return StyleTable(
                tuple(kept["names"].tolist()),
                tuple(kept["kinds"].tolist()),
                kept["is_test"],
                kept["styles"],
            )
    params = SegmentationParams(precision=request.plan.precision)
    names, kinds, is_test, styles = [], [], [], []
    for part in (False, True):
        for folder, training in images.items():
            kind = name_of(folder)
            members = read_images(_test(folder), kind, None) if part else training
            for image in members:
                names.append(image.name)
                kinds.append(kind)
                is_test.append(part)
                styles.append(native_style(model.network, image, params))
            tell(f"{len(styles)} styles")
    table = StyleTable(tuple(names), tuple(kinds), np.array(is_test), np.stack(styles))
    aside = out / f".{STYLES}.partial"
    with aside.open("wb") as file:
        np.savez(file, names=names, kinds=kinds, is_test=table.is_test, styles=table.styles)
    aside.replace(out / STYLES)
    return table


def cluster(table: StyleTable, request: ZooRequest, out: Path) -> Clustering:
    """Cluster the training images' styles and say how good the clusters are."""
    seed = request.plan.seed
    is_train = ~table.is_test
    styles = table.styles[is_train]
    kinds = [kind for kind, test in zip(table.kinds, table.is_test, strict=True) if not test]
    chosen = _subset(kinds, request.subset, seed)
    plan = paper_plan(request.kind, len(chosen), seed)
    clusters = np.zeros(len(styles), np.int64)
    clusters[chosen] = leiden(styles[chosen], plan)
    classifier = classifier_of(styles[chosen], clusters[chosen])
    for index in np.setdiff1d(np.arange(len(styles)), chosen):
        clusters[index] = classifier.choose(styles[index]).cluster
    names, commonest = _names(clusters, kinds)
    report = _report(table, clusters, kinds, plan, classifier_of(styles, clusters))
    told = {**report, "clustered": len(chosen), "names": names}
    found = Clustering(clusters, names, commonest, told)
    (out / CLUSTERS).write_text(json.dumps(found.report, indent=1) + "\n", encoding="utf-8")
    return found


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
        zoo=str(out),
        cluster=name,
    )
    folder.mkdir(parents=True, exist_ok=True)
    tell(f"training {name}: {len(kept)} images, {plan.steps} steps")
    for report in train(run, prepared, folder, device):
        if (report.epoch + 1) % max(1, plan.epochs // 10) == 0:
            tell(f"{name}: epoch {report.epoch + 1} of {plan.epochs}, loss {report.loss:.4f}")


def write_classifier(
    request: ZooRequest,
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
        cards.append(ClusterCard(name, models[name], len(members), dict(sets.most_common())))
    card = ClassifierCard(
        id=AUTO,
        sha256="",
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


def modality_of(kind: str) -> str:
    """Return the first word of an image type: what lies before its first underscore."""
    return kind.split("_", 1)[0]


def find_sets(data: Sequence[Path]) -> tuple[str, ...]:
    """Return the sets that folders are, or hold: those with a folder `train`.

    Raises
    ------
    BadTrainingData
        When there is none.
    """
    found: list[str] = []
    for folder in data:
        inside = [folder] if (folder / "train").is_dir() else sorted(folder.glob("*"))
        found += [str(each.absolute()) for each in inside if (each / "train").is_dir()]
    if not found:
        raise BadTrainingData(
            f"{', '.join(map(str, data))}: no folder with a folder 'train' of images and masks"
        )
    return tuple(found)


def _keep(request: ZooRequest, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(request), indent=1, sort_keys=True) + "\n"
    path = out / REQUEST
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UsageError(
            f"{out} holds a zoo that was asked for differently (see {path}); "
            "go on with the same options, or build into another folder"
        )
    path.write_text(text, encoding="utf-8")


def _train(folder: str) -> Path:
    return Path(folder) / "train"


def _test(folder: str) -> Path:
    return Path(folder) / "test"


def _subset(kinds: Sequence[str], part: float, seed: int) -> Int64:
    if part >= 1:
        return np.arange(len(kinds))
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for kind in sorted(set(kinds)):
        members = np.flatnonzero(np.array(kinds) == kind)
        n = max(1, round(part * len(members)))
        chosen += rng.choice(members, size=n, replace=False).tolist()
    return np.array(sorted(chosen), np.int64)


def _names(clusters: Int64, kinds: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    commonest: list[str] = []
    names: list[str] = []
    for number in range(int(clusters.max()) + 1):
        members = [kind for kind, c in zip(kinds, clusters, strict=True) if c == number]
        kind = Counter(members).most_common(1)[0][0]
        commonest.append(kind)
        n = commonest.count(kind)
        names.append(kind if n == 1 else f"{kind}-{n}")
    return tuple(names), tuple(commonest)


def _report(
    table: StyleTable,
    clusters: Int64,
    kinds: Sequence[str],
    plan: ClusterPlan,
    classifier: StyleClassifier,
) -> dict[str, Any]:  # Any: JSON
    styles = table.styles[~table.is_test]
    modalities = [modality_of(kind) for kind in kinds]
    found = [
        (modality_of(kind), modalities_near(classifier, style, modalities))
        for kind, style, test in zip(table.kinds, table.styles, table.is_test, strict=True)
        if test
    ]
    right = [modality == near for modality, near in found]
    return {
        "plan": asdict(plan),
        "clusters": int(clusters.max()) + 1,
        "purity_by_set": purity(clusters, kinds),
        "purity_by_modality": purity(clusters, modalities),
        "stability_of_halves": stability(styles, plan),
        "modality_accuracy_on_test": float(np.mean(right)) if right else None,
        "normalisation": asdict(Normalisation()),
    }


def modalities_near(classifier: StyleClassifier, style: Float32, modalities: Sequence[str]) -> str:
    """Return the most common modality of a style's five nearest neighbours."""
    near = classifier.choose(style).neighbours
    return Counter(modalities[n.index] for n in near).most_common(1)[0][0]


def has_pairs(folder: Path) -> bool:
    """Say whether a folder is there to score on."""
    return folder.is_dir() and bool(find_pairs(folder))
