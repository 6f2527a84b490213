"""The commands' promised shapes, as scripts meet them."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from cellwatch.cli.main import app_for
from cellwatch.cli.status import station_status
from cellwatch.cli.train import _tell_elsewhere
from cellwatch.errors import CellwatchError
from cellwatch.records import AcquisitionState
from cellwatch.storage.ledger.database import open_ledger
from cellwatch.storage.ledger.locking import DAEMON, state_lock
from cellwatch.training.dataset import training_image
from tests.cli.test_status_screen import hearing_interrupts
from tests.daemon.stations import Station
from tests.discs import disc_picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def cellwatch(*words, cwd=None, env=None):
    return subprocess.run(
        [sys.executable, "-m", "cellwatch", *map(str, words)],
        capture_output=True, text=True, cwd=cwd, env=env, check=False,
    )  # fmt: skip


def in_process(*words):
    """Do the same without a new process, for tests of what a command says: torch is there."""
    done = CliRunner().invoke(
        app_for(str(words[0]) if words else ""), [str(word) for word in words]
    )
    error = done.exception
    if isinstance(error, CellwatchError):
        return SimpleNamespace(
            returncode=error.exit_code, stdout=done.stdout, stderr=f"{done.stderr}{error}\n"
        )
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return SimpleNamespace(returncode=done.exit_code, stdout=done.stdout, stderr=done.stderr)


def write_pair(folder, name, seed, **options):
    folder.mkdir(exist_ok=True)
    picture, labels = disc_picture(seed, **options)
    tifffile.imwrite(folder / f"{name}_img.tif", picture)
    tifffile.imwrite(folder / f"{name}_masks.tif", labels.astype(np.uint16))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for index in range(3):
        write_pair(folder, f"disc{index}", 50 + index)
    return folder


def test_init_makes_a_station_that_checks_and_is_not_running(tmp_path):
    assert cellwatch("init", tmp_path / "st").returncode == 0
    assert {p.name for p in (tmp_path / "st").iterdir()} == {
        "config.yaml", "images", "masks", "corrections", "flags", "state",
    }  # fmt: skip

    config = ("--config", tmp_path / "st/config.yaml")
    assert cellwatch("config", "check", *config).returncode == 0
    status = cellwatch("status", "--json", *config)
    assert status.returncode == 3
    facts = json.loads(status.stdout)
    assert facts["state"] == "stopped"
    assert set(facts["counts"]) == {s.value for s in AcquisitionState}
    assert cellwatch("init", tmp_path / "st").returncode == 2


def test_without_a_configuration_the_places_looked_at_are_named(tmp_path):
    for command in ("status", "run", "verify"):
        ended = cellwatch(command, cwd=tmp_path)
        assert ended.returncode == 78
        assert "looked at --config" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_segment_writes_masks_by_the_stem_rule_also_without_rois(tmp_path, pairs, tiny_model):
    tifffile.imwrite(tmp_path / "flat.tif", np.zeros((40, 40), np.uint8))

    ended = cellwatch(
        "segment", pairs, tmp_path / "flat.tif", "--out", tmp_path / "out", "--model",
        tiny_model.path,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "disc0_masks.tif", "disc1_masks.tif", "disc2_masks.tif", "flat_masks.tif",
    ]  # fmt: skip
    masks = tifffile.imread(tmp_path / "out/disc0_masks.tif")
    assert (masks.dtype, masks.max()) == (np.uint16, 12)
    again = cellwatch("segment", pairs, "--out", tmp_path / "out", "--model", tiny_model.path)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr

    compared = cellwatch("compare", tmp_path / "out", pairs, "--json")
    assert json.loads(compared.stdout)["ap"]["0.5"] == 1.0


def test_segment_goes_on_after_a_bad_file_and_ends_with_one(tmp_path, pairs, tiny_model):
    (tmp_path / "bad.tif").write_text("my notes")

    ended = cellwatch(
        "segment", tmp_path / "bad.tif", pairs / "disc0_img.tif", "--out", tmp_path / "out",
        "--model", tiny_model.path, "--format", "zarr",
    )  # fmt: skip

    assert ended.returncode == 1
    assert "not a TIFF file" in ended.stderr
    assert (tmp_path / "out/disc0_img.tif.zarr/zarr.json").is_file()


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_segment_that_is_interrupted_says_what_is_done_and_goes_on(tmp_path, tiny_model):
    for n in range(60):
        tifffile.imwrite(tmp_path / f"im{n:02d}.tif", disc_picture(n % 3, size=96, n=5)[0])
    out = tmp_path / "out"
    words = ("segment", tmp_path, "--out", out, "--model", tiny_model.path)
    command = [sys.executable, "-m", "cellwatch", *map(str, words)]
    begun = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=hearing_interrupts
    )
    end = time.monotonic() + 60
    while not list(out.glob("*_masks.tif")) and time.monotonic() < end:
        time.sleep(0.02)
    begun.send_signal(signal.SIGINT)
    told = begun.communicate()[1]

    n_done = len(list(out.glob("*_masks.tif")))
    assert begun.returncode == 130
    assert 0 < n_done < 60
    assert "of 60 images segmented, 0 failed; the same command with --skip-existing" in told
    written = {path: path.stat().st_mtime_ns for path in out.glob("*_masks.tif")}

    again = cellwatch(*words, "--skip-existing")

    assert again.returncode == 0
    assert f"{60 - n_done} to do" in again.stderr
    assert len(list(out.glob("*_masks.tif"))) == 60
    assert all(path.stat().st_mtime_ns == at for path, at in written.items())


def test_two_inputs_of_one_name_are_refused_before_work_starts(tmp_path, tiny_model):
    for name in "ab":
        write_pair(tmp_path / name, "x", 0, size=64, n=2)
    words = ("segment", tmp_path / "a", tmp_path / "b", "--model", tiny_model.path)

    refused = cellwatch(*words, "--out", tmp_path / "out")
    mirrored = cellwatch(*words, "--out", tmp_path / "out", "--mirror", tmp_path)

    assert refused.returncode == 2
    assert "--mirror ROOT" in refused.stderr
    assert mirrored.returncode == 0, mirrored.stderr
    assert (tmp_path / "out/a/x_masks.tif").is_file()
    assert (tmp_path / "out/b/x_masks.tif").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "best"), "there is no model 'best'"),
        (("--diameter", "huge"), "write auto, model, 30 px or 18 um"),
        (("--channels", "1,2,3"), "is not CELL or CELL,NUCLEUS"),
        (("--channels", "GFP"), "'GFP' names no channel"),
        (("--diameter", "18 um"), "needs the pixel size"),
    ],
)
def test_mistakes_are_one_line_without_a_traceback(tmp_path, pairs, tiny_model, words, message):
    model = () if "--model" in words else ("--model", tiny_model.path)

    ended = cellwatch("segment", pairs / "disc0_img.tif", "--out", tmp_path, *model, *words)

    assert ended.returncode in (1, 2)
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("diameter", ["truth", "model", "auto", "18"])
def test_evaluate_gives_the_promised_json(pairs, tiny_model, diameter):
    ended = in_process(
        "evaluate", "--model", tiny_model.path, "--data", pairs, "--diameter", diameter, "--json"
    )

    scores = json.loads(ended.stdout)
    assert scores["images"] == 3
    assert scores["diameter"] == diameter
    assert scores["ap"] == {"0.5": 1.0, "0.75": 1.0, "0.9": pytest.approx(1.0, abs=0.2)}


def test_inspect_reads_no_pixels_and_tells_the_promised_facts(tmp_path, pairs):
    (tmp_path / "bad.tif").write_text("my notes")

    good = cellwatch("inspect", pairs / "disc0_img.tif", "--json")
    bad = cellwatch("inspect", tmp_path / "bad.tif", "--json")

    facts = json.loads(good.stdout)[0]
    assert set(facts) == {
        "path", "format", "axes", "shape", "dtype", "pixel_size_um", "channels", "whole", "reason",
    }  # fmt: skip
    assert (facts["axes"], facts["shape"], facts["whole"]) == ("YX", [128, 128], True)
    assert bad.returncode == 1
    assert json.loads(bad.stdout)[0]["whole"] is False


def test_train_makes_a_model_that_resumes_and_is_not_trained_twice(tmp_path, pairs):
    words = ("train", "--data", pairs, "--schedule", "online", "--steps", 5, "--out")
    trained = cellwatch(*words, tmp_path / "m", "--from", "scratch", "--images-per-epoch", 1)

    assert trained.returncode == 0, trained.stderr
    shown = json.loads(in_process("models", "show", tmp_path / "m", "--json").stdout)
    assert (shown["steps"], shown["channels"]) == (5, ["cell"])
    assert shown["data"][0]["images"] == 3
    assert not (tmp_path / "m/checkpoint.safetensors").exists()
    again = in_process("train", "--resume", tmp_path / "m")
    assert again.returncode == 1
    assert "finished model" in again.stderr
    (tmp_path / "m" / "card.json").rename(tmp_path / "card.json")
    elsewhere = in_process(*words, tmp_path / "m", "--from", "scratch", "--seed", 3)
    assert "holds another run; continue it" in elsewhere.stderr
    other = in_process("train", "--resume", tmp_path / "m", "--seed", 7, "--min-rois", 9)
    assert other.returncode == 2
    assert "leave --min-rois, --seed out" in other.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--from", "scratch", "--budget", "lots"], "'lots' is not a time"),
        (["--from", "nculei"], "no model 'nculei'"),
        (["--from", "scratch", "--steps", 20, "--images-per-epoch", 100], "65 steps or more"),
        (["--from", "scratch", "--steps", 3], "5"),
        (["--from", "nuclei", "--diam-mean", 50], "'nuclei' has its own"),
        (["--from", "auto"], "chooses one for each image"),
    ],
)
def test_what_a_training_cannot_be_is_said_before_it_prepares(tmp_path, pairs, words, told):
    ended = in_process("train", "--data", pairs, "--out", tmp_path / "m", *words)

    assert ended.returncode in (1, 2)
    assert told in ended.stderr
    assert "preparing" not in ended.stderr
    assert not (tmp_path / "m").exists()


def test_label_images_without_a_truth_are_told(tmp_path, pairs):
    shutil.copytree(pairs, tmp_path / "p")
    shutil.copy(pairs / "disc0_masks.tif", tmp_path / "p" / "more_masks.tif")

    compared = in_process("compare", tmp_path / "p", pairs)

    assert compared.returncode == 0, compared.stderr
    assert "left out 1 label image without a truth: more" in compared.stderr


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("no masks", "masks are named NAME_masks.tif"),
        ("other shape", "at the size of their image"),
        ("floats", "as 16-bit or 32-bit integers"),
        ("empty", "there is nothing to learn"),
        ("negative", "a number from 1 on"),
        ("black and white", "give every ROI a number of its own"),
        ("flat", "nothing can be learnt"),
        ("twice", "is named twice"),
        ("a file", "is a file; name a folder for the run"),
    ],
)
def test_training_on_bad_data_is_one_clear_line_before_it_starts(tmp_path, kind, remedy):
    data = tmp_path / "data"
    write_pair(data, "a", 0, size=64, n=4)
    masks = data / "a_masks.tif"
    if kind == "no masks":
        masks.unlink()
    elif kind == "other shape":
        tifffile.imwrite(masks, np.ones((9, 9), np.uint16))
    elif kind == "floats":
        tifffile.imwrite(masks, np.ones((64, 64), np.float32))
    elif kind == "negative":
        tifffile.imwrite(masks, np.full((64, 64), -1, np.int16))
    elif kind == "flat":
        tifffile.imwrite(data / "a_img.tif", np.full((64, 64), 7, np.uint16))
    elif kind == "black and white":
        tifffile.imwrite(masks, (255 * (tifffile.imread(masks) > 0)).astype(np.uint8))
    elif kind == "empty":
        tifffile.imwrite(masks, np.zeros((64, 64), np.uint16))
    words = ["--test", data, "--test", data] if kind == "twice" else []
    out = masks if kind == "a file" else tmp_path / "m"

    ended = in_process("train", "--data", data, "--from", "scratch", "--out", out, *words)

    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1
    assert remedy in ended.stderr
    assert not (tmp_path / "m").exists()


def test_a_training_that_is_stopped_says_how_it_goes_on(tmp_path, pairs):
    words = ["train", "--data", str(pairs), "--from", "scratch", "--out", str(tmp_path / "m")]
    with subprocess.Popen(
        [sys.executable, "-m", "cellwatch", *words, "--images-per-epoch", "1"],
        stderr=subprocess.PIPE, text=True,
        # As in a terminal: what a shell starts in the background ignores it, and so does its child.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as begun:  # fmt: skip
        try:
            while "loss" not in (line := begun.stderr.readline()):
                assert line, "it ended by itself"
            begun.send_signal(signal.SIGINT)
            _, said = begun.communicate(timeout=60)
        finally:
            begun.kill()

    shown = cellwatch("models", "show", tmp_path / "m")

    assert begun.returncode == 130
    assert f"cellwatch train --resume {tmp_path / 'm'}" in said
    assert "a training that has not ended" in shown.stderr


def test_simulate_and_verify_agree_on_a_manifest(tmp_path):
    cellwatch("init", tmp_path / "st")
    simulated = cellwatch(
        "simulate", "burst", "--to", tmp_path / "st/images", "--n", 2, "--size", 96, "--seed", 1,
        "--manifest", tmp_path / "m.json",
    )  # fmt: skip
    assert simulated.returncode == 0, simulated.stderr
    config = ("--config", tmp_path / "st/config.yaml")
    assert cellwatch("run", "--once", *config).returncode == 0

    good = cellwatch("verify", "--manifest", tmp_path / "m.json", *config)
    manifest = json.loads((tmp_path / "m.json").read_text())
    manifest["images"][0]["path"] += ".gone"
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    bad = cellwatch("verify", "--manifest", tmp_path / "m.json", *config)

    assert good.returncode == 0, good.stdout
    assert bad.returncode == 1
    assert "unknown, not done once" in bad.stdout


@pytest.mark.parametrize(
    "words", [["status"], ["explain", "a.tif"], ["inspect", "{img}"], ["--help"]]
)
def test_reports_never_import_torch(tmp_path, pairs, words):
    cellwatch("init", tmp_path / "st")
    words = [w.replace("{img}", str(pairs / "disc0_img.tif")) for w in words]
    if words[0] in ("status", "explain"):
        words += ["--config", str(tmp_path / "st/config.yaml")]
    code = (
        "import sys; from cellwatch.cli.main import main\n"
        f"sys.argv = ['cellwatch', *{words!r}]\n"
        "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert "AssertionError" not in ended.stderr


def test_a_command_that_is_misspelt_is_a_usage_error():
    assert cellwatch("segmnet").returncode == 2


def test_a_configuration_that_changed_since_the_daemon_began_is_told(tmp_path, now):
    open_ledger(tmp_path).close()
    config = tmp_path / "config.yaml"
    config.touch()
    for who, then, is_newer in (
        (DAEMON, now + timedelta(minutes=1), True),
        (DAEMON, now - timedelta(minutes=1), False),
        ("cellwatch retrain", now + timedelta(minutes=1), False),
    ):
        os.utime(config, (then.timestamp(), then.timestamp()))
        with state_lock(tmp_path, now, who):
            assert station_status(tmp_path, now, config)["is_config_newer"] is is_newer


def test_c22_masks_that_lie_elsewhere_are_told_of_before_training(capsys):
    pixels, labels = disc_picture(3, size=192, n=14)
    right = training_image("right.tif", pixels[None].astype(np.float32), labels, cluster="discs")
    wrong = replace(right, name="wrong.tif", labels=np.ascontiguousarray(labels.T))

    _tell_elsewhere([right, wrong])

    told = capsys.readouterr().err
    assert "wrong.tif: its masks would fit the image far better transposed" in told
    assert "right.tif" not in told


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_measurements_of_an_experiment_become_one_table(tmp_path, tiny_model):
    station = Station(tmp_path, tiny_model.path)
    for n, folder in enumerate(("day1", "day1", "day2")):
        (station.images / folder).mkdir(exist_ok=True)
        station.write(f"{folder}/{n}.tif", seed=n)
    with station.daemon("--once") as daemon:
        assert daemon.wait(90) == 0
    beside = list(station.masks.rglob("*_measurements.csv"))
    assert len(beside) == 3

    day1 = station.command("measurements", "--experiment", "day1")
    station.command("measurements", "--out", str(tmp_path / "all.csv"))
    later = station.command("measurements", "--since", "2999-01-01")
    wrong = station.command("measurements", "--out", "all.xls", check=False)
    station.command("measurements", "--images", "--out", str(tmp_path / "images.csv"))

    rows = list(csv.DictReader(io.StringIO(day1.stdout)))
    assert {row["experiment"] for row in rows} == {"day1"}
    assert {Path(row["path"]).name for row in rows} == {"0.tif", "1.tif"}
    assert len(list(csv.DictReader(io.StringIO((tmp_path / "all.csv").read_text())))) > len(rows)
    assert later.stdout.splitlines() == ["watch,experiment,path,plate,well,field"]
    assert "name a .csv or a .parquet file" in wrong.stderr
    by_image = {}
    for row in csv.DictReader(io.StringIO((tmp_path / "all.csv").read_text())):
        by_image.setdefault(row["path"], []).append(row)
    summaries = list(csv.DictReader(io.StringIO((tmp_path / "images.csv").read_text())))
    assert sorted(Path(row["path"]).name for row in summaries) == ["0.tif", "1.tif", "2.tif"]
    for row in summaries:
        areas = [float(roi["area_px"]) for roi in by_image[row["path"]]]
        totals = [float(roi["sum_0"]) for roi in by_image[row["path"]]]
        assert int(row["rois"]) == len(areas)
        assert float(row["median_area_px"]) == np.median(areas)
        assert float(row["intensity"]) == pytest.approx(sum(totals) / sum(areas), rel=1e-4)
        assert 0 < float(row["covered"]) < 1
        assert 0 < float(row["confidence"]) <= 1
