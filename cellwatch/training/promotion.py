"""The gate: is the candidate to replace the model in use? Decided by images that neither has seen.

What it may object to stands in `gate_checks.py`, every number that it compares with in
`PromotionRule`. The paper has no gate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cellwatch.records import Verdict
from cellwatch.training.contradictions import Fit
from cellwatch.training.findings import PairedImage, named
from cellwatch.training.gate_checks import CHECKS, Objection, is_little
from cellwatch.training.gate_evidence import (
    GateEvidence,
    PromotionRule,
    SmokeTest,
    n_images,
    numbers_of,
)


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
    evidence = GateEvidence.of(images, smoke, rule, fits, seed)
    objection = next((o for check in CHECKS if (o := check(evidence, rule)) is not None), None)
    objection = objection or _none(evidence, rule)
    hint = ""
    if objection.is_hinting and (odd := evidence.odd):
        hint = f"; look at the corrections of {named(odd)}, which are fitted badly"
    numbers = {} if smoke.problems else evidence.numbers
    return GateDecision(objection.verdict, f"{objection.why}{hint}", numbers)


def _none(evidence: GateEvidence, rule: PromotionRule) -> Objection:
    if is_little(evidence, rule):
        return Objection(Verdict.PROVISIONAL, f"{evidence.told}: little evidence")
    return Objection(Verdict.PROMOTED, evidence.told)


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
    numbers = numbers_of(images, 0)
    told = (
        f"AP@0.5 {numbers['candidate']:.3f} against its predecessor's {numbers['incumbent']:.3f} "
        f"on {n_images(numbers['images'], 'new')}"
    )
    verdict = Verdict.CONFIRMED if numbers["gain"] >= 0 else Verdict.REVOKED
    return GateDecision(verdict, told, numbers)
