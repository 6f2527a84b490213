"""What the gate may object to a candidate: one function for each reason, in the order of `CHECKS`.

Each takes the evidence and the rule and returns its objection, or None. The first one that objects
decides; a candidate that none objects to is used.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cellwatch.records import Verdict
from cellwatch.training.contradictions import Fit
from cellwatch.training.findings import NAMED, by_content, mean_of, named
from cellwatch.training.gate_evidence import GateEvidence, PromotionRule, n_images


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a candidate is not used.

    Attributes
    ----------
    verdict : Verdict
        Declined, or inconclusive where more images would tell.
    why : str
    is_hinting : bool
        Whether corrections that are fitted badly should be named beside it.
    """

    verdict: Verdict
    why: str
    is_hinting: bool = True


Check = Callable[[GateEvidence, PromotionRule], Objection | None]


def fails_the_smoke_test(evidence: GateEvidence, rule: PromotionRule) -> Objection | None:
    """Decline a network that finds nothing where it was trained, or gives no numbers."""
    del rule
    if not evidence.smoke.problems:
        return None
    why = f"it failed the smoke test: {evidence.smoke.problems[0]}"
    return Objection(Verdict.DECLINED, why, is_hinting=False)


def is_shown_nothing(evidence: GateEvidence, rule: PromotionRule) -> Objection | None:
    """Ask for images where there is none on which either network is right about anything."""
    if evidence.images:
        return None
    why = (
        "there was no corrected image that neither model was trained on when it began; "
        "correct an image that is new to both"
    )
    if evidence.n_silent:
        why = (
            f"neither model is right about anything on {n_images(evidence.n_silent, 'unseen')}, "
            f"which is ignored nothing; correct {rule.enough_images} more images"
        )
    return Objection(Verdict.INCONCLUSIVE, why, is_hinting=False)


def spoils_earlier_images(evidence: GateEvidence, rule: PromotionRule) -> Objection | None:
    """Decline what loses on images of earlier nights: what was learned is not to be spoilt."""
    earlier = [image for image in evidence.images if image.is_earlier]
    gains = list(by_content(earlier, [image.gain for image in earlier]).values())
    if len(gains) < rule.enough_earlier or np.mean(gains) >= -rule.earlier_margin:
        return None
    # What is held out was not trained on, and has spoilt nothing.
    fresh = sorted((f for f in evidence.fits if not f.is_earlier), key=_fitted)
    look = f"; look at the corrections of {named(fresh)}" if fresh else ""
    why = f"{evidence.told}, but images of earlier nights lose {-np.mean(gains):.3f}{look}"
    return Objection(Verdict.DECLINED, why, is_hinting=False)


def is_contradicted(evidence: GateEvidence, rule: PromotionRule) -> Objection | None:
    """Decline what did not learn most of a folder's new corrections: they are probably wrong.

    Where others of their kind help to find them, unseen, they are merely hard.
    """
    worst = next((folder for folder in evidence.missed if folder.is_most), None)
    if worst is None:
        return None
    images = evidence.images
    fresh = [image for image in images if not image.is_earlier and not image.is_held_out]
    if fresh and mean_of(fresh, [image.gain for image in fresh]) >= rule.least_gain:
        return None
    why = f"{evidence.told}, but {worst.reason}"
    return Objection(Verdict.DECLINED, why, is_hinting=False)


def loses_in_a_folder(evidence: GateEvidence, rule: PromotionRule) -> Objection | None:
    """Decline what loses in one watched folder, whatever it gains in the others."""
    if is_little(evidence, rule):
        return None
    for watch, gain in evidence.numbers["gain_by_folder"].items():
        if gain < -rule.folder_margin:
            joined = "and" if evidence.gain < 0 else "but"
            why = f"{evidence.told}, {joined} the folder '{watch}' loses {-gain:.3f}"
            return Objection(Verdict.DECLINED, f"{why}{_most_on(evidence)}")
    return None


def is_worse(evidence: GateEvidence, rule: PromotionRule) -> Objection | None:
    """Decline what loses on the mean of enough images; with too few such a loss misleads."""
    if evidence.gain >= 0:
        return None
    n = evidence.numbers["images"]
    if n >= rule.few_to_judge or not is_little(evidence, rule):
        return Objection(Verdict.DECLINED, f"{evidence.told}: it is worse{_most_on(evidence)}")
    return _too_few(evidence, "so few images mislead", rule.few_to_judge - n)


def loses_on_an_image(evidence: GateEvidence, rule: PromotionRule) -> Objection | None:
    """With little evidence, ask for more where a single image loses, or nothing is gained."""
    if not is_little(evidence, rule):
        return None
    losers = [image for image in evidence.images if image.gain < -rule.image_margin]
    if evidence.gain > 0 and not losers:
        return None
    why = f"'{losers[0].name}' loses {-losers[0].gain:.3f}" if losers else "nothing is gained"
    return _too_few(evidence, why, rule.enough_images - evidence.numbers["images"])


def is_uncertain(evidence: GateEvidence, rule: PromotionRule) -> Objection | None:
    """Ask for more images where the gain may well be a loss."""
    low, high = evidence.numbers["interval_95"]
    if is_little(evidence, rule) or low >= -rule.margin:
        return None
    why = (
        f"{evidence.told}, but the gain may lie anywhere from {low:+.3f} to {high:+.3f}; "
        f"correct about {rule.enough_images} more images that are new"
    )
    return Objection(Verdict.INCONCLUSIVE, why)


def is_not_worth_its_time(evidence: GateEvidence, rule: PromotionRule) -> Objection | None:
    """Decline what takes longer without being clearly better."""
    times = evidence.smoke.times_as_long
    if times <= rule.slower or evidence.gain >= rule.worth_slower:
        return None
    why = f"{evidence.told}, but it takes {times:.1f} times as long as the model in use"
    return Objection(Verdict.DECLINED, why)


CHECKS: tuple[Check, ...] = (
    fails_the_smoke_test,
    is_shown_nothing,
    spoils_earlier_images,
    is_contradicted,
    is_not_worth_its_time,
    loses_in_a_folder,
    is_worse,
    loses_on_an_image,
    is_uncertain,
)


def is_little(evidence: GateEvidence, rule: PromotionRule) -> bool:
    """Say whether so few images tell that what they let in is used on probation."""
    return bool(evidence.numbers["images"] < rule.enough_images)


def _too_few(evidence: GateEvidence, why: str, missing: int) -> Objection:
    more = f"correct {missing} more image{'s' if missing > 1 else ''}"
    return Objection(Verdict.INCONCLUSIVE, f"{evidence.told}, but {why}; {more}")


def _most_on(evidence: GateEvidence) -> str:
    # A person looks at the corrections on which most is lost first.
    losses = sorted((gain, name) for name, gain in evidence.numbers["each"] if gain < 0)[:NAMED]
    told = ", ".join(f"'{name}' ({gain:+.3f})" for gain, name in losses)
    return f", most on {told}" if told else ""


def _fitted(fit: Fit) -> float:
    return fit.average_precision
