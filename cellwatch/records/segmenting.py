"""The facts of segmenting: images, choices, jobs and outcomes.

Everything here turns into JSON and back: jobs and outcomes cross the pipe between the supervisor
and its workers.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal, NewType

from cellwatch.records.images import ChannelChoice, ImageInfo

AcquisitionId = NewType("AcquisitionId", int)
ModelId = NewType("ModelId", str)
# The key of the confidence in provenance; stores of before have one that left the flows out.
CONFIDENCE = "confidence_of_flows"


class AcquisitionState(StrEnum):
    """The state of an acquisition."""

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
    SURROUNDINGS = "surroundings"  # disk or device: tried again, and the attempt is not added
    DEVICE = "device"  # the GPU, which a training may hold: as SURROUNDINGS
    MEMORY = "memory"  # it ran out in the worker, which lives: as if the worker had died
    UNWRITTEN = (
        "unwritten"  # all pixels are 0: perhaps the file is allocated and still to be filled
    )
    OTHER = "other"  # tried again a few times


class DaemonState(StrEnum):
    """The state of the daemon."""

    RUNNING = "running"
    PAUSED = "paused"
    DEGRADED = "degraded"
    STOPPED = "stopped"
    DEAD = "dead"


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
    novelty : float or None
        How far the style is from those of the cluster, in units of their reach; None: not known.
    instead_of : str
        The model of the cluster, where another segmented; "": it did.
    why : str
        What was compared, where the choice was in doubt; "": it was not.
    is_usual : bool
        Whether the style is as near to those of the cluster as most of these are to each other.
    """

    classifier: str
    classifier_sha256: str
    cluster: str
    neighbours: tuple[Mapping[str, Any], ...] = ()  # Any: JSON
    novelty: float | None = None
    instead_of: str = ""
    why: str = ""
    is_usual: bool = True


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
        Further formats beside the store: "tif", "csv", "parquet".
    root : str
        The watched folder; "": there is none.
    are_zeros_final : bool
        Whether pixels that are all 0 are the image, and not a file that is still to be filled.
    compared_with : str
        The sha256 of the content whose masks are valid: with the same content nothing is done.
    is_alone : bool
        Whether no other job may be begun before this one's outcome is recorded.
    former_store : str
        Where the masks lie of an image that was renamed or moved; "": it was not.
    twin : str
        The mask store of a file of another name that has the same content; "": there is none.
    has_preview : bool
        Whether a small picture of the result is written beside the store.
    ome_zarr : str
        The version of OME-Zarr in which the store is written: 0.5 or 0.4.
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
    root: str = ""
    are_zeros_final: bool = True
    compared_with: str = ""
    is_alone: bool = False
    former_store: str = ""
    twin: str = ""
    has_preview: bool = False
    ome_zarr: Literal["0.5", "0.4"] = "0.5"

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
        An object that was joined over z planes is one; of planes that were not joined it is
        the sum.
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
        As `core.confidence` has it, mean over the planes by how much is in each, 0 to 1; None:
        there are no ROIs.
    planes_apart : int
        Over how many planes `rois` is a sum; 0: it is none.
    precision : str
        In which the network computed; "": not known.
    labels_sha256 : str
        Of the label image; "": it lies in no mask store.
    sharpness, background : float or None
        Of the middle plane's channel with the ROIs, as `core.quality` has them; None: not known.
    median_area : float or None, px
        Of the ROIs of all planes; None: there are none, or it is not known, as the next two.
    covered : float or None
        The share of all pixels that lies in ROIs, 0 to 1.
    intensity : float or None
        Mean over the pixels of ROIs of the first channel fed.
    pixel_size_um : float or None
        That was used: declared, or the file's.
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
    planes_apart: int = 0
    precision: str = ""
    labels_sha256: str = ""
    sharpness: float | None = None
    background: float | None = None
    median_area: float | None = None
    covered: float | None = None
    intensity: float | None = None
    pixel_size_um: float | None = None

    @property
    def counted(self) -> str:
        """Return the number of ROIs as people are told it.

        Examples
        --------
        >>> TargetResult("cells", 322, 30.0, planes_apart=32).counted
        '322 cells in 32 planes, not joined'
        """
        apart = f" in {self.planes_apart} planes, not joined" if self.planes_apart else ""
        return f"{self.rois} {self.name}{apart}"

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
    info : ImageInfo or None
        Of the image as it was read: its metadata may have come since it was taken in.
    is_unchanged : bool
        Whether the file holds what its masks were made of, so that nothing was done.
    copied_from : str
        The image of the same content whose masks these are, as ledger text; "": they are its own.
    """

    acquisition_id: int
    reason: str = ""
    trouble: Trouble = Trouble.NONE
    planes: int = 0
    content_sha256: str = ""
    targets: tuple[TargetResult, ...] = ()
    seconds: float = 0.0
    info: ImageInfo | None = None
    is_unchanged: bool = False
    copied_from: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Outcome":
        """Read what `to_json` wrote."""
        results = tuple(TargetResult.from_json(target) for target in data["targets"])
        info = ImageInfo.from_json(data["info"]) if data.get("info") else None
        changes = {"targets": results, "trouble": Trouble(data["trouble"]), "info": info}
        return cls(**{**data, **changes})
