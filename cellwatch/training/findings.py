"""What the candidate and the model in use found on images that neither was trained on."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cellwatch.core.arrays import Bool

NAMED = 3  # images that a reason names


@dataclass(frozen=True, slots=True)
class Found:
    """What one network found on one image.

    Attributes
    ----------
    hits : (n,) bool
        Of each true ROI, whether it was found at IoU 0.5.
    false_positives : int
    """

    hits: Bool
    false_positives: int

    @property
    def average_precision(self) -> float:
        """Return TP / (TP + FP + FN); 1 when nothing was there and nothing was found."""
        total = self.hits.size + self.false_positives
        return float(self.hits.sum() / total) if total else 1.0


@dataclass(frozen=True, slots=True)
class PairedImage:
    """An image that neither network was trained on, and what each found there.

    Attributes
    ----------
    name, watch : str
    content : str
        Of the acquisition: planes and crops of one are one sample, whatever their number.
    candidate, incumbent : Found
        Or what networks of their nights that left the image out found there.
    is_earlier : bool
        Whether the incumbent was trained on it.
    is_held_out : bool
        Whether no network of the group is ever trained on it.
    """

    name: str
    watch: str
    content: str
    candidate: Found
    incumbent: Found
    is_earlier: bool = False
    is_held_out: bool = False

    @property
    def gain(self) -> float:
        """Return by how much the candidate is better, in AP@0.5."""
        return self.candidate.average_precision - self.incumbent.average_precision

    @property
    def is_telling(self) -> bool:
        """Say whether either is right about anything there: else it cannot tell which is better."""
        return self.candidate.average_precision > 0 or self.incumbent.average_precision > 0


class Named(Protocol):
    """A part of an acquisition that has a name."""

    @property
    def name(self) -> str: ...
    @property
    def content(self) -> str: ...


def by_content(images: Sequence[Named], values: Sequence[float]) -> dict[str, float]:
    """Return one value for each acquisition, whose parts are one sample: their mean."""
    parts: dict[str, list[float]] = defaultdict(list)
    for image, value in zip(images, values, strict=True):
        parts[image.content].append(value)
    return {content: float(np.mean(each)) for content, each in parts.items()}


def mean_of(images: Sequence[Named], values: Sequence[float]) -> float:
    """Return the mean over acquisitions, rounded to four places."""
    return round(float(np.mean(list(by_content(images, values).values()))), 4)


def named(images: Sequence[Named]) -> str:
    """Return the first few names, one of each acquisition, for a person to look at."""
    first: dict[str, str] = {}
    for image in images:
        first.setdefault(image.content, image.name)
    return ", ".join(f"'{name}'" for name in list(first.values())[:NAMED])
