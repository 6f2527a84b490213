"""Classifiers on disk: folders that say which model of a zoo an image's style calls for.

A classifier lies in a zoo like a model does, and is named like one (`auto`): a folder with
`classifier.json` and `classifier.safetensors`. Cards are read without torch.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cellwatch.core.styles import StyleClassifier, usual_distances
from cellwatch.errors import UnknownModel, WeightsError
from cellwatch.files.atomic import write_json, writing
from cellwatch.files.digests import file_sha256
from cellwatch.records import ClassifierCard, ClusterCard
from cellwatch.zoo.cards import WEIGHTS, ModelPlace, find_model, is_path, zoo_roots

CARD = "classifier.json"
STYLES = "classifier.safetensors"


@dataclass(frozen=True, slots=True)
class ClassifierPlace:
    """Where a classifier lies.

    Attributes
    ----------
    path : Path
    card : ClassifierCard
    """

    path: Path
    card: ClassifierCard

    @property
    def zoo(self) -> Path:
        """Return the zoo that its models' ids are looked up in."""
        return self.path.parents[self.card.id.count("/")]

    def model_of(self, sha256: str) -> ModelPlace | None:
        """Find the model of these weights among those that may segment; None: it has none such.

        Raises
        ------
        UnknownModel
            When its folder is not there any more.
        """
        for name, weights in self.offered():
            if weights == sha256:
                place = find_model(name, self.zoo)
                return place if place.card.sha256 == sha256 else None
        return None

    def offered(self) -> list[tuple[str, str]]:
        """Return id and sha256 of each model that may segment: of the clusters, and the general."""
        each = [(cluster.model, cluster.model_sha256) for cluster in self.card.clusters]
        general = (self.card.style_model, self.card.style_model_sha256)
        return list(dict.fromkeys([*each, general]))

    def models(self) -> dict[str, ModelPlace]:
        """Find the models of all clusters, and the style network, by id.

        Raises
        ------
        UnknownModel
            When one is not there.
        WeightsError
            When one is not the network that the classifier was made with.
        """
        wanted = {cluster.model: cluster.model_sha256 for cluster in self.card.clusters}
        wanted[self.card.style_model] = self.card.style_model_sha256
        found = {name: find_model(name, self.zoo) for name in sorted(wanted)}
        for name, place in found.items():
            if place.card.sha256 != wanted[name]:
                raise WeightsError(
                    f"{self.path} was made with another '{name}': {place.path} has the sha256 "
                    f"{place.card.sha256}, not {wanted[name]}; build the zoo again"
                )
        return found


def find_either(name: str, zoo: Path | None = None) -> ModelPlace | ClassifierPlace:
    """Find the model or the classifier that an argument names.

    Raises
    ------
    UnknownModel
        When there is neither.
    """
    return find_classifier(name, zoo) or find_model(name, zoo)


def check_weights(place: ModelPlace | ClassifierPlace) -> None:
    """Read the weights of a model, or of all that a classifier chooses from, and compare hashes.

    Raises
    ------
    UnknownModel
        When a model is not there.
    WeightsError
        When weights are not those that their card names.
    """
    models = place.models().values() if isinstance(place, ClassifierPlace) else [place]
    for model in models:
        path = model.path / WEIGHTS
        try:
            found = file_sha256(path)
        except OSError as error:
            raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
        if found != model.card.sha256:
            raise WeightsError(
                f"{path} is not what its card names: sha256 {found}, not {model.card.sha256}; put "
                "the model's folder back from where it came"
            )


def find_classifier(name: str, zoo: Path | None = None) -> ClassifierPlace | None:
    """Find the classifier that an argument names; None when it names none.

    The station's own `auto` goes before the built-in one.
    """
    if is_path(name):
        folders: Sequence[Path] = [Path(name)]
    else:
        folders = [root / name for root in reversed(zoo_roots(zoo))]
    for folder in folders:
        if (folder / CARD).is_file():
            return ClassifierPlace(folder, read_classifier_card(folder))
    return None


def require_classifier(name: str, zoo: Path | None = None) -> ClassifierPlace:
    """Find a classifier.

    Raises
    ------
    UnknownModel
        When there is none of that name.
    """
    found = find_classifier(name, zoo)
    if found is None:
        raise UnknownModel(
            f"there is no classifier '{name}'; make one: cellwatch zoo build, or name a folder "
            f"that holds {CARD}"
        )
    return found


def read_classifier_card(folder: Path) -> ClassifierCard:
    """Read the card of a classifier.

    Raises
    ------
    WeightsError
        When it is none.
    """
    try:
        data = json.loads((folder / CARD).read_text(encoding="utf-8"))
        clusters = tuple(ClusterCard(**cluster) for cluster in data["clusters"])
        card = ClassifierCard(**{**data, "clusters": clusters, "images": tuple(data["images"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder} is not a classifier: {error}") from error
    if (found := _card_sha256(card)) != card.sha256:
        raise WeightsError(
            f"{folder / CARD} was changed: its content's sha256 is {found}, it says {card.sha256}"
        )
    return card


def load_classifier(place: ClassifierPlace) -> StyleClassifier:
    """Load the known styles of a classifier.

    Raises
    ------
    WeightsError
        When the file is not the one whose sha256 the card has, or has other styles than it.
    """
    path = place.path / STYLES
    try:
        found = file_sha256(path)
        if found != place.card.styles_sha256:
            raise WeightsError(
                f"{path} was changed: its sha256 is {found}, the card says "
                f"{place.card.styles_sha256}"
            )
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    styles = tensors["styles"].astype(np.float32)
    clusters = tensors["clusters"].astype(np.int64)
    reaches = tuple(float(reach) for reach in tensors["reaches"])
    return StyleClassifier(styles, clusters, reaches, usual_distances(styles, clusters))


def add_classifier(
    folder: Path, classifier: StyleClassifier, card: ClassifierCard
) -> ClassifierCard:
    """Write a classifier; it is complete when its card is there, and never changes after that.

    Raises
    ------
    WeightsError
        When the folder holds one already.
    """
    if (folder / CARD).exists():
        raise WeightsError(f"{folder} holds a classifier already; it is never overwritten")
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, np.ndarray] = {
        "styles": classifier.styles.astype(np.float16),
        "clusters": classifier.clusters.astype(np.int32),
        "reaches": np.array(classifier.reaches),
    }
    with writing(folder / STYLES) as aside:
        save_file(tensors, aside)
        aside.chmod(0o644)
    card = replace(card, styles_sha256=file_sha256(folder / STYLES))
    card = replace(card, sha256=_card_sha256(card))
    write_json(folder / CARD, asdict(card))
    return card


def _card_sha256(card: ClassifierCard) -> str:
    text = json.dumps(asdict(replace(card, sha256="")), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
