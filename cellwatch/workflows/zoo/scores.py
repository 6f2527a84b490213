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
from typing import Any, Literal

import numpy as np
import torch

from cellwatch.compute.models import ready_either
from cellwatch.core.parameters import ALGORITHM_VERSION, Diameter, SegmentationParams
from cellwatch.errors import UsageError
from cellwatch.files.atomic import write_json
from cellwatch.records import ChannelChoice, ClassifierCard
from cellwatch.workflows.evaluate import evaluate_folder, folder_digest
from cellwatch.workflows.zoo.request import AUTO
from cellwatch.zoo.cards import ModelPlace, find_model
from cellwatch.zoo.classifiers import ClassifierPlace, require_classifier

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
        Each image as `auto` segments it: with the network that its style chooses, or another.
    chosen : mapping of str to int
        How many images each segmented under `auto`.
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
    zoo: Path,
    generalist: str,
    device: torch.device,
    precision: Literal["float32", "bfloat16"],
    tell: Callable[[str], None],
) -> list[SetScore]:
    """Score every network of a zoo on the `test` folder of every set.

    Scores are kept by the sha256 of the weights and of the test folder's files, so that none is
    computed again when the zoo is scored again.

    Parameters
    ----------
    sets : sequence of str
    zoo : Path
    generalist : str
        The id of the network that the ensemble is measured against.
    device : torch.device
    precision : "float32" or "bfloat16"
    tell : callable
    """
    place = require_classifier(str(zoo / AUTO))
    places = {name: p for name, p in place.models().items() if _is_used(name, place.card)}
    places[generalist] = find_model(generalist, zoo)
    scorer = _Scorer(zoo, device, precision, tell)
    results = []
    for folder in sets:
        test = Path(folder) / "test"
        if not test.is_dir():
            tell(f"{folder} has no folder 'test' and is not scored")
            continue
        each = {name: scorer.means(model, test) for name, model in places.items()}
        scored = scorer.each_image(place, test)
        chosen = Counter(model for _, model in scored.values())
        results.append(
            SetScore(
                name=Path(folder).name,
                images=len(scored),
                by_model=each,
                auto=float(np.mean([score for score, _ in scored.values()])),
                chosen=dict(chosen.most_common()),
            )
        )
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


@dataclass(frozen=True, slots=True)
class _Scorer:
    zoo: Path
    device: torch.device
    precision: Literal["float32", "bfloat16"]
    tell: Callable[[str], None]

    def means(self, place: ModelPlace, test: Path) -> float:
        """Return the mean AP@0.5 of a model on a folder."""
        return float(np.mean([score for score, _ in self.each_image(place, test).values()]))

    def each_image(
        self, place: ModelPlace | ClassifierPlace, test: Path
    ) -> dict[str, tuple[float, str]]:
        """Return of each image of a folder its AP@0.5 and the model that segmented it."""
        path = self.zoo / SCORES
        kept: dict[str, Any] = (  # Any: JSON
            json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        )
        how = f"{ALGORITHM_VERSION}/{self.precision}/by image"
        key = f"{place.card.sha256}/{how}/{folder_digest(test)}"
        if key not in kept:
            scored = evaluate_folder(
                test,
                ready_either(place, self.device),
                SegmentationParams(diameter=Diameter("model"), precision=self.precision),
                ChannelChoice(),
                is_true_diameter=True,
            )
            kept[key] = {
                one.score.name: [one.score.average_precision[IOU], one.model_id] for one in scored
            }
            write_json(path, kept)
            mean = np.mean([score for score, _ in kept[key].values()])
            self.tell(f"{place.card.id} on {test.parent.name}: AP@0.5 {mean:.3f}")
        return {name: (float(score), str(model)) for name, (score, model) in kept[key].items()}


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
