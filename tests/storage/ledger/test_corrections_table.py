"""Corrections, decisions and evidence in a real ledger."""

import json
from dataclasses import replace

import pytest

from cellwatch.records import (
    AskedRun,
    CorrectionKind,
    CorrectionRead,
    Crop,
    Evidence,
    ImageInfo,
    Outcome,
    Side,
    TargetResult,
    TrainReport,
    Verdict,
)
from cellwatch.storage.ledger import (
    acquisitions,
    dropped_files,
    flags,
    promotions,
    queue,
    superseding,
    training_runs,
)
from cellwatch.storage.ledger import corrections as reviews
from cellwatch.storage.ledger.database import open_ledger, transaction
from cellwatch.storage.ledger.precedence import in_effect
from cellwatch.storage.ledger.promotions import Decision, ModelName
from cellwatch.storage.reports import corrections as reports
from cellwatch.storage.reports import doubts, learning
from cellwatch.storage.reports.station import reader
from tests.storage.ledger.test_queue import LEASE

GOOD = CorrectionRead(format="label TIFF", content_key="content-a", rois=10, true_positives=8)
BASE, FIRST = ModelName("nuclei", "sha-base"), ModelName("scope-20261125-1", "sha-1")


@pytest.fixture
def db(tmp_path, now):
    ledger = open_ledger(tmp_path)
    for name in ("a", "b"):
        arrival = acquisitions.Arrival(
            "scope", f"/scope/{name}.tif", f"{name}.tif", "exp", f"f-{name}", 1, 1,
            ImageInfo(f"/scope/{name}.tif"),
        )  # fmt: skip
        acquisitions.enqueue(ledger, arrival, f"/masks/{name}.tif.zarr", ["cells"], now)
        claim = queue.claim(ledger, device="cpu", worker_pid=1, now=now, lease=LEASE)
        result = TargetResult("cells", 9, 20.0, model_id="nuclei", model_sha256="sha-base")
        outcome = Outcome(claim.acquisition_id, planes=1, content_sha256="c", targets=(result,))
        queue.finish(ledger, outcome, {"cells": {"params": "{}"}}, now)
    yield ledger
    ledger.close()


def drop(file="a_masks.tif", **facts):
    said = {"acquisition_id": 1, "target": "cells", "group": "scope", "folder": "/kept/1"}
    return dropped_files.Drop(file, 5, 7, **{**said, **facts})


def states(db):
    return [row["state"] for row in db.table("corrections").rows]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("/scope/b.v2.tif", ["b.v2"]),
        ("b.v2.tif", ["b.v2"]),
        ("b.v2", ["b.v2"]),
        ("B.TIF", ["b"]),
        ("b", ["b"]),
        ("scope/b.tif", ["b"]),
        ("other/b.tif", []),
    ],
)
def test_a_flag_means_one_image_also_when_its_name_has_dots(db, now, name, meant):
    arrival = acquisitions.Arrival(
        "scope", "/scope/b.v2.tif", "b.v2.tif", "exp", "f-c", 1, 1, ImageInfo("/scope/b.v2.tif")
    )
    acquisitions.enqueue(db, arrival, "/masks/b.v2.tif.zarr", ["cells"], now)

    stems = {row["id"]: row["stem"] for row in db.table("acquisitions").rows}
    assert [stems[key] for key in flags.acquisitions_named(db, name)] == meant


def test_a_good_correction_is_trainable_and_scores_the_model_it_corrected(db, now):
    flags.raise_flag(db, flags.Flag("a.tif", "blurred", None, "anna"), now)

    reviews.receive(db, drop(), GOOD, now)

    assert states(db) == ["trainable"]
    score = next(db.table("scores").rows)
    assert (score["kind"], score["model_sha256"], score["ap50"]) == (
        "test_then_train", "sha-base", 1.0,
    )  # fmt: skip
    assert next(db.table("flags").rows)["lowered_why"] == "corrected in a_masks.tif"


def test_a_file_that_was_copied_is_the_correction_that_it_was(db, now):
    read = replace(GOOD, sha256="same")
    first = reviews.receive(db, drop(), read, now)

    again = reviews.receive(db, replace(drop(), mtime_ns=99), read, now)

    assert again == first
    assert [(row["state"], row["mtime_ns"]) for row in db.table("corrections").rows] == [
        ("trainable", 99)
    ]
    reviews.receive(db, drop("a.anna_masks.tif", annotator="anna"), GOOD, now)
    assert reviews.receive(db, replace(drop(), mtime_ns=100), read, now) != first  # it goes before


def test_a_rejected_one_changes_nothing_but_stands_there_with_its_reason(db, now):
    reviews.receive(db, drop(), CorrectionRead(reason="it holds floats", remedy="save"), now)

    assert states(db) == ["rejected"]
    assert reviews.trainable(db, "scope") == []
    assert list(db.table("scores").rows) == []


def test_a_later_drop_supersedes_and_nothing_is_deleted(db, now):
    for _ in range(3):
        reviews.receive(db, drop(), GOOD, now)

    assert states(db) == ["superseded", "superseded", "trainable"]
    assert [row.id for row in reviews.trainable(db, "scope")] == [3]


def test_a_crop_and_another_annotator_supersede_nothing(db, now):
    reviews.receive(db, drop(), GOOD, now)
    reviews.receive(db, drop("a__y0x0h8w8_masks.tif", crop=Crop(0, 0, 8, 8)), GOOD, now)
    reviews.receive(db, drop("a.bob_masks.tif", annotator="bob"), GOOD, now)

    assert states(db) == ["trainable"] * 3
    rows = reviews.trainable(db, "scope")
    assert [row.id for row in in_effect(rows, "")] == [3]  # the crop lies within it
    reviews.receive(db, drop("a.eve_masks.tif", annotator="eve"), GOOD, now)
    rows = reviews.trainable(db, "scope")
    assert [row.id for row in in_effect(rows, "bob")] == [3]
    assert [row.id for row in in_effect(rows, "")] == [4]


def test_a_second_look_is_not_trained_on(db, now):
    reviews.receive(db, drop("again-1_masks.tif", kind=CorrectionKind.SECOND_LOOK), GOOD, now)

    assert reviews.trainable(db, "scope") == []
    assert list(db.table("scores").rows) == []


def test_a_side_is_for_good(db, now):
    reviews.decide_sides(db, "scope", {"x": Side.HELD_OUT}, now)
    reviews.decide_sides(db, "scope", {"x": Side.TRAIN, "y": Side.TRAIN}, now)

    assert reviews.sides(db, "scope") == {"x": Side.HELD_OUT, "y": Side.TRAIN}


def test_one_night_per_group_and_date_and_one_training_at_a_time(db, now):
    first = training_runs.begin(db, AskedRun("scope", "night", "2026-11-25"), now)
    assert training_runs.begin(db, AskedRun("other", "night", "2026-11-25"), now) is None
    training_runs.skip(db, first, "no new corrections", now)

    assert training_runs.begin(db, AskedRun("scope", "night", "2026-11-25"), now) is None
    assert training_runs.begin(db, AskedRun("scope", "night", "2026-11-26"), now) == 2
    training_runs.fail(db, 2, "diverged", now)
    assert training_runs.begin(db, AskedRun("scope", "asked", "2026-11-26"), now) == 3


def report(*corrections, score_on=None):
    scores = ()
    if score_on:
        scores = (Evidence("held_out", "m", "sha-1", 1, score_on, 0.5, 0.4, 1, 1, 0, "1"),)
    return TrainReport(
        "scope-20261125-1", "sha-1", {"sha-1": corrections}, scores, Verdict.PROMOTED, "better"
    )


def decision(verdict, model, previous):
    return Decision("scope", verdict, model, previous, "why", {}, None, "gate")


def test_a_run_ends_with_all_that_it_proved_in_one_transaction(db, now):
    reviews.receive(db, drop(), GOOD, now)
    key = training_runs.begin(db, AskedRun("scope", "night", "2026-11-25"), now)

    training_runs.finish(db, key, report(1), [decision(Verdict.PROMOTED, FIRST, BASE)], now)

    assert states(db) == ["used"]
    assert promotions.in_use(db, "scope").model == FIRST
    assert training_runs.seen_by(db, "sha-1") == ("content-a",)
    assert training_runs.new_rois(db, "scope") == 0
    assert training_runs.leaks(db) == []


def test_an_error_at_the_end_of_a_run_promotes_nothing(db, now):
    reviews.receive(db, drop(), GOOD, now)
    key = training_runs.begin(db, AskedRun("scope", "night", "2026-11-25"), now)

    with pytest.raises(KeyError):
        training_runs.finish(db, key, report(1, 99), [decision(Verdict.PROMOTED, FIRST, BASE)], now)

    assert promotions.in_use(db, "scope") is None
    assert states(db) == ["trainable"]
    assert training_runs.unfinished(db).id == key


def test_the_audit_finds_a_score_on_a_trained_image_and_a_held_out_one_that_was_trained_on(db, now):
    reviews.receive(db, drop(), GOOD, now)
    reviews.decide_sides(db, "scope", {"content-a": Side.HELD_OUT}, now)
    key = training_runs.begin(db, AskedRun("scope", "night", "2026-11-25"), now)

    training_runs.finish(db, key, report(1, score_on="content-a"), [], now)

    assert {row.problem for row in training_runs.leaks(db)} == {
        "a score used an image that its network was trained on",
        "a held-out image was trained on",
    }


def test_a_model_that_was_trained_on_an_image_is_not_scored_by_its_next_correction(db, now):
    reviews.receive(db, drop(), GOOD, now)
    key = training_runs.begin(db, AskedRun("scope", "night", "2026-11-25"), now)
    training_runs.finish(db, key, report(1), [decision(Verdict.PROMOTED, FIRST, BASE)], now)
    db.execute("UPDATE targets SET model_sha256 = 'sha-1' WHERE acquisition_id = 1")

    reviews.receive(db, drop("a_seg.npy"), GOOD, now)

    assert [row["model_sha256"] for row in db.table("scores").rows] == ["sha-base"]
    assert training_runs.leaks(db) == []


def test_a_rollback_leads_to_what_was_in_use_before(db, now):
    second = ModelName("scope-20261126-1", "sha-2")
    with transaction(db):
        promotions.decide(db, decision(Verdict.PROVISIONAL, FIRST, BASE), now)
        promotions.decide(db, decision(Verdict.CONFIRMED, FIRST, FIRST), now)
        assert promotions.before_current(db, "scope") == BASE
        promotions.decide(db, decision(Verdict.DECLINED, second, FIRST), now)
        assert promotions.in_use(db, "scope").model == FIRST
        promotions.decide(db, decision(Verdict.PROMOTED, second, FIRST), now)
        assert promotions.before_current(db, "scope") == FIRST


def test_a_second_rollback_leads_further_back_and_not_forth_again(db, now):
    second = ModelName("scope-20261126-1", "sha-2")
    with transaction(db):
        promotions.decide(db, decision(Verdict.PROMOTED, FIRST, BASE), now)
        promotions.decide(db, decision(Verdict.PROMOTED, second, FIRST), now)
        promotions.decide(db, decision(Verdict.ROLLED_BACK, FIRST, second), now)
        assert promotions.before_current(db, "scope") == BASE
        promotions.decide(db, decision(Verdict.ROLLED_BACK, BASE, FIRST), now)
        assert promotions.before_current(db, "scope") is None
        promotions.decide(db, decision(Verdict.BY_HAND, second, BASE), now)
        assert promotions.before_current(db, "scope") == BASE


def test_a_file_that_was_withdrawn_and_is_dropped_again_says_so(db, now):
    kept = replace(GOOD, sha256="bytes")
    superseding.withdraw(db, reviews.receive(db, drop(), kept, now), now)

    key = reviews.receive(db, drop("moved/a_masks.tif"), kept, now)

    (note,) = json.loads(db.table("corrections").get(key)["notes"])
    assert "withdrawn before (correction 1)" in note


def test_a_rejection_is_shown_by_its_id_also_when_a_good_file_replaced_it(db, now, tmp_path):
    reviews.receive(db, drop(), CorrectionRead(reason="it is black and white"), now)
    reviews.receive(db, drop(), GOOD, now)

    with reader(tmp_path / "cellwatch.db") as ledger:
        assert reports.correction(ledger, 1).reason == "it is black and white"
        assert [row.id for row in reports.corrections(ledger)] == [2]
        assert len(reports.corrections(ledger, is_every=True)) == 2


def test_a_base_is_frozen_at_the_first_training(db, now):
    assert promotions.base_of(db, "scope") is None
    assert promotions.freeze_base(db, "scope", BASE, now) == BASE
    assert promotions.freeze_base(db, "scope", FIRST, now) == BASE


def test_the_first_pin_of_an_experiment_stays_unless_a_person_says_otherwise(db, now):
    place = ("scope", "exp", "cells")
    with transaction(db):
        promotions.pin(db, place, BASE, "cellwatch", now)
        promotions.pin(db, place, FIRST, "cellwatch", now)
    assert promotions.pinned(db, *place) == BASE

    n = promotions.rerun(db, ("scope", "exp"), {"cells": FIRST}, "anna", now)

    assert n == 2
    assert promotions.pinned(db, *place) == FIRST


def test_a_rerun_goes_behind_new_images_and_flagged_ones_go_first(db, now):
    flags.raise_flag(db, flags.Flag("b.tif", "", None, "anna"), now)
    promotions.rerun(db, ("scope", "exp"), {"cells": FIRST}, "anna", now)
    arrival = acquisitions.Arrival(
        "scope", "/scope/c.tif", "c.tif", "exp", "f-c", 1, 1, ImageInfo("/scope/c.tif")
    )
    acquisitions.enqueue(db, arrival, "/masks/c.tif.zarr", ["cells"], now)

    order = []
    for _ in range(3):
        claim = queue.claim(db, device="cpu", worker_pid=1, now=now, lease=LEASE)
        order.append(claim.path)

    assert order == ["/scope/c.tif", "/scope/b.tif", "/scope/a.tif"]


def test_a_flag_waits_for_an_image_that_is_yet_to_come(db, now):
    assert flags.raise_flag(db, flags.Flag("later.tif", "look", None, "anna"), now) == []
    assert flags.match_waiting(db) == 0
    arrival = acquisitions.Arrival(
        "scope", "/scope/x/later.tif", "x/later.tif", "x", "f", 1, 1, ImageInfo("/l.tif")
    )
    acquisitions.enqueue(db, arrival, "/masks/later.zarr", ["cells"], now)

    assert flags.match_waiting(db) == 1
    assert flags.lower_flag(db, "later", "done", now) == 1
    assert flags.lower_flag(db, "later", "done", now) == 0


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("well_b3.tif", "Well_B03.tif"),
        ("/scope/Well-B03.tif", "Well_B03.tif"),
        ("wellb03", "Well_B03.tif"),
        ("0001_igm.tif", "0001_img.tif"),
    ],
)
def test_a_name_that_no_image_has_resembles_some(db, now, typed, meant):
    arrival = acquisitions.Arrival(
        "scope", f"/scope/{meant}", meant, "exp", f"f-{meant}", 1, 1, ImageInfo("")
    )
    acquisitions.enqueue(db, arrival, f"/masks/{meant}.zarr", ["cells"], now)

    assert flags.acquisitions_named(db, typed) == []
    assert flags.resembling(db, typed) == [meant]
    assert flags.resembling(db, "plate7.tif") == []


def test_a_flag_file_that_still_lies_there_raises_nothing_again(db, now):
    flag = flags.Flag("a.tif", "blurred", None, "flags folder", "a.flag", 7)
    assert flags.raise_flag(db, flag, now) == [1]
    flags.lower_flag(db, "a", "done", now)

    assert flags.raise_flag(db, flag, now) is None
    newer = flags.Flag("a.tif", "again", None, "flags folder", "a.flag", 8)
    assert flags.raise_flag(db, newer, now) == [1]


def test_the_review_queue_has_the_flagged_first_then_the_novel_and_the_unsure(db, now, tmp_path):
    db.execute("UPDATE targets SET novelty = 3.0, confidence = 0.5 WHERE acquisition_id = 2")
    flags.raise_flag(db, flags.Flag("a.tif", "blurred", 4, "anna"), now)

    with reader(tmp_path / "cellwatch.db") as connection:
        rows = doubts.review_queue(connection)

    assert [(row.path, row.by) for row in rows] == [
        ("/scope/a.tif", "anna"), ("/scope/b.tif", "cellwatch"),
    ]  # fmt: skip
    assert "novelty 3.0" in rows[1].why
    assert "confidence 0.50" in rows[1].why


def test_of_several_targets_each_is_taken_out_on_its_own(db, now, tmp_path):
    db.table("targets").insert({"acquisition_id": 1, "name": "nuclei", "state": "done"})
    flags.raise_flag(db, flags.Flag("b.tif"), now)
    flags.raise_flag(db, flags.Flag("a.tif"), now)

    def next_for(target):
        with reader(tmp_path / "cellwatch.db") as connection:
            return [row.id for row in doubts.to_check_out(connection, 5, target)]

    assert next_for("") == next_for("cells") == [2, 1]
    assert next_for("nuclei") == [1]  # b has none
    made = {"acquisition_id": 1, "target": "cells", "stem": "a", "is_mirrored": 0}
    later = now.replace(year=now.year + 1).isoformat()
    plane = {"position": 0, "t": 0, "z": 0}
    place = {**plane, "format": "napari", "folder": "/out/a", "checked_out_at": later}
    db.table("checkouts").insert({**made, **place})

    assert (next_for("cells"), next_for("nuclei")) == ([2], [1])


def test_the_effort_tells_the_share_done_by_hand(db, now, tmp_path):
    read = CorrectionRead(
        format="x", content_key="k", rois=10, predicted=9, added=2, removed=1, changed=1,
        true_positives=8, false_positives=1, false_negatives=2,
    )  # fmt: skip
    reviews.receive(db, drop(), read, now)

    with reader(tmp_path / "cellwatch.db") as connection:
        row = learning.effort(connection, "scope")[0]
        listed = reports.corrections(connection)[0]

    assert row.share == round(4 / 11, 4)
    assert row.ap50 == pytest.approx(8 / 11, abs=1e-6)
    assert (row.is_unseen, listed.notes) == (True, ())


def test_what_waits_for_a_person_is_found_in_time_that_grows_with_the_images(tmp_path):
    def steps(n):
        ledger = open_ledger(tmp_path / str(n))
        ledger.conn.executescript(f"""
            WITH RECURSIVE counted(i) AS
                (SELECT 1 UNION ALL SELECT i + 1 FROM counted WHERE i < {n})
            INSERT INTO acquisitions (id, watch, path, relative_path, experiment, fingerprint, size,
                mtime_ns, state, state_since, arrived_at)
            SELECT i, 'w', '/' || i, '' || i, 'e', 'f', 1, 1, 'done', 't', 't' FROM counted;
            INSERT INTO targets (acquisition_id, name, state, params, novelty, confidence)
            SELECT id, 'cells', 'done', '{{}}', 3.0, 0.5 FROM acquisitions;
            INSERT INTO corrections (file, size, mtime_ns, received_at, kind, state, state_since,
                acquisition_id, target, group_name, rois, predicted, added, removed, changed)
            SELECT '' || id, 1, 1, 't', 'labels', 'used', 't', id, 'cells', 'g', 1, 1, 0, 0, 0
            FROM acquisitions WHERE id % 2;
            INSERT INTO scores (kind, model_id, model_sha256, correction_id, content_key, ap50,
                true_positives, false_positives, false_negatives, scored_at)
            SELECT 'held_out', 'm', 's', id, 'k', 0.5, 1, 1, 1, 't' FROM corrections;
        """)
        ledger.close()
        counts = []
        with reader(tmp_path / str(n) / "cellwatch.db") as connection:
            for ask in (
                lambda: doubts.review_queue(connection),
                lambda: learning.effort(connection, "g"),
            ):
                count = 0

                def tick():
                    nonlocal count
                    count += 1

                connection.set_progress_handler(tick, 1000)
                assert ask()
                counts.append(count)
        return counts

    for few, many in zip(steps(1000), steps(4000), strict=True):
        assert many < 8 * max(1, few)  # 16 times where every image is compared with all
