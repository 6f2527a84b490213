"""What the gate decides by: a rule, the images that tell, and the numbers that they give.

References
----------
The paired bootstrap resamples images and, within each, its ROIs (Efron & Tibshirani 1993, ch. 8).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellwatch.core.arrays import Float64
from cellwatch.training.contradictions import Fit, Missed, not_learned
from cellwatch.training.findings import Found, PairedImage, mean_of

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class PromotionRule:
    """When a candidate is promoted; every number that the gate compares with.

    Attributes
    ----------
    margin : float, AP@0.5
        The interval of the mean difference must not reach below minus this.
    folder_margin : float, AP@0.5
        No watched folder of the group may lose more than this on average.
    earlier_margin : float, AP@0.5
        Nor may the images of earlier nights: what was learned is not to be spoilt.
    missed_below : float
        A new image is missed when the candidate, which was trained on it, has less than so many
        times the AP@0.5 of the hardest earlier images there.
    least_gain : float, AP@0.5
        What new images must gain, unseen, when most of them are missed.
    image_margin : float, AP@0.5
        With little evidence no single image may lose more than this.
    enough_images : int
        Fewer unseen images on which either is right about anything are little evidence.
    slower : float
        The candidate may take so many times as long, or it must gain `worth_slower`.
    worth_slower : float, AP@0.5
        What a candidate must gain that takes longer: one that learned how large the cells are
        enlarges the image, and takes longer because it is right.
    enough_earlier : int
        Images of earlier nights that tell whether something was spoilt.
    few_to_judge : int
        With fewer, each network that judges has seen one image of them at the most: a loss on them
        misleads.
    """

    margin: float = 0.02
    folder_margin: float = 0.03
    earlier_margin: float = 0.05
    missed_below: float = 0.5
    least_gain: float = 0.05
    image_margin: float = 0.05
    enough_images: int = 5
    slower: float = 1.5
    enough_earlier: int = 2
    few_to_judge: int = 3
    worth_slower: float = 0.05


@dataclass(frozen=True, slots=True)
class SmokeTest:
    """What must hold of any network before its scores are looked at.

    Attributes
    ----------
    problems : tuple of str
        Empty when nothing is wrong.
    times_as_long : float
        As the model in use; 1 where it cannot be told.
    """

    problems: tuple[str, ...] = ()
    times_as_long: float = 1.0


@dataclass(frozen=True, slots=True)
class GateEvidence:
    """All that a decision rests on.

    Attributes
    ----------
    smoke : SmokeTest
    images : tuple of PairedImage
        On which either network is right about anything.
    n_silent : int
        Images on which neither is.
    fits : tuple of Fit
        What the candidate finds where it was trained.
    missed : tuple of Missed
        By watched folder, the new images among them that it did not learn.
    numbers : mapping
        JSON; empty where no image tells.
    """

    smoke: SmokeTest
    images: tuple[PairedImage, ...]
    n_silent: int
    fits: tuple[Fit, ...]
    missed: tuple[Missed, ...]
    numbers: Mapping[str, Any]  # Any: JSON

    @classmethod
    def of(
        cls,
        images: Sequence[PairedImage],
        smoke: SmokeTest,
        rule: PromotionRule,
        fits: Sequence[Fit] = (),
        seed: int = 0,
    ) -> "GateEvidence":
        """Gather it, with the arguments of `decide`."""
        telling = [image for image in images if image.is_telling]
        silent = count(images) - count(telling)
        missed = not_learned(fits, rule.missed_below)
        odd = [fit for folder in missed for fit in folder.fits]
        numbers: dict[str, Any] = {"silent": silent}  # Any: JSON
        if telling:
            listed = [[fit.name, round(fit.average_precision, 4)] for fit in odd]
            numbers = {**numbers_of(telling, seed), "silent": silent, "not_learned": listed}
        return cls(smoke, tuple(telling), silent, tuple(fits), tuple(missed), numbers)

    @property
    def gain(self) -> float:
        """Return by how much the candidate is better, in AP@0.5."""
        return float(self.numbers["gain"])

    @property
    def odd(self) -> list[Fit]:
        """Return the parts of the images that it did not learn."""
        return [fit for folder in self.missed for fit in folder.fits]

    @property
    def told(self) -> str:
        """Return the numbers in a sentence."""
        told = (
            f"AP@0.5 {self.numbers['candidate']:.3f} against {self.numbers['incumbent']:.3f} "
            f"on {n_images(self.numbers['images'], 'unseen')}"
        )
        silent = self.n_silent
        more = f"{silent} more ignored: neither model is right about anything there"
        return f"{told} ({more})" if silent else told


def numbers_of(images: Sequence[PairedImage], seed: int) -> dict[str, Any]:  # Any: JSON
    """Return what the images tell together, as the ledger keeps it."""
    by_folder: dict[str, list[PairedImage]] = defaultdict(list)
    for image in images:
        by_folder[image.watch].append(image)
    gains = _resampled_gains(images, np.random.default_rng(seed))
    low, high = np.percentile(gains, [2.5, 97.5])
    earlier = [image for image in images if image.is_earlier]
    return {
        "images": count(images),
        "rois": int(sum(image.candidate.hits.size for image in images)),
        "candidate": mean_of(images, [image.candidate.average_precision for image in images]),
        "incumbent": mean_of(images, [image.incumbent.average_precision for image in images]),
        "gain": mean_of(images, [image.gain for image in images]),
        "interval_95": [round(float(low), 4), round(float(high), 4)],
        "gain_on_earlier": mean_of(earlier, [i.gain for i in earlier]) if earlier else None,
        "gain_by_folder": {
            watch: mean_of(members, [image.gain for image in members])
            for watch, members in sorted(by_folder.items())
        },
        "each": [[image.name, round(image.gain, 4)] for image in images],
    }


def count(images: Sequence[PairedImage]) -> int:
    """Return the number of acquisitions, whose parts are one sample."""
    return len({image.content for image in images})


def n_images(n: int, kind: str) -> str:
    """Return a number of images in words.

    Examples
    --------
    >>> n_images(1, "new"), n_images(2, "unseen")
    ('1 new image', '2 unseen images')
    """
    return f"{n} {kind} image{'s' if n > 1 else ''}"


def _resampled_gains(images: Sequence[PairedImage], rng: np.random.Generator) -> Float64:
    # Both networks are judged by the same drawn images and the same drawn ROIs within them. False
    # ROIs have no partner to be drawn with: their number is drawn as that of a rare event.
    per_image = np.empty((len(images), RESAMPLES))
    for row, image in enumerate(images):
        n = image.candidate.hits.size
        drawn = rng.integers(n, size=(RESAMPLES, n)) if n else np.zeros((RESAMPLES, 0), np.int64)
        per_image[row] = _drawn_ap(image.candidate, drawn, rng) - _drawn_ap(
            image.incumbent, drawn, rng
        )
    contents = list(dict.fromkeys(image.content for image in images))
    owner = np.array([contents.index(image.content) for image in images])
    samples = np.stack([per_image[owner == n].mean(axis=0) for n in range(len(contents))])
    chosen = rng.integers(len(contents), size=(RESAMPLES, len(contents)))
    return np.asarray(samples[chosen, np.arange(RESAMPLES)[:, None]].mean(axis=1), np.float64)


def _drawn_ap(found: Found, drawn: np.ndarray, rng: np.random.Generator) -> Float64:
    hits = found.hits[drawn].sum(axis=1) if drawn.shape[1] else np.zeros(len(drawn))
    total = drawn.shape[1] + rng.poisson(found.false_positives, len(drawn))
    return np.asarray(np.where(total > 0, hits / np.maximum(total, 1), 1.0), np.float64)
