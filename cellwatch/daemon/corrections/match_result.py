"""What matching a dropped file to an image gives: the part it is of, or why there is none."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cellwatch.core.parameters import Normalisation
from cellwatch.records import ChannelChoice, CorrectionKind, Crop, PlaneIndex
from cellwatch.storage.ledger import dropped_files

LISTED = 5
TAKE_NEW = "take the new image out and correct that"


@dataclass(frozen=True, slots=True)
class Matched:
    """The acquisition, target and part that a dropped file is a correction of.

    Attributes
    ----------
    acquisition_id : int
    image, axes, store : str
    target, group, annotator : str
    channels : ChannelChoice
    normalise : Normalisation
    plane : PlaneIndex
    crop : Crop or None
    checkout_id : int or None
    is_mirrored : bool
    handed_out : str
        The label TIFF that the person was given; "": the labels of the store.
    content : mapping
        Size, time and sha256 of the image's file, as it was segmented.
    plane_sha256 : str
        Of the plane that was handed out before its file was rewritten; "": it was not.
    given_sha256 : tuple of str
        Of the labels that were handed out for this part.
    note : str
        What the person should know of the choice; "": nothing.
    """

    acquisition_id: int
    image: str
    axes: str
    store: str
    target: str
    group: str
    annotator: str
    channels: ChannelChoice
    normalise: Normalisation
    plane: PlaneIndex
    crop: Crop | None
    checkout_id: int | None
    is_mirrored: bool
    handed_out: str = ""
    content: Mapping[str, Any] = field(default_factory=dict)  # Any: values of a row
    plane_sha256: str = ""
    given_sha256: tuple[str, ...] = ()
    note: str = ""

    def on(self, drop: dropped_files.Drop, keep: str) -> dropped_files.Drop:
        """Return a drop with all that was found out about it."""
        return replace(
            drop,
            acquisition_id=self.acquisition_id,
            target=self.target,
            group=self.group,
            plane=self.plane,
            crop=self.crop,
            annotator=self.annotator,
            checkout_id=self.checkout_id,
            kind=self._kind_of(drop),
            folder=keep,
        )

    def _kind_of(self, drop: dropped_files.Drop) -> CorrectionKind:
        is_labels = drop.kind == CorrectionKind.LABELS
        return CorrectionKind.SECOND_LOOK if self.is_mirrored and is_labels else drop.kind


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Why a dropped file belongs to nothing.

    Attributes
    ----------
    reason, remedy : str
    is_waiting : bool
        Whether the image may still come.
    """

    reason: str
    remedy: str = ""
    is_waiting: bool = False


def cut_short(target: str) -> str:
    """Return a text that fits into a message."""
    is_crop = re.fullmatch(r"(?:[yxhw]\d+)+", target) is not None
    return " (a crop says four numbers: y, x, h, w)" if is_crop else ""


def overwritten(path: str) -> str:
    """Return the reason for which a correction of what a file held before is refused."""
    return f"'{path}' was overwritten: this is a correction of what it held before"
