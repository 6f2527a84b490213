"""What a model made of an image, how sure it is of it, and whether another model did better."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellwatch.compute.models import Model
from cellwatch.core.arrays import Float32, Float64, Int32
from cellwatch.core.channels import Channel
from cellwatch.core.confidence import image_confidence, roi_confidences, roi_probabilities
from cellwatch.core.plane_facts import PlaneFacts
from cellwatch.core.segment import Segmentation

NUMBER = re.compile(r"\d+(?:[.]\d+)?")
UNSURE = 0.7  # mean cell probability; below it a chosen model is compared with the general one
# Times as much found. On T98G cells, which it knows less well, the general network finds up to 4.2
# times as much as their specialist; on cytology, which that does not know, 19 times and more.
BY_FAR = 8.0


@dataclass(frozen=True, slots=True)
class ModelResult:
    """What a model made of an image."""

    model: Model
    chosen: Sequence[Channel]
    notes: Sequence[str]
    labels: Int32  # (P, T, Z, Y, X)
    planes: Sequence[PlaneFacts]
    sharpness: float = 0.0  # of the middle plane, as is the background
    background: float = 0.0
    n_unchanged: int = 0  # planes that were taken from the image's former result

    @property
    def confidence(self) -> float | None:
        """Return the mean over its planes, by how much is in each; None: there are no ROIs."""
        areas = [plane.areas.sum() for plane in self.planes]
        if not any(areas):
            return None
        each = [plane.confidence for plane in self.planes]
        return round(float(np.average(each, weights=areas)), 4)

    @property
    def summary(self) -> dict[str, float | None]:
        """Return `median_area`, `covered` and `intensity`, as a `TargetResult` has them."""
        areas = np.concatenate([plane.areas for plane in self.planes])
        inside, size = int(areas.sum()), sum(plane.size for plane in self.planes)
        total = sum(plane.total for plane in self.planes)
        return {
            "median_area": float(np.median(areas)) if areas.size else None,
            "covered": round(inside / size, 6),
            "intensity": float(f"{total / inside:.6g}") if inside else None,
        }

    @property
    def probabilities(self) -> Float64:
        """Return the mean cell probabilities of all ROIs of all planes."""
        return np.concatenate([plane.probabilities for plane in self.planes])

    @property
    def weight(self) -> float:
        """Return how much was found: an ROI of probability 1 weighs 1, one of a half nothing."""
        return float(np.maximum(0.0, 2 * self.probabilities - 1).sum())

    @property
    def weighted_area(self) -> float:
        """Return the pixels of what was found, each ROI's multiplied by its weight."""
        areas = np.concatenate([plane.areas for plane in self.planes])
        return float((np.maximum(0.0, 2 * self.probabilities - 1) * areas).sum())

    def outdoes(self, other: "ModelResult") -> bool:
        """Tell whether this is to be used and not the other: it covers more, or finds far more.

        The number of ROIs alone tells little: a network that does not know the cells finds their
        bright spots, many and small.
        """
        if not self.weight:
            return False
        return self.weighted_area >= other.weighted_area or self.weight > BY_FAR * other.weight

    @property
    def doubt(self) -> str:
        """Return why another model should be asked too; "": nothing in the result speaks for it."""
        each = self.probabilities
        if not each.size:  # but not where the image is constant or nothing but noise
            return "it found nothing" if any(plane.style.any() for plane in self.planes) else ""
        if each.mean() < UNSURE:
            return f"it is not sure of what it found (cell probability {each.mean():.2f})"
        return ""


def facts_of(found: Segmentation, cells: Float32, digest: str = "") -> PlaneFacts:
    """Return what is kept of a plane's segmentation.

    Parameters
    ----------
    found : Segmentation
    cells : (Y, X), any real dtype
        The first channel that was fed.
    digest : str
        Of all channels that were.
    """
    labels, cellprob = found.labels, found.cellprob
    each = roi_confidences(labels, cellprob, found.flows)
    return PlaneFacts(
        found.diameter,
        found.style,
        found.notes,
        roi_probabilities(labels, cellprob),
        each,
        np.bincount(labels.ravel())[1:],
        image_confidence(labels, cellprob, each),
        float(np.nan_to_num(cells[labels > 0], nan=0, posinf=0, neginf=0).sum(dtype=np.float64)),
        labels.size,
        digest,
    )


def notes_of_planes(notes: Sequence[Sequence[str]]) -> list[str]:
    """Return the notes of all planes; those that differ in their numbers alone are told once.

    Examples
    --------
    >>> notes_of_planes([["flat"], [], ["flat"], ["flat"], ["flat"]])
    ['planes 0, 2-4: flat']
    >>> notes_of_planes([["no ROI at 20.1 px"], ["no ROI at 21.4 px"], []])
    ['planes 0-1: no ROI at 20.1 px (numbers of plane 0)']
    >>> notes_of_planes([["flat"]])
    ['flat']
    """
    if len(notes) == 1:
        return list(notes[0])
    alike: dict[str, list[tuple[int, str]]] = {}
    for index, said in enumerate(notes):
        for note in said:
            alike.setdefault(NUMBER.sub("#", note), []).append((index, note))
    lines = []
    for found in alike.values():
        first, note = found[0]
        of_first = f" (numbers of plane {first})" if len({text for _, text in found}) > 1 else ""
        lines.append(f"{_named([index for index, _ in found])}: {note}{of_first}")
    return lines


def _named(indices: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    spans = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return f"plane{'s' if len(indices) > 1 else ''} {', '.join(spans)}"
