"""What a model, or a classifier that chooses between models, says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of a model.

    Attributes
    ----------
    id : str
    sha256 : str
        Of `weights.safetensors`.
    parent : str or None
        The model it was trained from; None: from scratch.
    data : tuple of mapping
        One entry per set: `set`, `images`, `rois`, `licence`.
    channels : tuple of str
        What the inputs were in training: `("cell",)` or `("cell", "nucleus")`.
    diam_mean, diam_labels : float, px
    recipe : mapping
        The plan, and how the images were prepared.
    steps : int
    seed : int
    code_version : str
    scores : mapping
        By set and diameter rule.
    styles_sha256 : str
        Of `styles.safetensors`; "": the model has none.
    source : str
        Where a model that was not trained here comes from.
    about : str
        What it is for, in a line.
    """

    id: str
    sha256: str
    diam_mean: float
    diam_labels: float
    parent: str | None = None
    data: tuple[Mapping[str, Any], ...] = ()  # Any: free JSON for people
    channels: tuple[str, ...] = ("cell",)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 0
    seed: int = 0
    code_version: str = ""
    scores: Mapping[str, Any] = field(default_factory=dict)
    styles_sha256: str = ""
    source: str = ""
    about: str = ""

    @property
    def has_nucleus(self) -> bool:
        """Say whether the model was trained with a nuclear channel."""
        return "nucleus" in self.channels


@dataclass(frozen=True, slots=True)
class ClusterCard:
    """One cluster of styles and the model that segments its images.

    Attributes
    ----------
    name : str
        The most common image type in it.
    model : str
        An id in the same zoo, or a built-in one.
    model_sha256 : str
    images : int
    sets : mapping of str to int
        How many images of each image type.
    """

    name: str
    model: str
    model_sha256: str
    images: int = 0
    sets: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClassifierCard:
    """What is known of a classifier that chooses a model by an image's style.

    Attributes
    ----------
    id : str
    sha256 : str
        Of all the rest of this card: two classifiers of one hash choose alike.
    styles_sha256 : str
        Of `classifier.safetensors`.
    style_model : str
        The id of the network that gives the styles.
    style_model_sha256 : str
    clusters : tuple of ClusterCard
    images : tuple of str
        Name of the image behind each known style.
    recipe : mapping
        How the clusters were found.
    scale : "native" or "diameter"
        Whether styles are taken at the images' own scale, or at a scale that brings the diameter
        to the style network's (as the published ones are).
    """

    id: str
    sha256: str
    styles_sha256: str
    style_model: str
    style_model_sha256: str
    clusters: tuple[ClusterCard, ...]
    images: tuple[str, ...]
    recipe: Mapping[str, Any] = field(default_factory=dict)  # Any: free JSON for people
    scale: Literal["native", "diameter"] = "native"
