"""Which correction of a part stands, and what comes back when one is withdrawn."""

import itertools
from dataclasses import replace
from datetime import timedelta

from cellwatch.records import AskedRun, CorrectionKind, Crop
from cellwatch.storage.ledger import corrections, flags, superseding, training_runs
from tests.storage.ledger.test_corrections_table import GOOD, db, drop, report

__all__ = ["db"]  # the fixture

WORKED = replace(GOOD, added=2, removed=1, changed=1, sha256="worked")
UNTOUCHED = replace(GOOD, sha256="untouched")


def clocked(now):
    """Return moments that go on."""
    return (now + timedelta(minutes=n) for n in itertools.count())


def open_flags(db):
    return [row["why"] for row in db.table("flags").rows_where("lowered_at IS NULL")]


def test_what_is_withdrawn_gives_its_place_back(db, now):
    clock = clocked(now)
    flags.raise_flag(db, flags.Flag("a.tif", "blurred", raised_by="anna"), next(clock))
    corrections.receive(db, drop(), WORKED, next(clock))
    for sha256 in ("other", "again"):
        corrections.receive(db, drop("a_rois.zip"), replace(WORKED, sha256=sha256), next(clock))

    row, back = superseding.withdraw(db, 3, next(clock))

    assert (row.id, back.id, back.state) == (3, 1, "trainable")
    assert [row.id for row in corrections.trainable(db, "scope")] == [1]
    assert open_flags(db) == []  # it is corrected all the same
    assert (
        superseding.withdraw(db, 1, next(clock))[1] is None
    )  # a_rois.zip was withdrawn: it stays so
    assert open_flags(db) == ["blurred"]


def test_what_a_file_held_before_it_was_saved_again_does_not_come_back(db, now):
    clock = clocked(now)
    for file in ("a_masks.tif", "a_rois.zip", "a_masks.tif"):
        corrections.receive(db, drop(file), replace(WORKED, sha256=file), next(clock))

    assert superseding.withdraw(db, 3, next(clock))[1].id == 2
    assert (
        superseding.withdraw(db, 2, next(clock))[1] is None
    )  # a_masks.tif holds what was withdrawn


def test_a_flag_comes_back_when_the_last_correction_of_its_image_goes(db, now):
    clock = clocked(now)
    flags.raise_flag(db, flags.Flag("a.tif", "blurred", raised_by="anna"), next(clock))
    corrections.receive(db, drop(), WORKED, next(clock))
    crop = drop("a__y0x0h8w8_masks.tif", crop=Crop(0, 0, 8, 8))
    corrections.receive(db, crop, replace(WORKED, sha256="crop"), next(clock))
    second = drop("again-1_masks.tif", kind=CorrectionKind.SECOND_LOOK)
    corrections.receive(db, second, UNTOUCHED, next(clock))

    superseding.withdraw(db, 1, next(clock))
    assert open_flags(db) == []
    superseding.withdraw(db, 2, next(clock))
    assert open_flags(db) == ["blurred"]

    flags.lower_flag(db, "a.tif", "unflagged by anna", next(clock))
    corrections.receive(db, drop(), WORKED, next(clock))
    superseding.withdraw(db, 4, next(clock))
    assert open_flags(db) == []  # a person took it off


def test_one_that_was_trained_on_is_no_news_when_it_comes_back(db, now):
    corrections.receive(db, drop(), WORKED, now)
    run_id = training_runs.begin(db, AskedRun("scope", "night", "2026-11-25"), now)
    training_runs.finish(db, run_id, report(1), [], now)
    corrections.receive(db, drop("a_rois.zip"), replace(WORKED, sha256="other"), now)

    assert superseding.withdraw(db, 2, now)[1].state == "used"


def test_a_region_that_was_replaced_does_not_come_back(db, now):
    for file in ("a_region.tif", "a_region.roi"):
        corrections.receive(db, drop(file, kind="region"), replace(GOOD, rois=0), now)

    assert superseding.withdraw(db, 2, now)[1] is None


def test_what_nobody_worked_on_takes_no_work_away(db, now):
    corrections.receive(db, drop(), WORKED, now)

    for file in ("a_rois.zip", "a_masks.tif"):
        key = corrections.receive(db, drop(file), UNTOUCHED, now)
        row = db.table("corrections").get(key)
        assert row["state"] == "rejected"
        assert "correction 1 (a_masks.tif: 10 ROIs, +2 -1 ~1) of the same part" in row["reason"]
        assert "corrections withdraw 1" in row["remedy"]
    assert [row.id for row in corrections.trainable(db, "scope")] == [1]

    corrections.receive(
        db, drop(), replace(UNTOUCHED, sha256="worked"), now
    )  # read again by its region
    corrections.receive(db, drop("a.bob_masks.tif", annotator="bob"), UNTOUCHED, now)
    assert [row.id for row in corrections.trainable(db, "scope")] == [4, 5]


def test_a_withdrawn_one_is_used_no_more(db, now):
    corrections.receive(db, drop(), GOOD, now)

    withdrawn, back = superseding.withdraw(db, 1, now)
    assert (withdrawn.file, back) == ("a_masks.tif", None)
    assert superseding.withdraw(db, 1, now) is None
    assert corrections.trainable(db, "scope") == []
