"""Score a zoo: each of its networks on each test set, and the ensemble against the generalist.

References
----------
Pachitariu & Stringer 2022, Fig. 2c: at each image's own diameter, the model that the style chooses
against one generalist.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cellwatch.core.parameters import ALGORITHM_VERSION, Diameter, SegmentationParams
from cellwatch.core.styles import StyleClassifier
from cellwatch.daemon.choosing import ready_model
from cellwatch.daemon.scoring import evaluate_folder, folder_digest
from cellwatch.daemon.zooclusters import StyleTable
from cellwatch.daemon.zoorequest import AUTO
from cellwatch.errors import UsageError
from cellwatch.records import ChannelChoice, ClassifierCard
from cellwatch.zoo.cards import ModelPlace, find_model
from cellwatch.zoo.classifiers import load_classifier, require_classifier

SCORES = "scores.json"
TABLE = "scores.csv"
IOU = 0.5


@dataclass(frozen=True, slots=True)
class SetScore:
    """How a zoo does on one test set: mean average precision at IoU 0.5.

    Attributes
    ----------
    name : str
    images : int
    by_model : mapping of str to float
        Each network on the whole set.
    auto : float
        Each image with the network that its style chooses.
    chosen : mapping of str to int
        How often each was chosen.
    """

    name: str
    images: int
    by_model: Mapping[str, float]
    auto: float
    chosen: Mapping[str, int]

    @property
    def best(self) -> str:
        """Return the network that is best on this set."""
        return max(self.by_model, key=lambda name: self.by_model[name])


def score_zoo(
    sets: Sequence[str],
    table: StyleTable,
    zoo: Path,
    generalist: str,
    device: torch.device,
    tell: Callable[[str], None],
) -> list[SetScore]:
    """Score every network of a zoo on the `test` folder of every set.

    Scores are kept by the sha256 of the weights and of the test folder's files, so that none is
    computed again when the zoo is scored again.

    Parameters
    ----------
    sets : sequence of str
    table : StyleTable
        Of the zoo's images, tests included.
    zoo : Path
    generalist : str
        The id of the network that the ensemble is measured against.
    device : torch.device
    tell : callable
    """
    place = require_classifier(str(zoo / AUTO))
    places = {name: p for name, p in place.models().items() if _is_used(name, place.card)}
    places[generalist] = find_model(generalist, zoo)
    classifier = load_classifier(place)
    results = []
    for folder in sets:
        test = Path(folder) / "test"
        if not test.is_dir():
            tell(f"{folder} has no folder 'test' and is not scored")
            continue
        each = {name: _scores_of(p, test, zoo, device, tell) for name, p in places.items()}
        results.append(_set_score(Path(folder).name, each, table, classifier, place.card))
    if not results:
        raise UsageError("no set has a folder 'test', so there is nothing to score on")
    _write_table(zoo / TABLE, results, generalist)
    return results


def mean_scores(results: Sequence[SetScore], generalist: str) -> dict[str, float]:
    """Return the means over the sets: of the generalist, of the ensemble, of the best by hand."""
    return {
        "generalist": float(np.mean([r.by_model[generalist] for r in results])),
        "auto": float(np.mean([r.auto for r in results])),
        "best by hand": float(np.mean([r.by_model[r.best] for r in results])),
    }


def _is_used(name: str, card: ClassifierCard) -> bool:
    return any(cluster.model == name for cluster in card.clusters)


def _scores_of(
    place: ModelPlace, test: Path, zoo: Path, device: torch.device, tell: Callable[[str], None]
) -> dict[str, float]:
    path = zoo / SCORES
    kept: dict[str, Any] = (  # Any: JSON
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    )
    key = f"{place.card.sha256}/{ALGORITHM_VERSION}/{folder_digest(test)}"
    if key not in kept:
        scored = evaluate_folder(
            test,
            ready_model(place, device),
            SegmentationParams(diameter=Diameter("model")),
            ChannelChoice(),
            is_true_diameter=True,
        )
        kept[key] = {one.score.name: one.score.average_precision[IOU] for one in scored}
        aside = path.with_name(f".{SCORES}.partial")
        aside.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        aside.replace(path)
        mean = np.mean(list(kept[key].values()))
        tell(f"{place.card.id} on {test.parent.name}: AP@0.5 {mean:.3f}")
    return {name: float(score) for name, score in kept[key].items()}


def _set_score(
    name: str,
    each: Mapping[str, Mapping[str, float]],
    table: StyleTable,
    classifier: StyleClassifier,
    card: ClassifierCard,
) -> SetScore:
    chosen: Counter[str] = Counter()
    scores = []
    for image, kind, test, style in zip(
        table.names, table.kinds, table.is_test, table.styles, strict=True
    ):
        if not test or kind != name:
            continue
        model = card.clusters[classifier.choose(style).cluster].model
        chosen[model] += 1
        scores.append(each[model][_stem(image, each[model])])
    return SetScore(
        name=name,
        images=len(scores),
        by_model={model: float(np.mean(list(each[model].values()))) for model in each},
        auto=float(np.mean(scores)),
        chosen=dict(chosen.most_common()),
    )


def _stem(image: str, scores: Mapping[str, float]) -> str:
    from cellwatch.storage.stems import stem_of

    stem = stem_of(image.rsplit("/", 1)[1])
    if stem not in scores:
        raise UsageError(f"{image} was not scored: the test folder changed while the zoo was built")
    return stem


def _write_table(path: Path, results: Sequence[SetScore], generalist: str) -> None:
    models = sorted(results[0].by_model)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["set", "images", *models, "generalist", "auto", "best by hand", "chosen"])
        for r in results:
            chosen = " ".join(f"{name}:{n}" for name, n in r.chosen.items())
            row = [f"{r.by_model[model]:.4f}" for model in models]
            general, best = r.by_model[generalist], r.by_model[r.best]
            writer.writerow(
                [r.name, r.images, *row, f"{general:.4f}", f"{r.auto:.4f}", f"{best:.4f}", chosen]
            )
