"""The gate: promoted only what is better on images that neither network has seen."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cellwatch.records import Verdict
from cellwatch.training.contradictions import Fit
from cellwatch.training.findings import Found, PairedImage
from cellwatch.training.gate_checks import CHECKS
from cellwatch.training.gate_evidence import PromotionRule, SmokeTest
from cellwatch.training.promotion import decide, judge_provisional

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
    "what was found on one is lost": (pairs((0, 20), *[(0, 0)] * 8), Verdict.INCONCLUSIVE),
    "what was found on three is lost": (pairs(*[(0, 9)] * 3, *[(0, 0)] * 8), Verdict.DECLINED),
    "a folder loses beside images that tell nothing": (
        pairs(*[(45, 30)] * 6) + pairs((30, 40), *[(0, 0)] * 12, watch="other"),
        Verdict.DECLINED,
    ),
    "nobody knows, beside images that tell nothing": (
        pairs((50, 0), (0, 45), (50, 0), (0, 45), (50, 8), *[(0, 0)] * 60),
        Verdict.INCONCLUSIVE,
    ),
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
    fresh = pairs(*[(45, 5)] * 5)
    earlier = [
        PairedImage(f"old{n}", "scope", f"old{n}", found(50, 30), found(50, 45), is_earlier=True)
        for n in range(4)
    ]

    decision = decide([*fresh, *earlier], WELL, RULE, fits([40, 30], [45] * 4))

    assert decision.verdict == Verdict.DECLINED
    assert "earlier nights lose 0.300; look at the corrections of 'new 1', 'new 0'" in (
        decision.reason
    )
    assert decide([*fresh, *earlier], WELL, RULE).reason.endswith("lose 0.300")
    assert decide([*fresh, *pairs(*[(45, 45)] * 4)], WELL, RULE).verdict == Verdict.PROMOTED


def earlier_pairs(*scores):
    """Images that the incumbent was trained on, judged by its twins."""
    return [replace(image, is_earlier=True) for image in pairs(*scores, watch="old")]


def fits(new, earlier, watch="scope"):
    """What the candidate finds, of 50 ROIs each, where it was trained: new and earlier images."""
    return [
        Fit(f"{kind} {n}", watch, f"{watch} {kind} {n}", found(50, hits), is_earlier)
        for kind, each, is_earlier in (("new", new, False), ("old", earlier, True))
        for n, hits in enumerate(each)
    ]


def test_corrections_that_contradict_what_was_learned_before_are_told_of():
    images = [*pairs(*[(5, 5)] * 4, (6, 5)), *earlier_pairs(*[(48, 48)] * 5)]

    decision = decide(images, WELL, RULE, fits([9, 8, 7, 6, 5], [48] * 5))

    assert decision.verdict == Verdict.DECLINED
    assert "5 of the 5 new images it was trained on are fitted badly all" in decision.reason
    assert "(AP@0.5 0.140; earlier ones at least 0.480)" in decision.reason
    assert "look at those of 'new 4', 'new 3', 'new 2'. If they are right" in decision.reason
    assert decision.numbers["not_learned"][0] == ["new 4", 0.1]


NEW_KINDS = {
    "a new kind that is fitted, if not yet found elsewhere": fits([40] * 5, [48] * 5),
    "as hard as the hardest of those before": fits([14] * 5, [48, 48, 15, 14]),
    "a hard folder beside an easy one": [
        *fits([8] * 5, [12] * 3, watch="tissue"),
        *fits([48], [48] * 20),
    ],
    "a single part of each that is missed": [
        replace(fit, content=f"series {n % 3}") if not fit.is_earlier else fit
        for n, fit in enumerate(fits([5, 5, 5, *[48] * 27], [48] * 5))
    ],
    "most of it learned": fits([48, 48, 48, 5, 5, 5], [48] * 5),
    "too few of it to say so": fits([6] * 2, [48] * 5),
    "nothing before to compare it with": fits([6] * 5, [48]),
    "all of it earlier": fits([], [48, 48, 30, 30, 1]),
}


@pytest.mark.parametrize("case", NEW_KINDS)
def test_what_is_new_or_hard_is_not_taken_for_wrong(case):
    assert decide(pairs(*[(20, 20)] * 5), WELL, RULE, NEW_KINDS[case]).verdict == Verdict.PROMOTED


def test_a_new_kind_that_is_being_learned_is_promoted_and_what_lags_behind_is_named():
    images = [*pairs(*[(12, 2)] * 5), *earlier_pairs(*[(48, 48)] * 5)]

    decision = decide(images, WELL, RULE, fits([20, 22, 21], [48] * 5))

    assert decision.verdict == Verdict.PROMOTED
    assert decision.reason.endswith(
        "look at the corrections of 'new 0', 'new 2', 'new 1', which are fitted badly"
    )


def test_in_a_group_with_held_out_images_wrong_corrections_are_noticed_too():
    held_out = [replace(image, is_held_out=True) for image in pairs(*[(50, 40)] * 7)]

    assert decide(held_out, WELL, RULE, fits([5] * 4, [48] * 9)).verdict == Verdict.DECLINED
    assert decide(held_out, WELL, RULE, fits([45] * 4, [48] * 9)).verdict == Verdict.PROMOTED


def test_of_parts_of_one_image_one_is_named():
    crops = [
        replace(fit, content="x", name=f"crop {n}") for n, fit in enumerate(fits([1, 2, 3], []))
    ]
    others = fits([5, 6], [48] * 3)

    reason = decide(pairs(*[(20, 20)] * 5), WELL, RULE, [*crops, *others]).reason
    assert "3 of the 3 new images" in reason
    assert "look at those of 'crop 0', 'new 0', 'new 1'. If" in reason


def test_wrong_corrections_of_an_easy_folder_are_noticed_beside_a_hard_one():
    told = [
        *fits([8] * 4, [48] * 5, watch="culture"),
        *fits([12] * 9, [12] * 3, watch="tissue"),
    ]

    decision = decide(pairs(*[(20, 20)] * 5), WELL, RULE, told)
    assert decision.verdict == Verdict.DECLINED
    assert "4 of the 4 new images" in decision.reason


def test_what_is_fitted_badly_is_named_beside_every_verdict():
    few = decide(pairs((45, 30)), WELL, RULE, fits([5, 48, 48], [48] * 3))
    none = decide(pairs(*[(40, 40)] * 2), WELL, RULE, fits([5, 48, 48], [48] * 3))

    assert (few.verdict, none.verdict) == (Verdict.PROVISIONAL, Verdict.INCONCLUSIVE)
    assert all("corrections of 'new 0', which" in made.reason for made in (few, none))


def test_images_on_which_neither_is_right_hide_no_loss():
    earlier = earlier_pairs(*[(38, 45)] * 3, *[(0, 0)] * 8)

    decision = decide([*pairs(*[(45, 20)] * 6), *earlier], WELL, RULE)
    assert decision.verdict == Verdict.DECLINED
    assert "on 9 unseen images (8 more ignored: neither model is right about anything there)" in (
        decision.reason
    )


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


def test_what_takes_longer_must_be_worth_it():
    slow = SmokeTest(times_as_long=1.9)

    worth = decide(pairs(*[(45, 20)] * 6), slow, RULE)
    not_worth = decide(pairs(*[(41, 40)] * 6), slow, RULE)
    as_fast = decide(pairs(*[(41, 40)] * 6), SmokeTest(times_as_long=1.5), RULE)

    assert worth.verdict == as_fast.verdict == Verdict.PROMOTED
    assert not_worth.verdict == Verdict.DECLINED
    assert "but it takes 1.9 times as long as the model in use" in not_worth.reason


def test_the_page_on_the_gate_has_the_checks_in_their_order_and_the_rules_numbers():
    page = Path(__file__).parents[2].joinpath("docs/explanation/the-gate.md").read_text()
    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `")}

    assert list(rows) == [check.__name__ for check in CHECKS]
    for name, number in (
        ("is_not_worth_its_time", RULE.slower),
        ("is_not_worth_its_time", RULE.worth_slower),
        ("spoils_earlier_images", RULE.earlier_margin),
        ("spoils_earlier_images", RULE.enough_earlier),
        ("is_contradicted", RULE.least_gain),
        ("loses_in_a_folder", RULE.folder_margin),
        ("loses_in_a_folder", RULE.enough_images),
        ("is_worse", RULE.few_to_judge),
        ("loses_on_an_image", RULE.image_margin),
        ("is_uncertain", -RULE.margin),
    ):
        assert re.search(rf"(?<![\d.]){re.escape(f'{number:g}')}(?![\d.])", rows[name]), name
