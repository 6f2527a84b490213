"""The facts of corrections: what is dropped, and what it is found to be.

They cross the pipe to the reader as JSON.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from cellwatch.records.images import ChannelChoice


class CorrectionKind(StrEnum):
    """What a dropped file is."""

    LABELS = "labels"
    REGION = "region"  # the part of an image that a person checked
    SECOND_LOOK = "second_look"  # labels drawn again, mirrored: agreement, no training


class CorrectionState(StrEnum):
    """The state of a correction."""

    REJECTED = "rejected"
    ORPHAN = "orphan"  # its image is not known, or not segmented, yet
    TRAINABLE = "trainable"
    USED = "used"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"

    @property
    def is_active(self) -> bool:
        """Say whether a correction in this state applies to its part."""
        return self in (CorrectionState.TRAINABLE, CorrectionState.USED)


@dataclass(frozen=True, slots=True)
class PlaneIndex:
    """Which plane of an acquisition: position, time point and z, from 0."""

    position: int = 0
    t: int = 0
    z: int = 0


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of a plane, in px: its first row and column, its height and width."""

    y: int
    x: int
    height: int
    width: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Return the rows and columns that it covers."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def is_within(self, other: "Crop") -> bool:
        """Say whether every pixel of it is one of another's."""
        return all(
            theirs.start <= ours.start and ours.stop <= theirs.stop
            for ours, theirs in zip(self.window, other.window, strict=True)
        )

    def is_apart_from(self, other: "Crop") -> bool:
        """Say whether it shares no pixel with another."""
        return any(
            ours.stop <= theirs.start or theirs.stop <= ours.start
            for ours, theirs in zip(self.window, other.window, strict=True)
        )


@dataclass(frozen=True, slots=True)
class CorrectionAsked:
    """A dropped file to be read, with all that the reader needs to know.

    Attributes
    ----------
    path : str
        The dropped file.
    kind : "labels" or "region"
    is_empty : bool
        Whether the name says that nothing is there.
    image, axes : str
        The acquisition's file and its declared axes.
    store, target : str
        Where the prediction lies, and its name there.
    channels : ChannelChoice
    plane : PlaneIndex
    crop : Crop or None
        None: the whole plane.
    is_mirrored : bool
        Whether the person was handed the image mirrored in both axes.
    keep : str
        The folder that receives the original and the arrays.
    region : str
        The folder of the region that a person checked; "": all of it.
    other : str
        The folder of another look at the same part, to measure how well the two agree; "": none.
    handed_out : str
        The label TIFF that the person was given, of a session; "": the prediction in the store.
    normalise : mapping
        JSON of how the station scales intensities; empty: the default.
    image_size : int, bytes
    image_mtime_ns : int
    image_sha256 : str
        Of the acquisition when it was segmented: what lies there now must be the same.
    plane_sha256 : str
        Of the plane that was handed out, where the file was rewritten since; "": it was not.
    given_sha256 : tuple of str
        Of the labels that were ever handed out for this part, as `labels_digest` gives them.
    is_confirmed : bool
        Whether a person said that it is right as it is, in spite of doubts.
    """

    path: str
    kind: str
    is_empty: bool
    image: str
    axes: str
    store: str
    target: str
    channels: ChannelChoice
    plane: PlaneIndex
    crop: Crop | None
    is_mirrored: bool
    keep: str
    region: str = ""
    other: str = ""
    handed_out: str = ""
    normalise: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    image_size: int = 0
    image_mtime_ns: int = 0
    image_sha256: str = ""
    plane_sha256: str = ""
    given_sha256: tuple[str, ...] = ()
    is_confirmed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "CorrectionAsked":
        """Read what `to_json` wrote."""
        return cls(
            **{
                **data,
                "channels": ChannelChoice(**data["channels"]),
                "plane": PlaneIndex(**data["plane"]),
                "crop": Crop(**data["crop"]) if data["crop"] else None,
                "given_sha256": tuple(data.get("given_sha256", ())),
            }
        )


@dataclass(frozen=True, slots=True)
class CorrectionRead:
    """What a dropped file was found to be.

    Attributes
    ----------
    reason, remedy : str
        Why it is rejected and what to do; "" when it is not.
    format : str
    sha256 : str
        Of the dropped bytes.
    content_key : str
        Digest of the acquisition's pixels: the same under any name.
    rois, predicted : int
        Of the correction and of the prediction, within what was checked.
    added, removed, changed : int
        ROIs, against the prediction.
    true_positives, false_positives, false_negatives : int
        Of the prediction against the correction, at IoU 0.5.
    agreement : float or None
        AP@0.5 with another look at the same part; None: there is none.
    notes : tuple of str
        What was put right or should be looked at.
    is_in_region : bool
        Whether only a region that a person checked was read.
    is_blocked : bool
        Whether the reason is not the file's: a full disk, say. It is read again later.
    is_doubtful : bool
        Whether it is rejected for a doubt alone: it is taken when a person confirms it.
    is_untouched : bool
        Whether the doubt is that it holds what was handed out, to the pixel.
    """

    reason: str = ""
    remedy: str = ""
    format: str = ""
    sha256: str = ""
    content_key: str = ""
    rois: int = 0
    predicted: int = 0
    added: int = 0
    removed: int = 0
    changed: int = 0
    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    agreement: float | None = None
    notes: tuple[str, ...] = ()
    is_in_region: bool = False
    is_blocked: bool = False
    is_doubtful: bool = False
    is_untouched: bool = False

    @property
    def average_precision(self) -> float:
        """Return TP / (TP + FP + FN) of the prediction at IoU 0.5; 1 when both are empty."""
        total = self.true_positives + self.false_positives + self.false_negatives
        return self.true_positives / total if total else 1.0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "CorrectionRead":
        """Read what `to_json` wrote."""
        return cls(**{**data, "notes": tuple(data["notes"])})
