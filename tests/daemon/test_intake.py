"""What intake makes of single reports, without any process."""

from pathlib import Path

import pytest

from cellwatch.config.parse import parse_config
from cellwatch.daemon.inspection import FromWatcher, Listed, PartOf
from cellwatch.daemon.intake import skip_existing, take_in
from cellwatch.records import ImageInfo
from cellwatch.storage.ledger.database import open_ledger
from cellwatch.watching.settle import Sighting
from cellwatch.watching.watcher import Finished, Gone, Unfinished

TEXT = "watch: [{folder: scope}]\noutput: {folder: out}\nstate: {folder: st}\n"


@pytest.fixture
def db(tmp_path):
    ledger = open_ledger(tmp_path)
    yield ledger
    ledger.close()


@pytest.fixture
def watched(tmp_path):
    return parse_config(TEXT, "c", tmp_path).watch[0]


def arrive(db, watched, now, name, content="f1", *, is_there=True):
    path = watched.folder / name
    if is_there:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    sighting = Sighting(name, 10, 20, 30)
    info = ImageInfo(str(path), axes="YX", shape=(9, 9))
    report = FromWatcher(watched, Finished(sighting), content, info)
    return take_in(db, report, Path("/out"), now)


def rows(db):
    sql = "SELECT relative_path, state FROM acquisitions ORDER BY id"
    return [tuple(row) for row in db.execute(sql)]


def test_files_are_parts_also_when_the_file_that_lists_them_comes_last(db, watched, now):
    for name in ("s/cells_w1_s1.tif", "s/cells_w2_s1.tif", "s/other.tif"):
        arrive(db, watched, now, name, name)
    (watched.folder / "s/cells.nd").touch()

    listed = Listed(Sighting("s/cells.nd", 5, 6, 7), is_apart=False)
    take_in(db, FromWatcher(watched, listed), Path("/out"), now)

    assert rows(db) == [
        ("s/cells_w1_s1.tif", "skipped"),
        ("s/cells_w2_s1.tif", "skipped"),
        ("s/other.tif", "queued"),
    ]
    reason = db.table("acquisitions").get(1)["reason"]
    assert reason == "it belongs to the set of s/cells.nd"


def test_a_file_that_was_renamed_while_it_is_segmented_is_asked_for_again(db, watched, now):
    arrive(db, watched, now, "a.tif", is_there=False)
    db.table("acquisitions").update(1, {"state": "running"})

    assert arrive(db, watched, now, "b.tif") == "b.tif"
    assert rows(db) == [("a.tif", "running")]

    db.table("acquisitions").update(1, {"state": "done", "finished_at": "t", "content_sha256": "s"})
    assert arrive(db, watched, now, "b.tif") == ""
    assert rows(db) == [("b.tif", "queued")]
    row = db.table("acquisitions").get(1)
    assert (row["former_store"], row["compared_with"]) == ("/out/scope/a.tif.zarr", "s")
    assert row["moved_from"].endswith("/a.tif")


def test_an_image_that_waits_keeps_its_place_in_the_queue_when_it_is_renamed(db, watched, now):
    arrive(db, watched, now, "a.tif", is_there=False)
    arrive(db, watched, now, "c.tif", "f2")

    arrive(db, watched, now, "b.tif")

    assert rows(db) == [("b.tif", "queued"), ("c.tif", "queued")]
    assert db.table("acquisitions").get(1)["former_store"] is None


def test_what_was_left_alone_stays_so_under_another_name(db, tmp_path, now):
    watched = ignoring_what_is_there(tmp_path)
    (watched.folder / "old.tif").write_bytes(b"x" * 10)
    skip_existing(db, watched, now)
    status = (watched.folder / "old.tif").stat()
    (watched.folder / "old.tif").rename(watched.folder / "new.tif")
    sighting = Sighting("new.tif", status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    info = ImageInfo(str(watched.folder / "new.tif"), axes="YX", shape=(9, 9))
    take_in(db, FromWatcher(watched, Finished(sighting), "f9", info), Path("/out"), now)

    assert rows(db) == [("new.tif", "skipped")]


def ignoring_what_is_there(tmp_path):
    text = TEXT.replace("{folder: scope}", "{folder: scope, existing: ignore}")
    watched = parse_config(text, "c", tmp_path).watch[0]
    watched.folder.mkdir()
    return watched


def test_two_files_with_one_content_are_two_images(db, watched, now):
    arrive(db, watched, now, "a.tif")
    arrive(db, watched, now, "b.tif")

    assert rows(db) == [("a.tif", "queued"), ("b.tif", "queued")]


def test_what_is_to_be_done_again_stays_so_when_it_is_renamed(db, watched, now):
    arrive(db, watched, now, "a.tif", is_there=False)
    again = {"state": "queued", "finished_at": "t", "content_sha256": "s", "compared_with": None}
    db.table("acquisitions").update(1, again)

    arrive(db, watched, now, "b.tif")

    row = db.table("acquisitions").get(1)
    assert (row["state"], row["compared_with"]) == ("queued", None)
    assert row["former_store"] == "/out/scope/a.tif.zarr"


@pytest.mark.parametrize(
    ("folder_is_gone", "pinned"), [(True, ["day1", "day2"]), (False, ["day1"])]
)
def test_the_model_of_an_experiment_goes_with_its_folder_alone(
    db, watched, now, folder_is_gone, pinned
):
    arrive(db, watched, now, "day1/a.tif", is_there=False)
    if not folder_is_gone:
        (watched.folder / "day1").mkdir(parents=True)
    pin = {"watch": "scope", "experiment": "day1", "target": "cells", "model_id": "m"}
    db.table("pins").insert({**pin, "model_sha256": "s", "pinned_by": "p", "pinned_at": "t"})

    arrive(db, watched, now, "day2/a.tif")

    found = [name for (name,) in db.execute("SELECT experiment FROM pins ORDER BY experiment")]
    assert found == pinned


def unfinished(watched, name, reason):
    return FromWatcher(watched, Unfinished(Sighting(name, 10, 20, 30), reason, is_given_up=False))


def waits(db):
    row = db.table("acquisitions").get(1)
    return row["state"], row["reason"]


def test_a_set_that_was_deleted_waits_for_nothing_and_one_whose_list_is_gone_for_that(
    db, watched, now
):
    index, part = Sighting("s/cells.nd", 5, 6, 7), Sighting("s/cells_w1_s1.tif", 5, 6, 7)
    take_in(db, unfinished(watched, "s/cells.nd", "3 files are missing"), Path("/out"), now)
    take_in(db, FromWatcher(watched, Listed(index, is_apart=False)), Path("/out"), now)
    take_in(db, FromWatcher(watched, PartOf(part, index)), Path("/out"), now)
    (watched.folder / "s").mkdir(parents=True)
    (watched.folder / part.path).touch()

    take_in(db, FromWatcher(watched, Gone("s/cells.nd")), Path("/out"), now)
    assert waits(db) == (
        "waiting",
        "cells.nd, which lists the files of the set, is not here: 1 file waits for it",
    )

    (watched.folder / part.path).unlink()
    take_in(db, FromWatcher(watched, Gone("s/cells.nd")), Path("/out"), now)
    assert waits(db) == ("missing", "it vanished before it was whole")
    assert db.table("set_files").count == 0
