"""The styles of a zoo's images, and the clusters that they fall into."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cellwatch.compute.models import Model
from cellwatch.core.arrays import Float32, Int64
from cellwatch.core.clusters import ClusterPlan, leiden, paper_plan, purity, stability
from cellwatch.core.parameters import Normalisation, SegmentationParams
from cellwatch.core.styles import StyleClassifier, classifier_of
from cellwatch.errors import BadTrainingData
from cellwatch.files.atomic import writing
from cellwatch.training.dataset import TrainingImage
from cellwatch.training.styling import native_style

STYLES = "styles.npz"
CLUSTERS = "clusters.json"
TOLD_EVERY = 100
FEWEST = 2  # images to be clustered: two halves are compared


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


@dataclass(frozen=True, slots=True)
class ClusterRequest:
    """How the images of a zoo are clustered.

    Attributes
    ----------
    kind : "cyto" or "nuclei"
        Which of the paper's clusterings.
    subset : float
        Part of the images of each set that is clustered; the rest is assigned.
    seed : int
    """

    kind: str
    subset: float
    seed: int


def style_table(
    training: Mapping[str, Sequence[TrainingImage]],
    tests: Mapping[str, Sequence[TrainingImage]],
    model: Model,
    precision: Literal["float32", "bfloat16"],
    out: Path,
    tell: Callable[[str], None],
) -> StyleTable:
    """Return the styles of all images at their own scale, training images first.

    What an earlier build measured with the same network on the same images is kept.

    Parameters
    ----------
    training, tests : mapping of str to sequence of TrainingImage
        By image type.
    model : Model
        Gives the styles; it is fed the channels that it was trained with.
    precision : "float32" or "bfloat16"
    out : Path
        The zoo's folder.
    tell : callable
    """
    listed = [
        (kind, is_test, image)
        for is_test, sets in ((False, training), (True, tests))
        for kind, images in sets.items()
        for image in images
    ]
    source = _source(model, [image for _, _, image in listed])
    if (styles := _kept_styles(out / STYLES, source)) is None:
        params = SegmentationParams(precision=precision)
        n_channels = len(model.card.channels)
        measured = []
        for _, _, image in listed:
            fed = replace(image, plane=image.plane[:n_channels])
            measured.append(native_style(model.network, fed, params))
            if len(measured) % TOLD_EVERY == 0:
                tell(f"{len(measured)} of {len(listed)} styles")
        styles = np.stack(measured)
        with writing(out / STYLES) as aside, aside.open("wb") as file:
            np.savez(file, styles=styles, source=source)
    return StyleTable(
        names=tuple(image.name for _, _, image in listed),
        kinds=tuple(kind for kind, _, _ in listed),
        is_test=np.array([is_test for _, is_test, _ in listed]),
        styles=styles,
    )


def cluster(table: StyleTable, request: ClusterRequest, out: Path) -> Clustering:
    """Cluster the training images' styles and say how good the clusters are."""
    seed = request.seed
    is_train = ~table.is_test
    styles = table.styles[is_train]
    kinds = [kind for kind, test in zip(table.kinds, table.is_test, strict=True) if not test]
    chosen = _subset(kinds, request.subset, seed)
    if len(chosen) < FEWEST:
        raise BadTrainingData(
            f"{len(chosen)} image{'s' if len(chosen) > 1 else ''} cannot be clustered, "
            f"{FEWEST} at the least; give more images, or a larger --subset"
        )
    plan = paper_plan(request.kind, len(chosen), seed)
    clusters = np.zeros(len(styles), np.int64)
    clusters[chosen] = leiden(styles[chosen], plan)
    classifier = classifier_of(styles[chosen], clusters[chosen])
    for index in np.setdiff1d(np.arange(len(styles)), chosen):
        clusters[index] = classifier.choose(styles[index]).cluster
    names, commonest = names_of_clusters(clusters, kinds)
    report = _report(table, clusters, kinds, plan, chosen)
    told = {**report, "clustered": len(chosen), "names": names}
    found = Clustering(clusters, names, commonest, told)
    (out / CLUSTERS).write_text(json.dumps(found.report, indent=1) + "\n", encoding="utf-8")
    return found


def modality_of(kind: str) -> str:
    """Return the first word of an image type: what lies before its first underscore."""
    return kind.split("_", 1)[0]


def _source(model: Model, images: Sequence[TrainingImage]) -> str:
    digest = hashlib.sha256(model.card.sha256.encode())
    for image in images:
        digest.update(image.name.encode())
        digest.update(image.plane.tobytes())
    return digest.hexdigest()


def _kept_styles(path: Path, source: str) -> Float32 | None:
    # None: there are none, or of another network or other images.
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as kept:
        return np.asarray(kept["styles"], np.float32) if str(kept["source"]) == source else None


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


def names_of_clusters(
    clusters: Int64, kinds: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a name of its own for each cluster, and the most common image type in each."""
    commonest: list[str] = []
    names: list[str] = []
    for number in range(int(clusters.max()) + 1):
        members = [kind for kind, c in zip(kinds, clusters, strict=True) if c == number]
        kind = Counter(members).most_common(1)[0][0]
        commonest.append(kind)
        n = commonest.count(kind)
        name = kind if n == 1 else f"{kind}-{n}"
        while name in names or (name != kind and name in kinds):  # a set may be named so
            n += 1
            name = f"{kind}-{n}"
        names.append(name)
    return tuple(names), tuple(commonest)


def _report(
    table: StyleTable,
    clusters: Int64,
    kinds: Sequence[str],
    plan: ClusterPlan,
    chosen: Int64,
) -> dict[str, Any]:  # Any: JSON
    # `chosen` were clustered; the others were assigned.
    styles = table.styles[~table.is_test]
    classifier = classifier_of(styles, clusters)
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
        "stability_of_halves": stability(styles[chosen], plan),
        "modality_accuracy_on_test": float(np.mean(right)) if right else None,
        "normalisation": asdict(Normalisation()),
    }


def modalities_near(classifier: StyleClassifier, style: Float32, modalities: Sequence[str]) -> str:
    """Return the most common modality of a style's five nearest neighbours."""
    near = classifier.choose(style).neighbours
    return Counter(modalities[n.index] for n in near).most_common(1)[0][0]
