"""The gate: promoted only what is better on images that neither network has seen."""

from dataclasses import replace

import numpy as np
import pytest

from cellwatch.records import Verdict
from cellwatch.training.promotion import (
    Found,
    PairedImage,
    PromotionRule,
    SmokeTest,
    decide,
    judge_provisional,
)

RULE = PromotionRule()
WELL = SmokeTest()


def found(n, hits, false=0):
    flags = np.zeros(n, np.bool_)
    flags[:hits] = True
    return Found(flags, false)


def pairs(*scores, watch="scope", n=50):
    """Images with n ROIs, of which candidate and incumbent found so many."""
    return [
        PairedImage(f"{watch}{i}", watch, f"{watch}{i}", found(n, ours), found(n, theirs))
        for i, (ours, theirs) in enumerate(scores)
    ]


CASES = {
    "clearly better on many": (pairs(*[(45, 30)] * 6), Verdict.PROMOTED),
    "equal on many": (pairs(*[(40, 40)] * 6), Verdict.PROMOTED),
    "worse on many": (pairs(*[(30, 40)] * 6), Verdict.DECLINED),
    "better on few": (pairs((45, 30), (40, 38)), Verdict.PROVISIONAL),
    "better on few, but one image loses": (pairs((49, 20), (30, 36)), Verdict.INCONCLUSIVE),
    "equal on few": (pairs((40, 40)), Verdict.INCONCLUSIVE),
    "worse on few": (pairs(*[(30, 40)] * 3), Verdict.DECLINED),
    "worse on two, which mislead": (pairs(*[(30, 40)] * 2), Verdict.INCONCLUSIVE),
    "nothing is found by either": (pairs(*[(0, 0)] * 9), Verdict.INCONCLUSIVE),
    "something is found on few": (pairs((20, 0), *[(0, 0)] * 8), Verdict.PROVISIONAL),
    "what was found is lost": (pairs((0, 20), *[(0, 0)] * 8), Verdict.DECLINED),
    "blank fields stay blank": (pairs(*[(0, 0)] * 5, n=0), Verdict.PROMOTED),
    "nothing to judge by": ([], Verdict.INCONCLUSIVE),
    "better, but one folder loses": (
        pairs(*[(45, 30)] * 6) + pairs(*[(40, 43)] * 3, watch="other"),
        Verdict.DECLINED,
    ),
    "better on average, but nobody knows": (
        pairs((50, 0), (0, 45), (50, 0), (0, 45), (50, 8)),
        Verdict.INCONCLUSIVE,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_gate_decides_by_its_rule(case):
    images, verdict = CASES[case]

    decision = decide(images, WELL, RULE)

    assert decision.verdict == verdict, decision
    assert decision.reason


def test_a_network_that_fails_the_smoke_test_is_declined_whatever_its_scores():
    decision = decide(pairs(*[(50, 10)] * 9), SmokeTest(("it finds nothing",)), RULE)

    assert decision.verdict == Verdict.DECLINED
    assert "it finds nothing" in decision.reason


def test_the_interval_holds_the_gain_and_narrows_with_more_images():
    few = decide(pairs(*[(45, 40), (30, 30)] * 3), WELL, RULE).numbers
    many = decide(pairs(*[(45, 40), (30, 30)] * 30), WELL, RULE).numbers

    for numbers in (few, many):
        low, high = numbers["interval_95"]
        assert low <= numbers["gain"] == 0.05 <= high
    width = [n["interval_95"][1] - n["interval_95"][0] for n in (few, many)]
    assert width[1] < width[0] / 2


def test_a_decision_is_the_same_when_it_is_made_again():
    images = pairs((45, 40), (30, 33), (20, 10), (44, 41), (50, 48))

    assert decide(images, WELL, RULE) == decide(images, WELL, RULE)


def test_false_rois_count_against_a_network():
    clean = PairedImage("a", "w", "a", found(50, 40), found(50, 40, false=30))

    assert clean.gain == pytest.approx(0.8 - 0.5)
    many = [replace(clean, content=f"{n}") for n in range(5)]
    assert decide(many, WELL, RULE).verdict == Verdict.PROMOTED


def test_what_was_learned_on_earlier_nights_must_not_be_spoilt():
    fresh = fresh_pairs(*[(45, 5, 48)] * 5)
    held_out = pairs((45, 1), watch="held")
    earlier = [
        PairedImage(f"old{n}", "scope", f"old{n}", found(50, 30), found(50, 45), is_earlier=True)
        for n in range(4)
    ]

    decision = decide([*held_out, *fresh, *earlier], WELL, RULE)

    assert decision.verdict == Verdict.DECLINED
    assert "images of earlier nights lose 0.300; look at the corrections of" in decision.reason
    assert "held0" not in decision.reason  # nothing was trained on it
    assert decide([*fresh, *pairs(*[(45, 45)] * 4)], WELL, RULE).verdict == Verdict.PROMOTED


def fresh_pairs(*scores, watch="scope", n=50):
    """New images: what the candidate's twins, the incumbent, and the candidate itself found."""
    return [
        replace(image, name=f"new {image.name}", content=f"new {image.name}", trained=found(n, own))
        for image, (_, _, own) in zip(
            pairs(*[score[:2] for score in scores], watch=watch, n=n), scores, strict=True
        )
    ]


def earlier_pairs(*scores, watch="scope", n=50):
    """Images that the incumbent was trained on, judged by its twins."""
    return [replace(image, is_earlier=True) for image in pairs(*scores, watch=watch, n=n)]


def test_corrections_that_contradict_what_was_learned_before_are_told_of():
    fresh = fresh_pairs(*[(5, 5, 6)] * 4, (6, 5, 6))

    decision = decide([*fresh, *earlier_pairs(*[(48, 48)] * 5)], WELL, RULE)

    assert decision.verdict == Verdict.DECLINED
    assert "5 of 5 new images are missed even by the network that was" in decision.reason
    assert "(AP@0.5 0.120)" in decision.reason
    assert "look at those of 'new scope0', 'new scope1', 'new scope2'" in decision.reason
    assert len(decision.numbers["not_learned"]) == 5


KNOWN = earlier_pairs(*[(48, 48)] * 5)
NEW_KINDS = {
    "a new kind that is being learned": [*fresh_pairs(*[(12, 2, 20)] * 5), *KNOWN],
    "a new kind that is fitted, if not yet found elsewhere": [
        *fresh_pairs(*[(5, 5, 40)] * 5),
        *KNOWN,
    ],
    "as hard as the hardest of those before": [
        *fresh_pairs(*[(14, 14, 16)] * 5),
        *KNOWN,
        *earlier_pairs((15, 15), (14, 14), watch="scope")[:2],
    ],
    "a hard folder beside an easy one": [
        *fresh_pairs(*[(5, 5, 6)] * 5, watch="tissue"),
        *earlier_pairs(*[(6, 6)] * 3, watch="tissue"),
        *KNOWN,
    ],
    "too few of it to say so": [*fresh_pairs(*[(5, 5, 6)] * 2), *KNOWN],
    "nothing before to compare it with": [*fresh_pairs(*[(5, 5, 6)] * 5), *KNOWN[:1]],
    "a lone cell that is missed in each": [*fresh_pairs(*[(0, 0, 0)] * 5, n=1), *KNOWN],
    "what is held out": [*pairs(*[(5, 5)] * 5, watch="held"), *KNOWN],
}


@pytest.mark.parametrize("case", NEW_KINDS)
def test_what_is_new_or_hard_is_not_taken_for_wrong(case):
    images = NEW_KINDS[case]
    distinct = [replace(image, content=f"{n}") for n, image in enumerate(images)]

    assert decide(distinct, WELL, RULE).verdict == Verdict.PROMOTED


def test_where_most_is_learned_the_rest_is_named():
    fresh = fresh_pairs(*[(48, 40, 48)] * 3, (5, 5, 6), (4, 4, 6))

    decision = decide([*fresh, *KNOWN], WELL, RULE)

    assert decision.verdict == Verdict.PROMOTED
    assert decision.numbers["not_learned"] == ["new scope3", "new scope4"]
    assert "of 'new scope3', 'new scope4', which are not learned" in decision.reason


def test_blank_images_hide_no_wrong_corrections():
    wrong = fresh_pairs(*[(5, 5, 6)] * 5)
    blank = [
        replace(image, content=f"blank{n}", candidate=found(0, 0), trained=found(0, 0))
        for n, image in enumerate(wrong)
    ]
    blank = [replace(image, incumbent=found(0, 0)) for image in blank]

    assert decide([*wrong, *blank, *KNOWN], WELL, RULE).verdict == Verdict.DECLINED


def test_two_empty_images_agree():
    nothing = PairedImage("a", "w", "a", found(0, 0), found(0, 0, false=2))

    assert (nothing.candidate.average_precision, nothing.incumbent.average_precision) == (1, 0)
    many = [replace(nothing, content=f"{n}") for n in range(5)]
    assert decide(many, WELL, RULE).verdict == Verdict.PROMOTED


def test_crops_and_planes_of_one_acquisition_are_one_image():
    crops = [replace(image, content="one") for image in pairs(*[(45, 30)] * 8)]

    decision = decide(crops, WELL, RULE)

    assert decision.verdict == Verdict.PROVISIONAL
    assert "on 1 unseen image" in decision.reason


def test_a_provisional_model_is_confirmed_or_revoked_by_what_comes_next():
    assert judge_provisional([]) is None
    assert judge_provisional(pairs((0, 0))) is None
    assert judge_provisional(pairs((45, 30))).verdict == Verdict.CONFIRMED
    assert judge_provisional(pairs((30, 31))).verdict == Verdict.REVOKED
