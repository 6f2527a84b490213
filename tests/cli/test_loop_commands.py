"""The commands of the loop as people type them, beside a running daemon and without one."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from cellwatch.cli.main import MODULES, app_for
from cellwatch.storage.datasets.pairs import find_pairs
from tests.daemon.corrections.test_drop_watcher import Desk, truth

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EXTRA = """
corrections: {folder: corrections}
flags: {folder: flags}
retrain: {at: never, min_new_rois: 1, budget: BUDGET s}
"""


def extra(budget):
    return EXTRA.replace("BUDGET", str(budget))


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_model, night_budget):
    """Three images corrected by hand and trained on once, with no daemon running."""
    desk = Desk(tmp_path_factory.mktemp("loop") / "station", tiny_model.path, extra(night_budget))
    desk.write(*[f"exp/{n}.tif" for n in range(3)])
    desk.command("run", "--once")
    for n in range(3):
        labels = truth(n)
        labels[labels == 1] = 0
        desk.drop(f"{n}_masks.tif", labels)
    desk.command("run", "--once")
    desk.trained = desk.command("retrain", "--now")
    return desk


def test_a_training_without_a_daemon_runs_here_and_says_what_it_does(desk):
    assert "no daemon runs: training here" in desk.trained.stderr
    history = json.loads(desk.command("models", "history", "--json").stdout)

    assert len(history) == 1, desk.trained.stderr
    assert f"{history[0]['verdict']}: {history[0]['reason']}" in desk.trained.stdout
    assert desk.rows("SELECT state FROM runs WHERE kind = 'asked'") == [("ended",)]


def test_the_effort_is_told_and_drawn(desk, tmp_path):
    plot = tmp_path / "effort.png"
    told = desk.command("effort", "--plot", str(plot)).stdout
    facts = json.loads(desk.command("effort", "--json").stdout)[0]

    assert re.search(r"images: .*(pays|judged|not used)", told)
    assert [row["removed"] for row in facts["images"]] == [1, 1, 1]
    assert all(row["is_unseen"] for row in facts["images"])
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_corrections_go_out_as_pairs_and_come_in_again(desk, tmp_path, tiny_model, night_budget):
    desk.command("corrections", "export", str(tmp_path / "pairs"))

    pairs = find_pairs(tmp_path / "pairs")
    assert len(pairs) == 3
    assert tifffile.imread(pairs[0].masks).max() == 4

    with sqlite3.connect(desk.folder / "state/cellwatch.db") as db:
        db.execute("UPDATE sides SET side = 'held_out' WHERE rowid = 1")
    desk.command("corrections", "export", str(tmp_path / "apart"))
    with sqlite3.connect(desk.folder / "state/cellwatch.db") as db:
        db.execute("UPDATE sides SET side = 'train'")
    assert len(find_pairs(tmp_path / "apart")) == 2
    assert len(find_pairs(tmp_path / "apart/held_out")) == 1

    other = Desk(tmp_path / "other", tiny_model.path, extra(night_budget))
    other.write(*[f"exp/{n}.tif" for n in range(3)])
    other.command("run", "--once")
    (tmp_path / "old").mkdir()
    for number, pair in enumerate(pairs):
        shutil.copy(pair.masks, tmp_path / "old" / f"{number}_cp_masks.tif")
    assert "copied 3" in other.command("corrections", "import", str(tmp_path / "old")).stderr
    other.command("run", "--once")
    states = dict(other.rows("SELECT file, state FROM corrections"))
    assert [states[f"{n}_cp_masks.tif"] for n in range(3)] == ["trainable"] * 3


def test_an_export_sets_aside_what_counts_no_more(desk, tmp_path):
    desk.command("corrections", "export", str(tmp_path / "pairs"))
    (tmp_path / "pairs/00001-notes_of_mine.tif").touch()
    (key, file) = desk.rows("SELECT id, file FROM corrections ORDER BY id")[0]
    with sqlite3.connect(desk.folder / "state/cellwatch.db") as db:
        db.execute("UPDATE corrections SET state = 'withdrawn' WHERE id = ?", [key])
    said = desk.command("corrections", "export", str(tmp_path / "pairs")).stderr
    with sqlite3.connect(desk.folder / "state/cellwatch.db") as db:
        db.execute("UPDATE corrections SET state = 'used' WHERE id = ?", [key])

    assert "2 files of corrections that are no longer active are in" in said
    assert len(list((tmp_path / "pairs").glob("*_img.tif"))) == 2
    assert (tmp_path / "pairs/00001-notes_of_mine.tif").exists()
    aside = sorted(path.name for path in (tmp_path / "pairs/.superseded").iterdir())
    assert aside == [f"{key:05d}-{file[0]}_img.tif", f"{key:05d}-{file[0]}_masks.tif"]


def test_the_audit_finds_nothing(desk):
    facts = json.loads(desk.command("corrections", "audit", "--json").stdout)

    assert facts["leaks"] == []
    assert facts["scores"] >= 3


def test_one_correction_is_shown_and_withdrawn(desk):
    shown = desk.command("corrections", "show", "1").stdout
    name = desk.rows("SELECT file FROM corrections WHERE id = 1")[0][0]
    assert name in shown
    assert "withdrawn" in desk.command("corrections", "withdraw", "1").stdout
    assert not (desk.corrections / f"{name}.accepted.json").exists()
    assert desk.command("corrections", "show", "99", check=False).returncode == 1


def test_a_dry_run_trains_nothing_and_says_what_is_missing(desk):
    said = json.loads(desk.command("retrain", "--dry-run", "--json").stdout)

    assert said[0]["base"] == "tiny"
    assert {row["image"] for row in said[0]["corrections"]} <= {f"exp/{n}.tif" for n in range(3)}
    assert {row["use"] for row in said[0]["corrections"]} == {"trains"}
    assert desk.command("retrain", check=False).returncode == 2


def test_the_list_says_which_of_two_corrections_counts(desk, tmp_path):
    def listed():
        rows = json.loads(desk.command("corrections", "list", "--all", "--json").stdout)
        return {row["file"]: row["is_in_effect"] for row in rows}

    first, other = sorted(file for file, counts in listed().items() if counts)[:2]
    labels = truth(int(first[0]))
    labels[labels == 2] = 0
    desk.drop(f"ben/{first}", labels)
    desk.command("run", "--once")
    facts = listed()
    told = desk.command("corrections", "list").stdout.splitlines()

    assert [facts[file] for file in (first, f"ben/{first}", other)] == [False, True, True]
    desk.command("corrections", "export", str(tmp_path))
    assert len(find_pairs(tmp_path / "others")) == 1
    unused = [line for line in told if "another applies" in line]
    assert [first in line and "ben/" not in line for line in unused] == [True]


def test_the_next_images_are_others_than_those_that_are_out(desk, tmp_path):
    desk.command("flag", "2.tif", "--why", "doubled")
    words = ("checkout", "--next", "1", "--to", str(tmp_path / "out"))
    first = desk.command(*words).stdout.strip()
    assert "Flagged: doubled" in next(iter((tmp_path / "out").glob("2~*/README.txt"))).read_text()
    (row,) = json.loads(desk.command("review", "--json").stdout)[:1]
    assert row["taken_out"]

    others = []
    while (again := desk.command(*words, check=False)).returncode == 0:
        others.append(again.stdout.strip())

    assert again.returncode == 1
    assert len(others) == len(set(others))
    assert not [said for said in others if "out/2~" in said]
    assert "every image that waits for review was corrected or taken out" in again.stderr
    assert "out/2~" in first
    desk.command("unflag", "2.tif")


def test_a_training_without_a_daemon_is_given_up_from_another_terminal(desk):
    words = ["retrain", "images", "--now", "--config", str(desk.config)]
    process = subprocess.Popen(
        [sys.executable, "-m", "cellwatch", *words], stderr=subprocess.PIPE, text=True
    )
    running = "SELECT count(*) FROM runs WHERE state = 'running'"
    assert desk.until(lambda: desk.rows(running) == [(1,)])
    told = desk.command("status", check=False).stdout
    refused = desk.command("run", "--once", check=False)

    said = desk.command("retrain", "images", "--cancel").stdout

    process.communicate(timeout=60)
    assert f"cellwatch retrain (pid {process.pid} on" in told
    assert "continues when" not in told
    assert (refused.returncode, "it ends by itself: wait for it" in refused.stderr) == (75, True)
    assert (process.returncode, "is cancelled" in said) == (1, True)
    assert desk.rows("SELECT state FROM runs ORDER BY id DESC LIMIT 1") == [("failed",)]
    assert "cancelled by" in desk.command("models", "history").stdout
    assert "last training was cancelled" in desk.command("status", check=False).stdout


def test_an_image_that_is_gone_keeps_nobody_from_the_next(desk, tmp_path):
    gone = desk.images / "exp/1.tif"
    for name in ("1.tif", "0.tif"):
        desk.command("flag", name)
    gone.rename(tmp_path / "away.tif")

    made = desk.command("checkout", "--next", "1", "--to", str(tmp_path / "out"))
    alone = desk.command("checkout", "1.tif", "--to", str(tmp_path / "out"), check=False)

    (tmp_path / "away.tif").rename(gone)
    for name in ("1.tif", "0.tif"):
        desk.command("unflag", name)
    assert "out/0~" in made.stdout
    assert f"left out {gone}" in made.stderr
    assert alone.returncode == 1


def test_everything_that_is_known_of_an_image_is_told_by_its_stem(desk):
    told = desk.command("explain", "0").stdout
    assert re.search(r"correction \d+ 0_masks.tif", told)
    assert "experiment exp get tiny for cells" in told


def test_the_models_of_the_station_are_listed_where_its_configuration_is_exported(
    desk, monkeypatch
):
    monkeypatch.setenv("CELLWATCH_CONFIG", str(desk.config))
    (made,) = desk.rows("SELECT model_id FROM runs WHERE state = 'ended'")[0]
    listed = subprocess.run(
        [sys.executable, "-m", "cellwatch", "models", "list", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert made in {card["id"] for card in json.loads(listed.stdout)}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("checkout", "ghost"), 1, "no image 'ghost' is known"),
        (("checkout",), 2, "name an image, or say --next N"),
        (("checkout", "1", "--next", "2"), 2, "not both"),
        (("checkout", "1", "--again", "--crop", "64"), 2, "leave --crop out"),
        (("retrain", "--cancel"), 1, "no training is under way or waits"),
        (("checkout", "1", "--to", "STATION/images/exp"), 2, "a folder of the station"),
        (("checkout", "1", "--to", "STATION/other/../images/exp"), 2, "a folder of the station"),
        (("checkout", "1", "--to", "STATION/state"), 2, "a folder of the station"),
        (("corrections", "list", "--group", "ghosts"), 1, "there is no group 'ghosts'"),
        (("corrections", "export", "STATION/corrections/x"), 2, "a folder of the station"),
        (("checkout", "1", "--plane", "x"), 2, "is not POSITION,T,Z"),
        (("checkout", "1", "--plane", "0,0,9"), 1, "has no plane"),
        (("checkout", "1", "--target", "ghosts"), 2, "there is no 'ghosts'"),
        (("session", "ghosts"), 1, "there is no group 'ghosts'"),
        (("session", "images"), 1, "no daemon is running to read corrections"),
        (("effort", "ghosts"), 1, "there is no group 'ghosts'"),
        (("models", "promote", "ghost"), 2, "there is no model 'ghost'"),
        (("models", "rollback", "ghosts"), 1, "there is no group 'ghosts'"),
        (("rerun", "ghosts"), 1, "there is no experiment 'ghosts'"),
        (("corrections", "import", "nowhere"), 2, "is not a folder"),
    ],
)
def test_mistakes_are_told_in_one_line(desk, words, code, message, tmp_path):
    words = [word.replace("STATION", str(desk.folder)) for word in words]
    done = desk.command(*words, check=False, cwd=tmp_path)

    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def named_in(app):
    commands = {c.name or c.callback.__name__ for c in app.registered_commands}
    return commands | {group.name for group in app.registered_groups}


def test_every_command_is_known_to_the_help():
    names = named_in(app_for())
    for module, promised in MODULES.items():
        alone = app_for(promised[0])
        assert named_in(alone) == set(promised), module

    assert {
        "flag",
        "unflag",
        "review",
        "checkout",
        "session",
        "retrain",
        "rerun",
        "effort",
    } <= names


@pytest.mark.drill  # trains twice
def test_a_session_hands_out_trains_and_hands_out_again(tmp_path, tiny_model, night_budget):
    desk = Desk(tmp_path / "s", tiny_model.path, extra(night_budget // 2))
    desk.write(*[f"exp/{n}.tif" for n in range(3)])
    with desk.daemon():
        assert desk.until(lambda: desk.counts() == {"done": 3}), desk.log()
        words = ["session", "images", "-n", "2", "--to", str(tmp_path / "out")]
        session = subprocess.Popen(
            [sys.executable, "-m", "cellwatch", *words, "--config", str(desk.config)],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        for number in (1, 2):
            assert desk.until(lambda n=number: len(list((tmp_path / "out").glob("*"))) == n, 400)
            (newest,) = [p for p in (tmp_path / "out").iterdir() if not (p / "done").exists()]
            assert desk.until(lambda place=newest: (place / "README.txt").exists())
            labels = truth(int(newest.name.partition("~")[0]))
            desk.drop(f"{newest.name}_masks.tif", np.ascontiguousarray(labels))
            (newest / "done").touch()
        talk = session.communicate(timeout=400)[1]
    assert session.returncode == 0, talk
    assert "accepted as correction" in talk
    assert "2 images corrected" in talk
    assert not list((desk.folder / "state/sessions").rglob("*.safetensors"))
    given = desk.rows("SELECT handed_out IS NOT NULL FROM checkouts ORDER BY id")
    assert given == [(0,), (1,)]  # the first is the store's, the second the session's network's
    notes = desk.rows("SELECT notes FROM corrections ORDER BY id")
    assert ["session handed out" in note for (note,) in notes] == [False, True]
    assert desk.rows("SELECT count(*) FROM promotions") == [(0,)]
