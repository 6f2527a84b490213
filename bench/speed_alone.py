"""The rows of `bench/speed.py` that have no counterpart in Cellpose: limits on memory, the daemon's
pace against its network's, and what bfloat16 costs in quality.

Each row is a function of a folder to work in and a precision; `quality` also reads DATA, a folder
with `base` and `adapt`, each of sets with `test` pairs.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import many_shapes
import numpy as np
import tifffile

from cellwatch.workflows.simulate import Optics, expose, render_cells

CELLWATCH = (sys.executable, "-m", "cellwatch")
DIAMETER = 30.0  # px, of the cells of all rows but the first
IDLE_S = 15  # after the last image, before the idle worker is looked at
STREAM = {"bfloat16": 300, "float32": 100}  # images
QUALITY = (
    "base/nuclei_dsb2018", "base/nuclei_bbbc039", "base/phase_t98g", "base/histology_purple",
    "adapt/ecoli_phase", "adapt/bacteria_timelapse", "adapt/histology_pink",
)  # fmt: skip
NETWORK_ALONE = """
import sys, time
import tifffile, torch
from pathlib import Path
from cellwatch.compute.device import reuse_small_memory
from cellwatch.compute.models import ready_model
from cellwatch.core import segment as steps
from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.zoo.cards import find_model
reuse_small_memory()
model = ready_model(find_model("general"), torch.device("cpu"))
params = SegmentationParams(diameter=Diameter("fixed", float(sys.argv[3])), precision=sys.argv[2])
spent, run = [], steps._run
def timed(*all):
    began = time.perf_counter()
    found = run(*all)
    spent.append(time.perf_counter() - began)
    return found
steps._run = timed
images = [tifffile.imread(path)[None] for path in sorted(Path(sys.argv[1]).iterdir())]
steps.segment(images[0], model.network, params)
spent.clear()
for image in images:
    steps.segment(image, model.network, params)
print(sum(spent))
"""


def many_shapes_row(folder: Path, precision: str, _: Path) -> dict:
    """30 images of 1024 x 1344 with cells of 24 to 60 px, `diameter: auto`; then an idle worker."""
    images = folder / "shapes"
    if not images.exists():
        many_shapes.draw(images, 30)
    place = folder / f"shapes_{precision}"
    place.mkdir()
    by_command = many_shapes.in_segment(images, place, precision)
    by_daemon, idle = many_shapes.in_daemon(images, place, precision, idle_s=IDLE_S)
    rows = {"command": by_command, "daemon": by_daemon}
    report = {name: many_shapes.summary(peaks) for name, peaks in rows.items()}
    kept = ("peak_mb", "growth", "held_growth", "trend")
    return {
        **{name: {key: report[name][key] for key in kept} for name in rows},
        "idle_mb": idle,
    }


def large(folder: Path, precision: str, _: Path) -> dict:
    """An image of 8192², against one of 2048², as whole commands."""
    figures = {}
    for side in (2048, 8192):
        image = folder / f"large_{side}.tif"
        if not image.exists():
            tifffile.imwrite(image, tiled(folder, side))
        seconds, peak = ran(
            [*CELLWATCH, "segment", str(image), "--out", str(folder / "large_out"), "--overwrite",
             "--model", "general", "--diameter", f"{DIAMETER:g}", "--precision", precision]
        )  # fmt: skip
        figures[str(side)] = {"seconds": round(seconds, 1), "peak_gb": round(peak, 2)}
    ratio = figures["8192"]["seconds"] / (16 * figures["2048"]["seconds"])
    return {**figures, "time_over_16_of_2048": round(ratio, 3)}


def tiled(folder: Path, side: int) -> np.ndarray:
    """Return a picture of a side, made of one of 2048² and its mirror images."""
    source = folder / "large_source.tif"
    if not source.exists():
        tifffile.imwrite(source, picture(2048, np.random.default_rng(5)))
    part = tifffile.imread(source)
    row = np.concatenate([part, part[:, ::-1]] * (side // 4096) or [part], axis=1)
    return np.concatenate([row, row[::-1]] * (side // 4096) or [row], axis=0)


def training(folder: Path, precision: str, _: Path) -> dict:
    """Train online on five images of 512², as a night does."""
    pairs = folder / "five"
    if not pairs.exists():
        pairs.mkdir()
        rng, optics = np.random.default_rng(6), Optics(diameter=DIAMETER, density=0.3)
        for n in range(5):
            bright, labels = render_cells(512, optics, rng)
            tifffile.imwrite(pairs / f"{n}_img.tif", expose(bright, optics, rng))
            tifffile.imwrite(pairs / f"{n}_masks.tif", labels.astype(np.uint16))
    seconds, peak = ran(
        [*CELLWATCH, "train", "--from", "general", "--data", str(pairs), "--schedule", "online",
         "--steps", "20", "--precision", precision, "--out", str(folder / f"model_{precision}")]
    )  # fmt: skip
    return {"seconds": round(seconds, 1), "peak_gb": round(peak, 2)}


def daemon(folder: Path, precision: str, _: Path) -> dict:
    """Images of 512² through a daemon, against the network alone on the same images."""
    images, n_images = folder / f"stream_{precision}", STREAM[precision]
    images.mkdir()
    rng = np.random.default_rng(7)
    for n in range(n_images):
        tifffile.imwrite(images / f"{n:03d}.tif", picture(512, rng))
    station = folder / f"station_{precision}"
    station.mkdir()
    config = station / "config.yaml"
    config.write_text(
        f"watch: [{{folder: {images}, model: general, diameter: {DIAMETER:g} px}}]\n"
        f"output: {{folder: masks}}\nstate: {{folder: state}}\nprecision: {precision}\n"
    )
    seconds, n_done = paced(station, config, n_images)
    words = [sys.executable, "-c", NETWORK_ALONE, str(images), precision, str(DIAMETER)]
    alone = float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    pace, limit = 60 * n_done / seconds, 60 * n_images / alone
    return {
        "images_a_minute": round(pace, 1),
        "network_alone": round(limit, 1),
        "ratio": round(pace / limit, 3),
    }


def paced(station: Path, config: Path, n_images: int) -> tuple[float, int]:
    """Run a daemon over its images; return the seconds from the first to the last, and how many."""
    with (station / "log").open("w") as log:
        process = subprocess.Popen([*CELLWATCH, "run", "--config", str(config)], stderr=log)
    done: list[float] = []
    try:
        while len(done) < n_images:
            time.sleep(0.1)
            n = sum(1 for _ in (station / "masks").glob("*/*_measurements.csv"))
            done += [time.monotonic()] * (n - len(done))
            if process.poll() is not None:
                raise SystemExit((station / "log").read_text())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    return done[-1] - done[0], len(done) - 1


def quality(folder: Path, precision: str, data: Path) -> dict:
    """AP of `general` at the true diameter on test images."""
    found = {}
    for name in QUALITY:
        words = ["evaluate", "--model", "general", "--data", str(data / name / "test"), "--json"]
        words += ["--diameter", "truth", "--precision", precision]
        done = subprocess.run([*CELLWATCH, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        found[name] = {t: round(v, 4) for t, v in _ap(json.loads(done.stdout)).items()}
    return found


def _ap(told: dict) -> dict[str, float]:
    return {t: told["ap"][t] for t in ("0.5", "0.75")}


def picture(side: int, rng: np.random.Generator) -> np.ndarray:
    optics = Optics(diameter=DIAMETER, density=0.3)
    bright, _ = render_cells(side, optics, rng)
    return expose(bright, optics, rng)


def ran(command: list[str], environment: Mapping[str, str] | None = None) -> tuple[float, float]:
    """Run a command; return its seconds and the peak of its memory, in GB."""
    started = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return time.monotonic() - started, usage.ru_maxrss * 1024 / 1e9


ROWS = {
    "many_shapes": many_shapes_row,
    "large": large,
    "training_memory": training,
    "daemon": daemon,
    "quality": quality,
}


def worst_loss(quality_rows: dict[str, dict]) -> float:
    """Return the most that bfloat16 loses against float32 on any set, at any threshold."""
    half, full = quality_rows["bfloat16"], quality_rows["float32"]
    return max(full[name][t] - half[name][t] for name in full for t in full[name])


def table(rows: dict[str, dict]) -> list[str]:
    """Return the lines of a Markdown table of what was measured without Cellpose."""
    lines = ["| cellwatch alone | bfloat16 | float32 |", "|---|---|---|"]

    def add(what: str, row: str, told: Callable[[dict], str]) -> None:
        if row in rows:
            half, full = (told(rows[row][p]) for p in ("bfloat16", "float32"))
            lines.append(f"| {what} | {half} | {full} |")

    for how in ("command", "daemon"):
        add(
            f"30 images of 1024 x 1344, cells of 24 to 60 px, in one {how}: peak; growth after the "
            "5th of the highest peak, of what is held",
            "many_shapes",
            lambda row, how=how: (
                f"{row[how]['peak_mb'] / 1000:.2f} GB; {row[how]['growth']:.1%}, "
                f"{row[how]['held_growth']:.1%}"
            ),
        )
    add("an idle worker after that", "many_shapes", lambda row: f"{row['idle_mb'] / 1000:.2f} GB")
    add(
        "8192²: peak; time ÷ 16 times that of 2048²",
        "large",
        lambda row: f"{row['8192']['peak_gb']:.2f} GB; {row['time_over_16_of_2048']:.2f}",
    )
    add(
        "training online on five images of 512²: peak",
        "training_memory",
        lambda row: f"{row['peak_gb']:.2f} GB",
    )
    add(
        "daemon, 300 (100) images of 512²: images a minute ÷ those of the network alone",
        "daemon",
        lambda row: (
            f"{row['images_a_minute']:.0f} / {row['network_alone']:.0f} = {row['ratio']:.2f}"
        ),
    )
    if "quality" in rows:
        lines.append(
            f"| most that bfloat16 loses of AP@0.5 and AP@0.75, on {len(QUALITY)} test sets | "
            f"{worst_loss(rows['quality']):.4f} | |"
        )
    return lines
