"""The gate: is the candidate to replace the model in use? Decided by images that neither has seen.

References
----------
The paper has no gate; the paired bootstrap resamples images and, within each, its ROIs (Efron &
Tibshirani 1993, chapter 8).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cellwatch.core.arrays import Bool, Float64
from cellwatch.records import Verdict

RESAMPLES = 2000
EARLIER_ENOUGH = 2  # images of earlier nights that tell whether something was spoilt
SUSPECTS = 3  # corrections that are named
TELLING_ROIS = 3  # an image with fewer is found or missed as a whole
FEW_TO_JUDGE = 3  # with fewer, each network that judges has seen one image of them at the most


@dataclass(frozen=True, slots=True)
class PromotionRule:
    """When a candidate is promoted.

    Attributes
    ----------
    margin : float, AP@0.5
        The interval of the mean difference must not reach below minus this.
    folder_margin : float, AP@0.5
        No watched folder of the group may lose more than this on average.
    earlier_margin : float, AP@0.5
        Nor may the images of earlier nights: what was learned is not to be spoilt.
    far_worse : float
        A new image is missed when the network that was trained on it has less than so many times
        the AP@0.5 of the hardest earlier images there.
    least_gain : float, AP@0.5
        What missed images must gain where they are most of the new ones.
    image_margin : float, AP@0.5
        With little evidence no single image may lose more than this.
    enough_images : int
        Fewer unseen images on which either is right about anything are little evidence.
    slower : float
        The candidate may take so many times as long.
    """

    margin: float = 0.02
    folder_margin: float = 0.03
    earlier_margin: float = 0.05
    far_worse: float = 0.5
    least_gain: float = 0.02
    image_margin: float = 0.05
    enough_images: int = 5
    slower: float = 1.5


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
    trained : Found or None
        What the candidate itself found, which was trained on it: no score, but it tells what cannot
        be learned. None: it was not trained on it, or the image is an earlier one.
    """

    name: str
    watch: str
    content: str
    candidate: Found
    incumbent: Found
    is_earlier: bool = False
    trained: Found | None = None

    @property
    def gain(self) -> float:
        """Return by how much the candidate is better, in AP@0.5."""
        return self.candidate.average_precision - self.incumbent.average_precision

    @property
    def is_telling(self) -> bool:
        """Say whether either is right about anything there: else it cannot tell which is better."""
        return self.candidate.average_precision > 0 or self.incumbent.average_precision > 0


@dataclass(frozen=True, slots=True)
class SmokeTest:
    """What must hold of any network before its scores are looked at.

    Attributes
    ----------
    problems : tuple of str
        Empty when all is well.
    """

    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GateDecision:
    """What the gate says, why, and by what numbers."""

    verdict: Verdict
    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON


def decide(
    images: Sequence[PairedImage], smoke: SmokeTest, rule: PromotionRule, seed: int = 0
) -> GateDecision:
    """Decide whether a candidate replaces the incumbent.

    Parameters
    ----------
    images : sequence of PairedImage
        All of them unseen by both networks.
    smoke : SmokeTest
    rule : PromotionRule
    seed : int
        Of the resampling.
    """
    if smoke.problems:
        return GateDecision(Verdict.DECLINED, f"it failed the smoke test: {smoke.problems[0]}")
    if not images:
        return GateDecision(
            Verdict.INCONCLUSIVE,
            "there was no corrected image that neither model was trained on when it began; "
            "correct an image that is new to both",
        )
    numbers = _numbers(images, seed)
    told = (
        f"AP@0.5 {numbers['candidate']:.3f} against {numbers['incumbent']:.3f} "
        f"on {_images(numbers['images'], 'unseen')}"
    )
    if spoilt := _spoilt(images, rule):
        return GateDecision(Verdict.DECLINED, f"{told}, but {spoilt}", numbers)
    if numbers["telling"] < rule.enough_images:
        return _with_little(images, rule, numbers, told)
    return _with_enough(images, rule, numbers, told)


def judge_provisional(images: Sequence[PairedImage]) -> GateDecision | None:
    """Confirm or revoke a model that was promoted on little evidence, by what has come since.

    Parameters
    ----------
    images : sequence of PairedImage
        The provisional model as the candidate, its predecessor as the incumbent.

    Returns
    -------
    GateDecision or None
        None: nothing new has come, or only images where neither finds anything right.
    """
    images = [image for image in images if image.is_telling]
    if not images:
        return None
    numbers = _numbers(images, 0)
    told = (
        f"AP@0.5 {numbers['candidate']:.3f} against its predecessor's {numbers['incumbent']:.3f} "
        f"on {_images(numbers['images'], 'new')}"
    )
    verdict = Verdict.CONFIRMED if numbers["gain"] >= 0 else Verdict.REVOKED
    return GateDecision(verdict, told, numbers)


def _with_enough(
    images: Sequence[PairedImage], rule: PromotionRule, numbers: dict[str, Any], told: str
) -> GateDecision:
    gain = numbers["gain"]
    if worst := _worst_folder(numbers, rule):
        but = "and" if gain < 0 else "but"
        return GateDecision(Verdict.DECLINED, f"{told}, {but} {worst}{_where(numbers)}", numbers)
    odd = _unlearned(images, rule)
    numbers["not_learned"] = [image.name for image in odd]
    if contradiction := _not_learned(images, odd, rule):
        return GateDecision(Verdict.DECLINED, f"{told}, but {contradiction}", numbers)
    low, high = numbers["interval_95"]
    if gain >= 0 and low >= -rule.margin:
        hint = f"; look at the corrections of {_named(odd)}, which are not learned" if odd else ""
        return GateDecision(Verdict.PROMOTED, f"{told}{hint}", numbers)
    if gain < 0:
        return GateDecision(Verdict.DECLINED, f"{told}: it is worse{_where(numbers)}", numbers)
    missing = rule.enough_images
    return GateDecision(
        Verdict.INCONCLUSIVE,
        f"{told}, but the gain may lie anywhere from {low:+.3f} to {high:+.3f}; "
        f"correct about {missing} more images that are new",
        numbers,
    )


def _spoilt(images: Sequence[PairedImage], rule: PromotionRule) -> str:
    earlier = [image for image in images if image.is_earlier]
    gains = list(_by_content(earlier, [image.gain for image in earlier]).values())
    if len(gains) < EARLIER_ENOUGH or np.mean(gains) >= -rule.earlier_margin:
        return ""
    return f"images of earlier nights lose {-np.mean(gains):.3f}{_suspects(images)}"


def _unlearned(images: Sequence[PairedImage], rule: PromotionRule) -> list[PairedImage]:
    # A new kind of cell is at least fitted where it was trained on. What is not even then, while
    # the hardest of the folder's earlier images are, contradicts them or is no such thing.
    found = []
    telling = [image for image in images if image.candidate.hits.size >= TELLING_ROIS]
    for watch in sorted({image.watch for image in telling}):
        here = [image for image in telling if image.watch == watch]
        earlier = [image for image in here if image.is_earlier]
        known = _by_content(earlier, [image.candidate.average_precision for image in earlier])
        if len(known) >= EARLIER_ENOUGH:
            bar = rule.far_worse * float(np.mean(sorted(known.values())[:EARLIER_ENOUGH]))
            found += [image for image in here if (fit := _best(image)) is not None and fit < bar]
    return found


def _best(image: PairedImage) -> float | None:
    if image.trained is None:
        return None
    return max(image.trained.average_precision, image.candidate.average_precision)


def _not_learned(
    images: Sequence[PairedImage], odd: Sequence[PairedImage], rule: PromotionRule
) -> str:
    fresh = {
        image.content
        for image in images
        if image.trained is not None and image.candidate.hits.size >= TELLING_ROIS
    }
    missed = len({image.content for image in odd})
    if missed < FEW_TO_JUDGE or 2 * missed <= len(fresh):
        return ""
    if _mean(odd, [image.gain for image in odd]) >= rule.least_gain:
        return ""
    fit = _mean(odd, [image.trained.average_precision for image in odd if image.trained])
    return (
        f"{missed} of {len(fresh)} new images are missed even by the network that was trained on "
        f"them (AP@0.5 {fit:.3f}): their corrections contradict the earlier ones, or show "
        f"something much harder; look at those of {_named(odd)}, and if they are right, correct "
        "more like them"
    )


def _named(images: Sequence[PairedImage]) -> str:
    names = {image.content: image.name for image in reversed(images)}
    contents = dict.fromkeys(image.content for image in images)
    return ", ".join(f"'{names[content]}'" for content in list(contents)[:SUSPECTS])


def _suspects(images: Sequence[PairedImage]) -> str:
    # Wrong corrections are those that agree least with what served well before. What is held out
    # was not trained on, and has spoilt nothing.
    fresh = sorted(
        (image for image in images if image.trained is not None),
        key=lambda image: image.incumbent.average_precision,
    )
    return f"; look at the corrections of {_named(fresh)}" if fresh else ""


def _with_little(
    images: Sequence[PairedImage], rule: PromotionRule, numbers: dict[str, Any], told: str
) -> GateDecision:
    losers = [image for image in images if image.gain < -rule.image_margin]
    if numbers["gain"] > 0 and not losers:
        return GateDecision(Verdict.PROVISIONAL, f"{told}: little evidence", numbers)
    if numbers["gain"] < 0 and numbers["images"] >= FEW_TO_JUDGE:
        return GateDecision(Verdict.DECLINED, f"{told}: it is worse{_where(numbers)}", numbers)
    missing = rule.enough_images - numbers["telling"]
    if numbers["gain"] < 0:
        missing = FEW_TO_JUDGE - numbers["images"]
        why = "so few images mislead"
    elif losers:
        why = f"'{losers[0].name}' loses {-losers[0].gain:.3f}"
    elif silent := numbers["images"] - numbers["telling"]:
        why = f"on {silent} of them neither finds one of the ROIs, which tells nothing"
    else:
        why = "nothing is gained"
    return GateDecision(
        Verdict.INCONCLUSIVE,
        f"{told}, but {why}; correct {missing} more image{'s' if missing > 1 else ''}",
        numbers,
    )


def _where(numbers: dict[str, Any]) -> str:  # Any: JSON
    # A person looks at the corrections on which most is lost first.
    losses = sorted((gain, name) for name, gain in numbers["each"] if gain < 0)[:SUSPECTS]
    told = ", ".join(f"'{name}' ({gain:+.3f})" for gain, name in losses)
    return f", most on {told}" if told else ""


def _worst_folder(numbers: dict[str, Any], rule: PromotionRule) -> str:  # Any: JSON
    for watch, gain in numbers["gain_by_folder"].items():
        if gain < -rule.folder_margin:
            return f"the folder '{watch}' loses {-gain:.3f}"
    return ""


def _numbers(images: Sequence[PairedImage], seed: int) -> dict[str, Any]:  # Any: JSON
    by_folder: dict[str, list[PairedImage]] = defaultdict(list)
    for image in images:
        by_folder[image.watch].append(image)
    gains = _resampled_gains(images, np.random.default_rng(seed))
    low, high = np.percentile(gains, [2.5, 97.5])
    earlier = [image for image in images if image.is_earlier]
    return {
        "images": len({image.content for image in images}),
        "telling": len({image.content for image in images if image.is_telling}),
        "rois": int(sum(image.candidate.hits.size for image in images)),
        "candidate": _mean(images, [image.candidate.average_precision for image in images]),
        "incumbent": _mean(images, [image.incumbent.average_precision for image in images]),
        "gain": _mean(images, [image.gain for image in images]),
        "interval_95": [round(float(low), 4), round(float(high), 4)],
        "gain_on_earlier": _mean(earlier, [i.gain for i in earlier]) if earlier else None,
        "gain_by_folder": {
            watch: _mean(members, [image.gain for image in members])
            for watch, members in sorted(by_folder.items())
        },
        "each": [[image.name, round(image.gain, 4)] for image in images],
    }


def _by_content(images: Sequence[PairedImage], values: Sequence[float]) -> dict[str, float]:
    # Parts of one acquisition are one sample: their mean.
    parts: dict[str, list[float]] = defaultdict(list)
    for image, value in zip(images, values, strict=True):
        parts[image.content].append(value)
    return {content: float(np.mean(each)) for content, each in parts.items()}


def _mean(images: Sequence[PairedImage], values: Sequence[float]) -> float:
    return round(float(np.mean(list(_by_content(images, values).values()))), 4)


def _images(n: int, kind: str) -> str:
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
