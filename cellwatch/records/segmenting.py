"""The facts of segmenting: images, models, jobs and outcomes.

Everything here turns into JSON and back: jobs and outcomes cross the pipe between the supervisor
and its workers.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal, NewType

AcquisitionId = NewType("AcquisitionId", int)
ModelId = NewType("ModelId", str)


class AcquisitionState(StrEnum):
    """Where an acquisition stands."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    INTERRUPTED = "interrupted"
    BLOCKED = "blocked"
    SKIPPED = "skipped"
    MISSING = "missing"


class Trouble(StrEnum):
    """What is at fault when a job has no masks, and so what is done about it."""

    NONE = ""
    FILE = "file"  # the image itself: not tried again until it changes
    MISSING = "missing"  # the image is gone
    SURROUNDINGS = "surroundings"  # disk or device: tried again, the attempt does not count
    OTHER = "other"  # tried again a few times


class DaemonState(StrEnum):
    """Where the daemon stands."""

    RUNNING = "running"
    PAUSED = "paused"
    DEGRADED = "degraded"
    STOPPED = "stopped"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class ChannelChoice:
    """Which channels of a file the network is fed.

    Attributes
    ----------
    cell : str or int or None
        Name (case does not matter, globs allowed) or index from 0 of the channel that holds the
        ROIs; None: the only channel, or the grey mean of RGB.
    nucleus : str or int or None
        The second channel; None: none.
    """

    cell: str | int | None = None
    nucleus: str | int | None = None


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a file says of itself, known without reading pixels.

    Attributes
    ----------
    path : str
    format : str
        `ome-tiff`, `imagej`, `tiff` or `png`.
    axes : str
        Letters of `shape`, from P (position), T, Z, C, Y, X and S (RGB samples).
    shape : tuple of int
    dtype : str
    pixel_size_um : float or None
        None: the file does not say.
    channels : tuple of str
        Names, or "" where a channel has none.
    whole : bool
        Whether the file is structurally complete.
    reason : str
        Why it is not whole, or cannot be used.
    """

    path: str
    format: str = ""
    axes: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = ""
    pixel_size_um: float | None = None
    channels: tuple[str, ...] = ()
    whole: bool = True
    reason: str = ""


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


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model a classifier chose for an acquisition, and why.

    Attributes
    ----------
    classifier : str
    classifier_sha256 : str
    cluster : str
    neighbours : tuple of mapping
        Of the five nearest known styles: `image`, `cluster`, `distance`.
    """

    classifier: str
    classifier_sha256: str
    cluster: str
    neighbours: tuple[Mapping[str, Any], ...] = ()  # Any: JSON


@dataclass(frozen=True, slots=True)
class TargetJob:
    """One thing to segment in an acquisition, with everything the worker needs.

    Attributes
    ----------
    name : str
        Also the name of the label image.
    model_id : str
    model_folder : str
    model_sha256 : str
    channels : ChannelChoice
    params : mapping
        `SegmentationParams` as JSON (see its `to_json`).
    """

    name: str
    model_id: str
    model_folder: str
    model_sha256: str
    channels: ChannelChoice
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """One acquisition to segment; a worker needs nothing else and never opens the ledger.

    Attributes
    ----------
    acquisition_id : int
    path : str
    fingerprint : str
        Of the content as the intake saw it; the worker refuses another.
    store : str
        Where the mask store goes.
    targets : tuple of TargetJob
    axes : str
        Declared for the folder; "": the file's own.
    pixel_size_um : float or None
        Declared for the folder; None: the file's own.
    include_image : bool
    also : tuple of str
        Further formats beside the store: "tif".
    """

    acquisition_id: int
    path: str
    fingerprint: str
    store: str
    targets: tuple[TargetJob, ...]
    axes: str = ""
    pixel_size_um: float | None = None
    include_image: bool = True
    also: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the job as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Job":
        """Read what `to_json` wrote."""
        targets = tuple(
            TargetJob(**{**t, "channels": ChannelChoice(**t["channels"])}) for t in data["targets"]
        )
        return cls(**{**data, "targets": targets, "also": tuple(data["also"])})


@dataclass(frozen=True, slots=True)
class TargetResult:
    """What segmenting one target gave.

    Attributes
    ----------
    name : str
    rois : int
        Over all planes.
    diameter : float, px
        Median over the planes of the diameter used.
    channels : tuple of mapping
        Index and name of each channel fed.
    notes : tuple of str
    model_id, model_sha256 : str
        Of the model that made the label image.
    novelty : float or None
        How far the style is from the model's training images; up to 1: like them. None: the model
        does not know their styles, or nothing was segmented.
    choice : ModelChoice or None
        None: the configuration names the model.
    confidence : float or None
        Mean over the ROIs of all planes, 0 to 1; None: there are none.
    """

    name: str
    rois: int
    diameter: float
    channels: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    model_id: str = ""
    model_sha256: str = ""
    novelty: float | None = None
    choice: ModelChoice | None = None
    confidence: float | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TargetResult":  # Any: JSON
        """Read what `asdict` gave."""
        choice = data["choice"]
        if choice:
            choice = ModelChoice(**{**choice, "neighbours": tuple(choice["neighbours"])})
        lists = {"channels": tuple(data["channels"]), "notes": tuple(data["notes"])}
        return cls(**{**data, **lists, "choice": choice})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    Attributes
    ----------
    acquisition_id : int
    reason : str
        Why it failed; "" when it did not.
    trouble : Trouble
        What is at fault.
    planes : int
    content_sha256 : str
        Of the source file, read whole.
    targets : tuple of TargetResult
    seconds : float
    """

    acquisition_id: int
    reason: str = ""
    trouble: Trouble = Trouble.NONE
    planes: int = 0
    content_sha256: str = ""
    targets: tuple[TargetResult, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Outcome":
        """Read what `to_json` wrote."""
        results = tuple(TargetResult.from_json(target) for target in data["targets"])
        return cls(**{**data, "targets": results, "trouble": Trouble(data["trouble"])})
