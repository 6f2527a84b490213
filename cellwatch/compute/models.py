"""Models ready to run, and the choice among them by an image's style."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cellwatch.compute.device import optimised
from cellwatch.core.arrays import Float32
from cellwatch.core.channels import GREY, Channel, choose_channels, take_channels
from cellwatch.core.image import (
    cleaned,
    is_blank,
    is_flat,
    normalise,
    percentiles,
    resize,
    scaled_shape,
    with_channels,
)
from cellwatch.core.network import CPNet
from cellwatch.core.parameters import Normalisation, SegmentationParams
from cellwatch.core.segment import style_of_plane
from cellwatch.core.styles import StyleChoice, StyleClassifier
from cellwatch.images import Planes, n_planes
from cellwatch.records import ChannelChoice, ClassifierCard, ModelCard, ModelChoice
from cellwatch.zoo.cards import ModelPlace
from cellwatch.zoo.catalog import load_model, style_facts_of
from cellwatch.zoo.classifiers import ClassifierPlace, load_classifier
from cellwatch.zoo.stylefile import StyleFacts

FAR = 1.0  # times the reach of a cluster: beyond it its model knows nothing like it
STYLE_PLANES = 5  # of a stack or a series, evenly spread: their mean style chooses


@dataclass(frozen=True, slots=True)
class Model:
    """A network ready to run, its card, and what it knows of styles."""

    network: CPNet
    card: ModelCard
    styles: StyleFacts = field(default_factory=StyleFacts)


@dataclass(frozen=True, slots=True)
class Chooser:
    """A classifier ready to run.

    Attributes
    ----------
    card : ClassifierCard
    classifier : StyleClassifier
    style_model : Model
        Gives the styles.
    load : callable
        Loads the model of an id.
    """

    card: ClassifierCard
    classifier: StyleClassifier
    style_model: Model
    load: Callable[[str], Model]

    def choose(
        self,
        image: Planes,
        choice: ChannelChoice,
        diameter: float | None = None,
        params: SegmentationParams | None = None,
    ) -> tuple[Model, ModelChoice]:
        """Return the model that an image's style calls for, and why.

        An image that is constant, or nothing but noise, has no style and so no neighbours: its
        model is that of the largest cluster.

        Parameters
        ----------
        image : Image
        choice : ChannelChoice
        diameter : float or None, px
            What is known of it; None: nothing. It matters where styles are taken at a diameter.
        params : SegmentationParams or None
            Its batch size and precision are those of the style network; None: the defaults.
        """
        chosen, _ = channels_for(image, self.style_model.card, choice)
        said = params or SegmentationParams()
        params = SegmentationParams(batch_size=said.batch_size, precision=said.precision)
        style = self._style(image, chosen, self._zoom(diameter), params)
        if style is None:
            largest = max(self.card.clusters, key=lambda cluster: cluster.images)
            return self.load(largest.model), self._because(largest.name, ())
        return self.choose_by(style)

    def choose_by(self, style: Float32) -> tuple[Model, ModelChoice]:
        """Return the model that a style calls for, and why.

        Beyond the reach of the styles of its cluster a model knows nothing like the image; then it
        is the network that gives the styles: a zoo's most general one.
        """
        found = self.classifier.choose(style)
        cluster = self.card.clusters[found.cluster]
        because = self._because(cluster.name, self._told(found))
        because = replace(because, novelty=found.novelty, is_usual=found.is_usual)
        if found.novelty is None or found.novelty <= FAR or cluster.model == self.card.style_model:
            return self.load(cluster.model), because
        text = (
            f"its style is unlike those that '{cluster.name}' knows (novelty {found.novelty:.1f})"
        )
        text += f": the general network '{self.card.style_model}' is used"
        return self.style_model, replace(because, instead_of=cluster.model, why=text)

    def _because(
        self,
        cluster: str,
        neighbours: tuple[Mapping[str, Any], ...],  # Any: JSON
    ) -> ModelChoice:
        return ModelChoice(self.card.id, self.card.sha256, cluster, neighbours)

    def _zoom(self, diameter: float | None) -> float:
        if self.card.scale == "native":
            return 1.0
        config = self.style_model.network.config
        return config.diam_mean / (diameter or config.diam_labels)

    def _style(
        self, image: Planes, chosen: tuple[Channel, ...], zoom: float, params: SegmentationParams
    ) -> Float32 | None:
        network = self.style_model.network
        total = np.zeros(network.config.widths[-1], np.float32)
        for index in spread(n_planes(image), STYLE_PLANES):
            plane, _ = cleaned(take_channels(_plane_at(image, index), chosen))
            limits = percentiles(plane, Normalisation())
            if is_flat(*limits[0]) or is_blank(plane[0]):
                continue
            scaled = normalise(plane, limits)
            if zoom != 1:
                scaled = resize(scaled, scaled_shape((plane.shape[1], plane.shape[2]), zoom))
            prepared = with_channels(scaled, network.config.channels)
            total += style_of_plane(prepared, network, params)
        length = float(np.linalg.norm(total))
        return total / np.float32(length) if length else None

    def _told(self, found: StyleChoice) -> tuple[Mapping[str, Any], ...]:  # Any: JSON
        return tuple(
            {
                "image": self.card.images[neighbour.index],
                "cluster": self.card.clusters[neighbour.cluster].name,
                "distance": round(neighbour.distance, 4),
            }
            for neighbour in found.neighbours
        )


def ready_model(place: ModelPlace, device: torch.device) -> Model:
    """Load a model onto a device.

    Raises
    ------
    WeightsError
        When its files are not those of its card.
    """
    network = load_model(place)
    optimised(network, device)
    return Model(network, place.card, style_facts_of(place))


def ready_chooser(place: ClassifierPlace, load: Callable[[ModelPlace], Model]) -> Chooser:
    """Load a classifier and its style network; the other models are loaded when first chosen.

    Parameters
    ----------
    place : ClassifierPlace
    load : callable
        Gives the model at a place; it may keep those it gave.
    """
    places = place.models()
    return Chooser(
        card=place.card,
        classifier=load_classifier(place),
        style_model=load(places[place.card.style_model]),
        load=lambda name: load(places[name]),
    )


def ready_either(place: ModelPlace | ClassifierPlace, device: torch.device) -> Model | Chooser:
    """Load a model, or a classifier that keeps every model it chooses."""
    if not isinstance(place, ClassifierPlace):
        return ready_model(place, device)
    kept: dict[str, Model] = {}

    def load(model: ModelPlace) -> Model:
        if model.card.sha256 not in kept:
            kept[model.card.sha256] = ready_model(model, device)
        return kept[model.card.sha256]

    return ready_chooser(place, load)


def channels_for(
    image: Planes, card: ModelCard, choice: ChannelChoice
) -> tuple[tuple[Channel, ...], list[str]]:
    """Return the channels to feed and what to tell about them.

    A model trained without a nuclear channel is never fed one: its first normalisation would
    amplify it beyond all measure.
    """
    names = image.info.channels or ("",) * image.shape[3]
    chosen = choose_channels(choice.cell, choice.nucleus, names, is_rgb=image.is_rgb)
    notes = []
    if chosen[0].index == GREY and _has_colours(image):
        notes = ["a colour picture, read in grey (if its channels are z planes: axes: ZYX)"]
    if len(chosen) > 1 and not card.has_nucleus:
        left_out = chosen[1].name or f"channel {chosen[1].index}"
        note = f"model '{card.id}' was trained without a nucleus channel; {left_out} is not used"
        return chosen[:1], [*notes, note]
    return chosen, notes


def _has_colours(image: Planes) -> bool:
    first = image.plane(0, 0, 0)
    return bool((first[:3] != first[:1]).any())


def _plane_at(image: Planes, index: int) -> NDArray[np.generic]:
    position, t, z = (int(n) for n in np.unravel_index(index, image.shape[:3]))
    return image.plane(position, t, z)


def spread(length: int, most: int) -> list[int]:
    """Return the indices of at most `most` items, evenly spread over `length`.

    Examples
    --------
    >>> spread(3, 5), spread(100, 4)
    ([0, 1, 2], [12, 37, 62, 87])
    """
    if length <= most:
        return list(range(length))
    return [int((n + 0.5) * length / most) for n in range(most)]
