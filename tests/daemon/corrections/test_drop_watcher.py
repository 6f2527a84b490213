"""Corrections dropped beside a running daemon: answered within seconds, good or bad."""

import json
import os
import re
import shutil
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellwatch.storage.corrections.export import ENDINGS, write_labels
from tests.daemon.stations import Station
from tests.discs import disc_picture
from tests.storage.corrections.test_formats import bad_pickle, huge_header, zip_bomb

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

EXTRA = """
corrections: {folder: corrections}
flags: {folder: flags}
retrain: {at: never, min_new_rois: 1}
"""
ANSWER_WITHIN_S = 60.0  # on a machine that does other things; what is measured is in the bench


class Desk(Station):
    """A station with a corrections folder, and what people do there."""

    def __init__(self, folder, model, extra=EXTRA):
        super().__init__(folder, model)
        self.config.write_text(self.config.read_text() + extra)
        self.corrections = folder / "corrections"
        self.corrections.mkdir()

    def drop(self, name, labels, tool="napari"):
        aside = self.folder / f"aside-{Path(name).name}"
        write_labels(aside, labels, tool, aside)
        place = self.corrections / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(aside, place)
        return place

    def accepted(self, name):
        path = self.corrections / f"{name}.accepted.json"
        assert self.until(path.exists, ANSWER_WITHIN_S), self.log()
        return json.loads(path.read_text())

    def rejected(self, name):
        path = self.corrections / f"{name}.rejected.txt"
        assert self.until(path.exists, ANSWER_WITHIN_S), self.log()
        return path.read_text()

    def confirm(self, name):
        number = re.search(r"corrections confirm (\d+)", self.rejected(name))[1]
        self.command("corrections", "confirm", number)

    def rows(self, sql):
        with sqlite3.connect(self.folder / "state/cellwatch.db") as db:
            return db.execute(sql).fetchall()


def truth(seed):
    return disc_picture(seed, size=96, n=5)[1]


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_model):
    desk = Desk(tmp_path_factory.mktemp("desk") / "station", tiny_model.path)
    desk.write("exp/a.tif", "exp/b.tif", "exp/c.tif", "x/twin.tif", "y/twin.tif")
    with desk.daemon():
        assert desk.until(lambda: desk.counts() == {"done": 5}), desk.log()
        yield desk


@pytest.mark.parametrize("tool", ENDINGS)
def test_a_correction_of_every_format_is_accepted(desk, tool):
    labels = truth(0)
    labels[labels == 1] = 0
    name = f"a{ENDINGS[tool]}"

    desk.drop(name, labels, tool)
    said = desk.accepted(name)

    assert (said["rois"], said["group"]) == (4, "images")
    edits = {k: said["against_the_prediction"][k] for k in ("added", "removed", "changed")}
    assert edits["removed"] >= 1
    assert said["against_the_prediction"]["ap50"] <= 0.8


def test_a_bad_file_harms_nothing_and_a_good_one_right_after_is_accepted(desk):
    for make, reason in (
        (bad_pickle, "would call"),
        (zip_bomb, "not a zip of ROIs"),
        (huge_header, "not whole|60000|declares"),
    ):
        made = make(desk.folder)
        name = made.name.replace("a_", "b_")
        shutil.move(made, desk.corrections / name)
        text = desk.rejected(name)
        assert any(part in text for part in reason.split("|")), text
        assert "What to do:" in text
        assert "a__y1024x2048h512w512_masks.tif" in text  # the table of names
        (desk.corrections / name).unlink()
        (desk.corrections / f"{name}.rejected.txt").unlink()
    assert not (desk.folder / "executed").exists()

    desk.drop("b_masks.tif", truth(1))

    assert desk.accepted("b_masks.tif")["rois"] == 5
    assert desk.status()["state"] == "running"


def test_a_later_verdict_removes_the_earlier_answer(desk):
    desk.drop("c_masks.tif", truth(2)[:50])
    assert "50 x 96" in desk.rejected("c_masks.tif")
    assert re.search(r"c_masks.tif: rejected: .*50 x 96", desk.command("explain", "c").stdout)

    time.sleep(1.1)
    desk.drop("c_masks.tif", truth(2))
    desk.accepted("c_masks.tif")

    assert not (desk.corrections / "c_masks.tif.rejected.txt").exists()


def test_two_images_of_one_name_are_told_apart_by_a_folder(desk):
    desk.drop("twin_masks.tif", truth(3))
    text = desk.rejected("twin_masks.tif")
    assert "images/x/twin.tif" in text
    assert "images/y/twin.tif" in text

    desk.drop("y/twin_masks.tif", truth(4))

    assert desk.accepted("y/twin_masks.tif")["image"].endswith("y/twin.tif")


def test_two_images_of_one_name_taken_out_together_come_back_each_to_its_own(desk, tmp_path):
    for place in ("x", "y"):
        path = str(desk.images / place / "twin.tif")
        desk.command("checkout", path, "--crop", "64", "--to", str(tmp_path))
    made = sorted(tmp_path.rglob("*_masks.tif"))
    assert len({path.name for path in made}) == 2

    for path in made:
        shown = tifffile.imread(path.with_name(f"{path.parent.name}.tif"))
        shutil.copy(path, desk.corrections / path.name)
        desk.confirm(path.name)
        said = desk.accepted(path.name)
        whole = tifffile.imread(said["image"])
        assert any(
            (whole[y : y + 64, x : x + 64] == shown).all() for y in range(33) for x in range(33)
        )


def test_a_drop_in_the_folder_of_another_image_is_not_taken_for_one_that_was_handed_out(
    desk, tmp_path
):
    def is_done(name):
        sql = "SELECT 1 FROM acquisitions WHERE relative_path = '{}' AND state = 'done'"
        return bool(desk.rows(sql.format(name)))

    desk.write("exp/late2.tif", seed=69)
    assert desk.until(lambda: is_done("exp/late2.tif"))
    desk.command("checkout", "late2.tif", "--to", str(tmp_path))
    desk.write("z/late2.tif", seed=70)
    assert desk.until(lambda: is_done("z/late2.tif"))

    desk.drop("z/late2_masks.tif", truth(70))

    assert desk.accepted("z/late2_masks.tif")["image"].endswith("z/late2.tif")


def test_promise_8_names_that_are_no_utf_8_end_no_daemon(desk):
    odd = os.fsdecode(b"unk\xff_masks.tif")
    places = [desk.corrections / odd, desk.corrections / os.fsdecode(b"ann\xff") / "b_masks.tif"]
    for place in places:
        place.parent.mkdir(exist_ok=True)
        aside = desk.folder / "aside.tif"
        tifffile.imwrite(aside, truth(1).astype(np.uint16))
        aside.rename(place)
    answer = desk.corrections / f"{odd}.rejected.txt"
    assert desk.until(answer.exists, ANSWER_WITHIN_S), desk.log()
    assert "unk\\xff" in answer.read_text()

    desk.drop("a_masks.tif", truth(0))
    desk.accepted("a_masks.tif")
    assert desk.status()["state"] == "running"
    for place in places:
        place.unlink()


def test_an_annotator_has_a_sub_folder_and_the_agreement_is_told(desk):
    labels = truth(1)
    labels[labels == 2] = 0

    desk.drop("bob/b_masks.tif", labels)
    said = desk.accepted("bob/b_masks.tif")

    assert "by bob" in said["use"]
    assert said["agreement_with_the_other_look"] == pytest.approx(0.8)


def test_a_correction_of_an_image_that_is_yet_to_come_waits_for_it(desk):
    desk.drop("late_masks.tif", truth(60))
    assert "no image named 'late' is known yet" in desk.rejected("late_masks.tif")

    desk.write("exp/late.tif", seed=60)

    assert desk.accepted("late_masks.tif")["rois"] == 5
    assert not (desk.corrections / "late_masks.tif.rejected.txt").exists()


def test_one_run_takes_in_what_waited_for_an_image_that_it_segments(tmp_path, tiny_model):
    desk = Desk(tmp_path / "s", tiny_model.path)
    desk.drop("a_masks.tif", truth(0))
    desk.command("run", "--once")
    assert "no image named 'a' is known yet" in desk.rejected("a_masks.tif")

    desk.write("a.tif")
    desk.command("run", "--once")

    assert desk.accepted("a_masks.tif")["rois"] == 5


def test_only_the_checked_region_counts(desk):
    desk.write("exp/part.tif", seed=61)
    labels = truth(61)
    half = labels.copy()
    half[48:] = 0
    region = np.zeros_like(labels)
    region[:48] = 1

    desk.drop("part_masks.tif", half)
    whole = desk.accepted("part_masks.tif")["against_the_prediction"]
    (desk.corrections / "part_masks.tif.accepted.json").unlink()
    desk.drop("part_region.tif", region)
    assert "only this region" in desk.accepted("part_region.tif")["use"]
    said = desk.accepted("part_masks.tif")

    assert "only the checked region is used (50% of the plane)" in said["notes"]
    assert said["against_the_prediction"]["rois"] < whole["rois"]


def test_an_empty_mask_counts_when_its_name_says_so(desk):
    desk.write("exp/void.tif", seed=62)
    nothing = np.zeros((96, 96), np.int32)

    desk.drop("void_masks.tif", nothing)
    assert "end the name in _empty" in desk.rejected("void_masks.tif")
    desk.drop("void_empty.tif", nothing)

    assert desk.accepted("void_empty.tif")["rois"] == 0


def test_a_flag_by_file_and_by_command_stands_in_the_review_queue(desk):
    (desk.folder / "flags").mkdir(exist_ok=True)
    (desk.folder / "flags" / "a.flag.txt").write_text("debris in the corner\nmore")
    (desk.folder / "flags" / "c.tif.flag").touch()
    assert "flagged" in desk.command("flag", "b.tif", "--why", "doubled", "--roi", "2").stdout

    def flagged():
        rows = json.loads(desk.command("review", "--json").stdout)
        return {(r["path"][-5:], r["why"]) for r in rows if r["by"] != "cellwatch"}

    wanted = {("a.tif", "debris in the corner"), ("b.tif", "doubled"), ("c.tif", None)}
    assert desk.until(lambda: flagged() == wanted, ANSWER_WITHIN_S), flagged()
    assert "took 1 flag off" in desk.command("unflag", "b").stdout
    assert desk.command("unflag", "b", check=False).returncode == 1


@pytest.mark.parametrize("tool", ENDINGS)
def test_what_is_checked_out_comes_back_under_its_name(desk, tool, tmp_path):
    words = ("checkout", "b.tif", "--format", tool, "--crop", "64", "--to", str(tmp_path))
    folder = desk.command(*words).stdout.strip()
    (made,) = tmp_path.rglob(f"*{ENDINGS[tool]}")
    assert folder in str(made)
    assert (made.parent / "README.txt").read_text().count(made.name) >= 2
    assert tifffile.imread(made.with_name(f"{made.parent.name}.tif")).shape == (64, 64)

    shutil.copy(made, desk.corrections / made.name)
    assert "it is what was handed out" in desk.rejected(made.name)
    desk.confirm(made.name)
    said = desk.accepted(made.name)

    edits = said["against_the_prediction"]
    assert (edits["added"], edits["removed"], edits["changed"], edits["ap50"]) == (0, 0, 0, 1.0)


def test_the_short_id_alone_says_what_a_file_is_a_correction_of(desk, tmp_path):
    words = ("checkout", "b.tif", "--crop", "64", "--to", str(tmp_path))
    first, second = (Path(desk.command(*words).stdout.strip()) for _ in range(2))
    assert first != second
    region = json.loads(desk.command("checkout", "a.tif", "--json", "--to", str(tmp_path)).stdout)
    labels = tifffile.imread(first / f"{first.name}_masks.tif").astype(np.int32)
    labels[labels == 1] = 0
    short_id = first.name.rpartition("~")[2]

    desk.drop(f"exp/of anything~{short_id.upper()}.anna_masks.tif", labels)
    said = desk.accepted(f"exp/of anything~{short_id.upper()}.anna_masks.tif")
    desk.drop("ghost~0000_masks.tif", labels)

    assert said["image"].endswith("b.tif")
    assert said["target"] == "cells"
    assert "by anna" in said["use"]
    assert region[0]["short_id"] not in first.name
    assert "taken out of this station as ~0000" in desk.rejected("ghost~0000_masks.tif")


def test_a_second_look_is_handed_out_mirrored_and_measures_the_annotator(desk, tmp_path):
    desk.drop("c_masks.tif", truth(2))
    desk.accepted("c_masks.tif")
    desk.command("checkout", "c.tif", "--again", "--to", str(tmp_path))
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("again~")
    assert not tifffile.imread(folder / f"{folder.name}_masks.tif").any()
    shown = tifffile.imread(folder / f"{folder.name}.tif")
    assert (shown[::-1, ::-1] == tifffile.imread(desk.images / "exp/c.tif")).all()

    name = f"{folder.name}_masks.tif"
    desk.drop(name, np.ascontiguousarray(truth(2)[::-1, ::-1]))
    said = desk.accepted(name)

    assert said["agreement_with_the_other_look"] == 1.0
    assert "second look" in said["use"]


def test_a_second_look_is_of_the_part_that_was_corrected(desk, tmp_path):
    desk.drop("b__y8x16h48w64_masks.tif", truth(1)[8:56, 16:80])
    desk.accepted("b__y8x16h48w64_masks.tif")
    desk.command("checkout", "b.tif", "--again", "--to", str(tmp_path))
    (folder,) = tmp_path.iterdir()

    shown = tifffile.imread(folder / f"{folder.name}.tif")

    picture = tifffile.imread(desk.images / "exp/b.tif")
    assert (shown[::-1, ::-1] == picture[8:56, 16:80]).all()


def test_a_missing_answer_is_written_at_the_next_start(tmp_path, tiny_model):
    desk = Desk(tmp_path / "s", tiny_model.path)
    desk.write("a.tif")
    with desk.daemon():
        assert desk.until(lambda: desk.counts() == {"done": 1})
        desk.drop("a_masks.tif", truth(0))
        desk.accepted("a_masks.tif")
    (desk.corrections / "a_masks.tif.accepted.json").unlink()

    with desk.daemon():
        assert desk.accepted("a_masks.tif")["rois"] == 5

    assert desk.rows("SELECT count(*) FROM corrections") == [(1,)]


def test_requests_are_carried_out_without_a_daemon(tmp_path, tiny_model):
    desk = Desk(tmp_path / "s", tiny_model.path)
    desk.write("a.tif")
    desk.command("run", "--once")

    assert "flagged" in desk.command("flag", "a.tif").stdout
    assert desk.rows("SELECT count(*) FROM flags WHERE acquisition_id = 1") == [(1,)]
    assert "no flag" in desk.command("unflag", "ghost", check=False).stderr
    assert desk.command("models", "promote", "nosuch", check=False).returncode == 2
    states = [state for (state,) in desk.rows("SELECT state FROM requests ORDER BY id")]
    assert states == ["done", "refused", "refused"]
