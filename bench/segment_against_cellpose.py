"""Time one 1024x1024 image through cellwatch and through Cellpose 3.1.1.3, taking turns.

Both run the same network (the built-in `nuclei`, exported as a Cellpose checkpoint) on the same
simulated picture at the same diameter, on the CPU. Two measurements, each the median of RUNS:

- in one process each, after the first image;
- as whole commands, start of Python included, numba caches warm.

Cellpose is given twice: as a user gets it (default), and with glibc told not to return memory
(tuned), which cellwatch tells it by itself.

Cellpose lives in a virtual environment of its own:

    python3 -m venv peer
    peer/bin/pip install torch==2.13.0
    peer/bin/pip install cellpose==3.1.1.3
    python bench/segment_against_cellpose.py --peer peer/bin/python
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from cellwatch.core.matching import match
from cellwatch.workflows.simulate import Optics, expose, render_cells
from cellwatch.zoo.cards import find_model
from cellwatch.zoo.catalog import load_model
from cellwatch.zoo.weights import save_checkpoint

TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
DIAMETER = 17

CELLPOSE = """
import sys, time, tifffile
from cellpose import models
image, checkpoint, out = sys.argv[1:]
pixels = tifffile.imread(image)
model = models.CellposeModel(gpu=False, pretrained_model=checkpoint)
for line in sys.stdin:
    started = time.monotonic()
    masks = model.eval(pixels, channels=[0, 0], diameter={diameter})[0]
    print(time.monotonic() - started, flush=True)
    tifffile.imwrite(out, masks)
"""

CELLWATCH = """
import sys, time, tifffile
from pathlib import Path
from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.core.segment import segment
from cellwatch.cli.segment import load_for
image, checkpoint, out = sys.argv[1:]
pixels = tifffile.imread(image)
model = load_for(checkpoint, None, "cpu")
params = SegmentationParams(diameter=Diameter("fixed", {diameter}))
for line in sys.stdin:
    started = time.monotonic()
    labels = segment(pixels[None], model.network, params).labels
    print(time.monotonic() - started, flush=True)
    tifffile.imwrite(out, labels)
"""


class Contestant:
    """A process that segments the picture whenever it is asked."""

    def __init__(self, python: str, code: str, words: list[str], environment: dict[str, str]):
        self._process = subprocess.Popen(
            [python, "-c", code.format(diameter=DIAMETER), *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **environment},
        )  # fmt: skip

    def segment(self) -> float:
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def in_one_process(peer: str, folder: Path, runs: int) -> dict[str, list[float]]:
    image, checkpoint = str(folder / "image.tif"), str(folder / "checkpoint")
    contestants = {
        "cellwatch": Contestant(
            sys.executable, CELLWATCH, [image, checkpoint, str(folder / "ours.tif")], {}
        ),
        "cellpose": Contestant(peer, CELLPOSE, [image, checkpoint, str(folder / "theirs.tif")], {}),
        "cellpose tuned": Contestant(
            peer, CELLPOSE, [image, checkpoint, str(folder / "tuned.tif")], TUNED
        ),
    }
    for contestant in contestants.values():
        contestant.segment()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(runs):
        for name, contestant in contestants.items():
            times[name].append(contestant.segment())
    for contestant in contestants.values():
        contestant.end()
    return times


def as_commands(peer: str, folder: Path, runs: int) -> dict[str, list[float]]:
    image, checkpoint = str(folder / "image.tif"), str(folder / "checkpoint")
    cellpose = [
        peer, "-m", "cellpose", "--image_path", image, "--pretrained_model", checkpoint,
        "--diameter", str(DIAMETER), "--save_tif", "--no_npy", "--savedir", str(folder),
    ]  # fmt: skip
    cellwatch = [
        sys.executable, "-m", "cellwatch", "segment", image, "--out", str(folder / "out"),
        "--model", checkpoint, "--diameter", str(DIAMETER), "--overwrite", "--device", "cpu",
    ]  # fmt: skip
    commands = {
        "cellwatch": (cellwatch, {}),
        "cellpose": (cellpose, {}),
        "cellpose tuned": (cellpose, TUNED),
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(runs + 1):
        for name, (command, environment) in commands.items():
            started = time.monotonic()
            subprocess.run(
                command, check=True, capture_output=True, env={**os.environ, **environment}
            )
            if run:  # the first warms the caches
                times[name].append(time.monotonic() - started)
    return times


def summary(times: dict[str, list[float]]) -> dict[str, object]:
    medians = {name: round(statistics.median(values), 3) for name, values in times.items()}
    ours = times["cellwatch"]
    ratios = {
        f"{name} / cellwatch": round(
            statistics.median(t / o for t, o in zip(values, ours, strict=True)), 2
        )
        for name, values in times.items()
        if name != "cellwatch"
    }
    return {"median_s": medians, **ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="Python of the environment with Cellpose")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        optics = Optics(diameter=DIAMETER, density=0.11)
        bright, truth = render_cells(1024, optics, rng)
        tifffile.imwrite(folder / "image.tif", expose(bright, optics, rng))
        save_checkpoint(load_model(find_model("nuclei")), folder / "checkpoint")
        figures: dict[str, object] = {
            "rois_true": int(truth.max()),
            "in one process": summary(in_one_process(given.peer, folder, given.runs)),
            "whole commands": summary(as_commands(given.peer, folder, given.runs)),
        }
        ours, theirs = (tifffile.imread(folder / f"{n}.tif") for n in ("ours", "theirs"))
        figures["rois_found"] = {"cellwatch": int(ours.max()), "cellpose": int(theirs.max())}
        figures["agreement_ap"] = {
            f"{m.threshold:g}": round(m.average_precision, 4)
            for m in match(theirs.astype(np.int32), ours.astype(np.int32))
        }
    text = json.dumps(figures, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
