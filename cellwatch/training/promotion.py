"""The gate: is the candidate to replace the model in use? Decided by images that neither has seen.

References
----------
The paper has no gate; the paired bootstrap resamples images and, within each, its ROIs (Efron &
Tibshirani 1993, chapter 8).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cellwatch.core.arrays import Float64
from cellwatch.records import Verdict
from cellwatch.training.contradictions import Fit, Missed, not_learned
from cellwatch.training.findings import (
    NAMED,
    Found,
    PairedImage,
    by_content,
    mean_of,
    named,
)

RESAMPLES = 2000
EARLIER_ENOUGH = 2  # images of earlier nights that tell whether something was spoilt
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
        The candidate may take so many times as long.
    """

    margin: float = 0.02
    folder_margin: float = 0.03
    earlier_margin: float = 0.05
    missed_below: float = 0.5
    least_gain: float = 0.05
    image_margin: float = 0.05
    enough_images: int = 5
    slower: float = 1.5


@dataclass(frozen=True, slots=True)
class SmokeTest:
    """What must hold of any network before its scores are looked at.

    Attributes
    ----------
    problems : tuple of str
        Empty when nothing is wrong.
    """

    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GateDecision:
    """What the gate says, why, and by what numbers."""

    verdict: Verdict
    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON


def decide(
    images: Sequence[PairedImage],
    smoke: SmokeTest,
    rule: PromotionRule,
    fits: Sequence[Fit] = (),
    seed: int = 0,
) -> GateDecision:
    """Decide whether a candidate replaces the incumbent.

    Parameters
    ----------
    images : sequence of PairedImage
        All of them unseen by both networks.
    smoke : SmokeTest
    rule : PromotionRule
    fits : sequence of Fit
        What the candidate finds where it was trained: corrections that cannot be learned.
    seed : int
        Of the resampling.
    """
    if smoke.problems:
        return GateDecision(Verdict.DECLINED, f"it failed the smoke test: {smoke.problems[0]}")
    telling = [image for image in images if image.is_telling]
    silent = _count(images) - _count(telling)
    if not telling:
        return GateDecision(Verdict.INCONCLUSIVE, _nothing_told(silent, rule), {"silent": silent})
    missed = not_learned(fits, rule.missed_below)
    odd = [fit for folder in missed for fit in folder.fits]
    numbers = {
        **_numbers(telling, seed),
        "silent": silent,
        "not_learned": [[fit.name, round(fit.average_precision, 4)] for fit in odd],
    }
    told = _told(numbers)
    if spoilt := _spoilt(telling, fits, rule):
        return GateDecision(Verdict.DECLINED, f"{told}, but {spoilt}", numbers)
    if contradiction := _contradiction(telling, missed, rule):
        return GateDecision(Verdict.DECLINED, f"{told}, but {contradiction}", numbers)
    is_little = numbers["images"] < rule.enough_images
    made = (
        _with_little(telling, rule, numbers, told)
        if is_little
        else _with_enough(rule, numbers, told)
    )
    hint = f"; look at the corrections of {named(odd)}, which are fitted badly" if odd else ""
    return replace(made, reason=f"{made.reason}{hint}")


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


def _with_enough(rule: PromotionRule, numbers: dict[str, Any], told: str) -> GateDecision:
    gain = numbers["gain"]
    if worst := _worst_folder(numbers, rule):
        but = "and" if gain < 0 else "but"
        return GateDecision(Verdict.DECLINED, f"{told}, {but} {worst}{_where(numbers)}", numbers)
    low, high = numbers["interval_95"]
    if gain >= 0 and low >= -rule.margin:
        return GateDecision(Verdict.PROMOTED, told, numbers)
    if gain < 0:
        return GateDecision(Verdict.DECLINED, f"{told}: it is worse{_where(numbers)}", numbers)
    missing = rule.enough_images
    return GateDecision(
        Verdict.INCONCLUSIVE,
        f"{told}, but the gain may lie anywhere from {low:+.3f} to {high:+.3f}; "
        f"correct about {missing} more images that are new",
        numbers,
    )


def _spoilt(images: Sequence[PairedImage], fits: Sequence[Fit], rule: PromotionRule) -> str:
    earlier = [image for image in images if image.is_earlier]
    gains = list(by_content(earlier, [image.gain for image in earlier]).values())
    if len(gains) < EARLIER_ENOUGH or np.mean(gains) >= -rule.earlier_margin:
        return ""
    return f"images of earlier nights lose {-np.mean(gains):.3f}{_suspects(fits)}"


def _suspects(fits: Sequence[Fit]) -> str:
    # What is held out was not trained on, and has spoilt nothing.
    fresh = sorted(
        (fit for fit in fits if not fit.is_earlier), key=lambda fit: fit.average_precision
    )
    return f"; look at the corrections of {named(fresh)}" if fresh else ""


def _contradiction(
    images: Sequence[PairedImage], missed: Sequence[Missed], rule: PromotionRule
) -> str:
    # Where others of their kind help to find them, unseen, they are merely hard.
    worst = next((folder for folder in missed if folder.is_most), None)
    if worst is None:
        return ""
    fresh = [image for image in images if not image.is_earlier and not image.is_held_out]
    if fresh and mean_of(fresh, [image.gain for image in fresh]) >= rule.least_gain:
        return ""
    return worst.reason


def _count(images: Sequence[PairedImage]) -> int:
    return len({image.content for image in images})


def _nothing_told(silent: int, rule: PromotionRule) -> str:
    if not silent:
        return (
            "there was no corrected image that neither model was trained on when it began; "
            "correct an image that is new to both"
        )
    return (
        f"neither model is right about anything on {_images(silent, 'unseen')}, which is ignored "
        f"nothing; correct {rule.enough_images} more images"
    )


def _told(numbers: dict[str, Any]) -> str:  # Any: JSON
    told = (
        f"AP@0.5 {numbers['candidate']:.3f} against {numbers['incumbent']:.3f} "
        f"on {_images(numbers['images'], 'unseen')}"
    )
    silent = numbers["silent"]
    return (
        f"{told} ({silent} more ignored: neither model is right about anything there)"
        if silent
        else told
    )


def _with_little(
    images: Sequence[PairedImage], rule: PromotionRule, numbers: dict[str, Any], told: str
) -> GateDecision:
    losers = [image for image in images if image.gain < -rule.image_margin]
    if numbers["gain"] > 0 and not losers:
        return GateDecision(Verdict.PROVISIONAL, f"{told}: little evidence", numbers)
    if numbers["gain"] < 0 and numbers["images"] >= FEW_TO_JUDGE:
        return GateDecision(Verdict.DECLINED, f"{told}: it is worse{_where(numbers)}", numbers)
    missing = rule.enough_images - numbers["images"]
    if numbers["gain"] < 0:
        missing = FEW_TO_JUDGE - numbers["images"]
        why = "so few images mislead"
    else:
        why = f"'{losers[0].name}' loses {-losers[0].gain:.3f}" if losers else "nothing is gained"
    return GateDecision(
        Verdict.INCONCLUSIVE,
        f"{told}, but {why}; correct {missing} more image{'s' if missing > 1 else ''}",
        numbers,
    )


def _where(numbers: dict[str, Any]) -> str:  # Any: JSON
    # A person looks at the corrections on which most is lost first.
    losses = sorted((gain, name) for name, gain in numbers["each"] if gain < 0)[:NAMED]
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
        "images": _count(images),
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
