from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from cellwatch.daemon import supervisor
from cellwatch.records import (
    AcquisitionState,
    ImageInfo,
    ModelChoice,
    Outcome,
    TargetResult,
    Trouble,
)
from cellwatch.storage.ledger import (
    acquisitions,
    attempts,
    places,
    queue,
    recovery,
    revisits,
    service,
)
from cellwatch.storage.ledger.database import open_ledger
from cellwatch.storage.reports import station
from cellwatch.storage.reports.station import LEDGER

LEASE = timedelta(minutes=5)
FACTS = {"cells": {"model_id": "m", "model_sha256": "s", "params": "{}"}}


@pytest.fixture
def db(tmp_path):
    ledger = open_ledger(tmp_path)
    yield ledger
    ledger.close()


def arrival(name="a.tif", content="f1"):
    path = f"/scope/{name}"
    return acquisitions.Arrival("scope", path, name, "e", content, 10, 20, ImageInfo(path))


def enqueue(db, now, name="a.tif", content="f1"):
    return acquisitions.enqueue(db, arrival(name, content), f"/out/{name}.zarr", ["cells"], now)


def claim(db, now):
    return queue.claim(db, device="cpu", worker_pid=1, now=now, lease=LEASE)


def state(db, key=1):
    return db.table("acquisitions").get(key)["state"]


def test_the_same_content_under_the_same_name_is_queued_once(db, now):
    assert enqueue(db, now) == 1
    assert enqueue(db, now) is None
    assert db.execute("SELECT count(*) FROM acquisitions").fetchone()[0] == 1


def test_acquisitions_are_claimed_in_their_order_and_counted_before_the_work(db, now):
    for name in ("a.tif", "b.tif"):
        enqueue(db, now, name)

    first, second, none = (claim(db, now) for _ in range(3))

    assert (first.path, second.path, none) == ("/scope/a.tif", "/scope/b.tif", None)
    assert db.table("acquisitions").get(1)["attempts"] == 1
    assert state(db) == "running"


def test_masks_are_recorded_with_what_made_them(db, now):
    enqueue(db, now)
    claim(db, now)
    why = ModelChoice("auto", "s", "phase", ({"image": "a", "cluster": "phase", "distance": 0.1},))
    result = TargetResult(
        "cells", 7, 17.5, ({"index": 0, "name": "DAPI"},), ("a note",), "m", "s", 0.8, why
    )

    queue.finish(db, Outcome(1, content_sha256="c", targets=(result,)), FACTS, now)

    mask = next(iter(db.query("SELECT * FROM masks")))
    assert (mask["rois"], mask["model_id"], mask["notes"]) == (7, "m", '["a note"]')
    assert (mask["novelty"], mask["cluster"]) == (0.8, "phase")
    assert state(db) == "done"
    assert db.table("attempts").get(1)["outcome"] == "done"


def test_a_file_at_fault_is_not_tried_again(db, now):
    enqueue(db, now)
    claim(db, now)

    queue.fail(db, Outcome(1, reason="cut", trouble=Trouble.FILE), now)

    assert state(db) == "failed"
    assert claim(db, now + timedelta(days=1)) is None
    assert next(iter(db.query("SELECT reason FROM failures")))["reason"] == "cut"


def test_other_failures_are_tried_again_later_and_quarantined_at_last(db, now):
    enqueue(db, now)
    for attempt in range(1, attempts.MAX_ATTEMPTS + 1):
        assert claim(db, now) is not None
        ended = queue.fail(db, Outcome(1, reason="odd", trouble=Trouble.OTHER), now)
        assert claim(db, now) is None
        now += timedelta(hours=attempt)

    assert ended == AcquisitionState.QUARANTINED
    assert claim(db, now) is None


def test_a_full_disk_blocks_without_using_up_attempts(db, now):
    enqueue(db, now)
    for _ in range(10):
        assert claim(db, now) is not None
        queue.fail(db, Outcome(1, reason="full", trouble=Trouble.SURROUNDINGS), now)
        assert state(db) == "blocked"
        now += timedelta(minutes=10)

    assert db.table("acquisitions").get(1)["attempts"] == 0


def test_the_third_death_of_the_worker_quarantines(db, now):
    enqueue(db, now)
    states = []
    for _ in range(3):
        claim(db, now)
        states.append(recovery.worker_died(db, 1, "SIGSEGV", now))

    assert states == ["queued", "queued", "quarantined"]
    assert "SIGSEGV" in db.table("acquisitions").get(1)["reason"]


def test_what_was_in_flight_when_the_daemon_died_is_queued_again_and_not_counted(db, now):
    enqueue(db, now)
    for deaths in (1, 2, 3):
        claim(db, now)
        assert recovery.recover(db, now) == ["/out/a.tif.zarr"]
        assert (state(db), db.table("acquisitions").get(1)["attempts"]) == ("queued", 0)
        assert db.table("acquisitions").get(1)["daemon_deaths"] == deaths
    claim(db, now)
    recovery.recover(db, now)

    assert state(db) == "quarantined"


def test_what_was_in_flight_at_three_deaths_waits_for_the_others(db, now):
    for name in ("a.tif", "b.tif"):
        enqueue(db, now, name)
    for _ in range(3):
        assert claim(db, now).path == "/scope/a.tif"
        recovery.recover(db, now)

    assert claim(db, now).path == "/scope/b.tif"


def test_a_job_handed_back_keeps_its_attempts(db, now):
    enqueue(db, now)
    claim(db, now)

    recovery.hand_back(db, 1, now)

    assert (state(db), db.table("acquisitions").get(1)["attempts"]) == ("queued", 0)


def test_an_overwritten_file_is_a_new_acquisition_that_supersedes_the_old(db, now):
    enqueue(db, now)
    claim(db, now)
    queue.finish(db, Outcome(1, targets=(TargetResult("cells", 1, 17.0),)), FACTS, now)

    assert enqueue(db, now, content="f2") == 2

    assert db.table("acquisitions").get(1)["superseded_by"] == 2
    assert state(db, 1) == "done"
    assert db.execute("SELECT rois FROM targets WHERE acquisition_id = 1").fetchone()[0] == 1


def test_a_file_overwritten_before_its_turn_is_skipped(db, now):
    enqueue(db, now)
    enqueue(db, now, content="f2")

    assert state(db, 1) == "skipped"
    assert claim(db, now).acquisition_id == 2


def test_what_failed_is_tried_again_when_its_file_is_touched_or_the_daemon_starts(db, now):
    enqueue(db, now)
    for again in (lambda: enqueue(db, now), lambda: recovery.retry_failed(db, now)):
        claim(db, now)
        queue.fail(db, Outcome(1, reason="no channel", trouble=Trouble.FILE), now)

        assert again() == 1
        assert state(db) == "queued"


def test_a_done_file_with_a_new_time_is_looked_at_again(db, now):
    enqueue(db, now)
    claim(db, now)
    queue.finish(db, Outcome(1, targets=(TargetResult("cells", 1, 17.0),)), FACTS, now)
    touched = replace(arrival(), mtime_ns=21)

    assert acquisitions.enqueue(db, arrival(), "/out/a.tif.zarr", ["cells"], now) is None
    assert acquisitions.enqueue(db, touched, "/out/a.tif.zarr", ["cells"], now) == 1
    assert state(db) == "queued"


def test_a_file_that_gets_back_an_earlier_content_is_segmented_again(db, now):
    for content in ("f1", "f2", "f1"):
        enqueue(db, now, content=content)

    assert (state(db, 1), state(db, 2)) == ("queued", "skipped")
    assert db.table("acquisitions").get(1)["superseded_by"] is None
    assert claim(db, now).acquisition_id == 1


def test_a_file_overwritten_while_it_is_segmented_is_never_claimed_again(db, now):
    enqueue(db, now)
    claim(db, now)
    enqueue(db, now, content="f2")

    recovery.worker_died(db, 1, "SIGKILL", now)

    assert state(db, 1) == "skipped"
    assert claim(db, now).acquisition_id == 2
    assert list(db.query("SELECT * FROM failures")) == []


def test_undecodable_names_and_impossible_times_go_through_the_ledger(db, now):
    name = "a\udcff %.tif"
    odd = replace(arrival(name), mtime_ns=2**70)

    acquisitions.enqueue(db, odd, "/out/a~1.tif.zarr", ["cells"], now)

    assert claim(db, now).path == f"/scope/{name}"
    assert db.table("acquisitions").get(1)["path"] == "raw:/scope/a%FF%20%25.tif"


def test_a_waiting_file_that_vanishes_is_missing(db, now):
    acquisitions.note_waiting(db, arrival(content=""), AcquisitionState.WAITING, "cut", now)

    acquisitions.note_gone(db, "scope", "/scope/a.tif", now)

    assert state(db) == "missing"


def test_a_growing_file_has_one_row_that_becomes_the_acquisition(db, now):
    waiting = arrival(content="")
    for reason in ("growing", "growing", "cut"):
        acquisitions.note_waiting(db, waiting, AcquisitionState.WAITING, reason, now)

    assert enqueue(db, now) == 1
    assert db.execute("SELECT count(*) FROM acquisitions").fetchone()[0] == 1
    assert db.table("acquisitions").get(1)["reason"] is None


def test_names_that_differ_in_case_or_extension_do_not_share_a_place(db, now):
    enqueue(db, now, "a.tif")

    assert places.place_is_free(db, "/out/a.tif.zarr", "/scope/a.tif")
    assert not places.place_is_free(db, "/out/A.tif.zarr", "/scope/A.tif")
    assert not places.place_is_free(db, "/out/a.png.zarr", "/scope/a.png")
    assert places.place_is_free(db, "/out/ab.tif.zarr", "/scope/ab.tif")
    enqueue(db, now, "Å.tif", "f2")
    assert not places.place_is_free(db, "/out/å.tif.zarr", "/scope/å.tif")
    assert not places.place_is_free(db, "/out/A\u030a.tif.zarr", "/scope/A\u030a.tif")


def test_counts_name_every_state_also_at_zero(db, now, tmp_path):
    enqueue(db, now)

    with station.reader(tmp_path / LEDGER) as read:
        counts = station.counts(read)

    assert set(counts) == {s.value for s in AcquisitionState}
    assert (counts["queued"], counts["done"]) == (1, 0)


def test_a_folder_that_is_no_longer_named_is_not_shown(tmp_path, now):
    db = open_ledger(tmp_path)
    for name in ("scope", "typo"):
        service.folder_scanned(db, name, f"/{name}", files=0, reason="it is gone", now=now)

    service.folders_named(db, ["scope"])

    with station.reader(tmp_path / LEDGER) as read:
        assert [row.name for row in station.folders(read)] == ["scope"]
    service.folder_scanned(db, "typo", "/typo", files=3, reason="", now=now)
    with station.reader(tmp_path / LEDGER) as read:
        assert [row.state for row in station.folders(read)] == ["offline", "watching"]
    db.close()


def test_f7_a_file_that_was_only_touched_keeps_its_masks_and_lets_new_images_go_first(db, now):
    enqueue(db, now)
    claim(db, now)
    queue.finish(db, Outcome(1, content_sha256="abc", targets=(TargetResult("cells", 1, 30.0),)),
                 FACTS, now)  # fmt: skip
    touched = replace(arrival(), ctime_ns=9, mtime_ns=21)
    acquisitions.enqueue(db, touched, "/out/a.tif.zarr", ["cells"], now)
    enqueue(db, now, "new.tif", "f2")

    first, second = claim(db, now), claim(db, now)

    assert (first.path, first.compared_with) == ("/scope/new.tif", "")
    assert (second.path, second.compared_with) == ("/scope/a.tif", "abc")
    queue.keep_result(db, 1, now)
    assert state(db) == "done"
    outcomes = db.execute("SELECT outcome FROM attempts WHERE acquisition_id = 1").fetchall()
    assert outcomes == [("done",), ("unchanged",)]


def test_f58_a_lack_of_memory_is_waited_for_and_never_quarantines(db, now):
    enqueue(db, now)
    for n in range(8):
        assert claim(db, now).worker_deaths == min(n, 1)
        outcome = Outcome(1, "memory ran out", Trouble.MEMORY)
        assert queue.fail(db, outcome, now) == AcquisitionState.BLOCKED
        again = db.execute("SELECT retry_at FROM acquisitions").fetchone()[0]
        waits = timedelta(minutes=min(2**n, 10))
        assert again == (now + waits).isoformat(timespec="milliseconds")
        now += waits


def test_a_companion_whose_name_no_file_system_has_is_not_there(db, now):
    enqueue(db, now)
    db.table("acquisitions").update(1, {"state": "done", "lacks": f"/scope/{'x' * 300}.ome"})

    assert revisits.redo_with_metadata(db, "scope", now) == 0


def test_f90_another_folder_with_the_same_names_is_not_the_same_folder_moved(db, now):
    for name, content in (("a.tif", "f1"), ("b.tif", "f2")):
        enqueue(db, now, name, content)
    service.folder_scanned(db, "scope", "/scope", files=2, reason="", now=now)

    assert service.root_moved(db, "scope", "/feb", lambda path, mark: False) == 0
    moved = service.root_moved(db, "scope", "/new", lambda path, mark: mark in ("f1", "f2"))

    assert moved == 2
    assert [path for (path,) in db.execute("SELECT path FROM acquisitions")] == [
        "/new/a.tif", "/new/b.tif",
    ]  # fmt: skip


def test_f92_a_backlog_does_not_hide_the_newest_image(db, now):
    for n in range(3):
        enqueue(db, now, f"{n}.tif", f"f{n}")

    newest = queue.claim(db, device="cpu", worker_pid=1, now=now, lease=LEASE, is_newest=True)

    assert newest.path == "/scope/2.tif"
    assert claim(db, now).path == "/scope/0.tif"


def test_f75_when_the_clock_is_set_back_by_years_nothing_waits_for_them(
    db, now, monkeypatch, caplog
):
    enqueue(db, now)
    claim(db, now)
    queue.fail(db, Outcome(1, reason="full", trouble=Trouble.SURROUNDINGS), now)
    years_before = now - timedelta(days=2000)
    assert claim(db, years_before) is None

    life = SimpleNamespace(db=db, clock_ahead=None)
    monkeypatch.setattr(supervisor, "_now", lambda: years_before)
    for ahead in (0.0, 30.0, -2000 * 86_400.0):  # a start, a little step, years
        supervisor._look_at_clock(life, ahead)
    assert [r.message.split(":")[0] for r in caplog.records] == [
        "the clock of this machine jumped by -172800030 s"
    ]

    assert claim(db, years_before).path == "/scope/a.tif"


def test_c2_what_an_image_was_read_as_is_what_the_ledger_says_of_it(db, now):
    enqueue(db, now)
    claim(db, now)
    read = ImageInfo("/scope/a.tif", axes="ZYX", shape=(3, 8, 8), pixel_size_um=0.5)
    results = (TargetResult("cells", 1, 30.0),)

    queue.finish(db, Outcome(1, targets=results, info=read), FACTS, now)

    row = db.table("acquisitions").get(1)
    assert (row["axes"], row["shape"], row["pixel_size_um"]) == ("ZYX", "[3, 8, 8]", 0.5)
