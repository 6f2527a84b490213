"""Measure speed and memory against Cellpose 3.1.1.3 on the CPU, all rows in one interleaved run.

    python3 -m venv peer
    peer/bin/pip install torch==2.13.0 cellpose==3.1.1.3
    python bench/speed.py --peer peer/bin/python [--quick] [--rows image_1024,command_1024]
    python bench/speed.py --rows daemon,large,many_shapes,training_memory,quality --data DATA

Both programs run the same network (the built-in `nuclei`, exported as a Cellpose checkpoint) on the
same simulated pictures at the same diameter, taking turns. Cellpose runs twice: as a user gets it,
and with glibc told to keep memory (tuned), which cellwatch tells it by itself. Times are medians,
ratios are medians of the ratios of each turn. The rows of `speed_alone.py` are of cellwatch alone;
they run where --rows names them (DATA: folders `base` and `adapt`). Writes speed.json and speed.md
beside this script.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import speed_alone
import tifffile
from speed_alone import ran

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/explanation/benchmarks.md"
TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
DIAMETER = 17
TASKS = {
    "image_1024": "1024² image, in one process",
    "small_images": "16 images of 256², in one process",
    "network_8_tiles": "network alone, 8 tiles of 224²",
    "training_step": "training step, 8 crops of 224²",
    "flows_to_labels": "flows to labels, 1024²",
    "labels_to_flows": "labels to flows, 1024²",
    "average_precision": "average precision, 1024²",
}
COMMANDS = {"command_1024": 1024, "command_2048": 2048}
TILE_GFLOP = 31.0  # of the network on a tile of 224² (15.5 G multiplications and additions)
PRECISIONS = ("bfloat16", "float32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="Python of the environment with Cellpose")
    parser.add_argument("--data", type=Path, help="for the row `quality`")
    parser.add_argument("--quick", action="store_true", help="few turns: under five minutes")
    parser.add_argument("--rows", help="only these, with commas between")
    options = parser.parse_args()
    wanted = options.rows.split(",") if options.rows else [*TASKS, *COMMANDS]
    turns = 3 if options.quick else 7
    out = HERE / "speed.json"
    known = json.loads(out.read_text()) if out.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        figures = {"machine": machine(), "rows": known.get("rows", {})}
        tasks = [row for row in wanted if row in TASKS]
        for row, figure in in_one_process(options.peer, folder, tasks, turns):
            keep(figures, row, figure)
        for row in [row for row in wanted if row in COMMANDS]:
            keep(figures, row, as_commands(options.peer, folder, COMMANDS[row], 1 + turns // 2))
        for row in [row for row in wanted if row in speed_alone.ROWS]:
            measured = speed_alone.ROWS[row]
            keep(figures, row, {p: measured(folder, p, options.data) for p in PRECISIONS})
    print(table(figures))


def keep(figures: dict, row: str, figure: dict) -> None:
    """Write all figures as soon as a new one is there."""
    figures["rows"][row] = figure
    print(row, figure, flush=True)
    (HERE / "speed.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (HERE / "speed.md").write_text(table(figures), encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def filled(page: str) -> str:
    """Return a page with the figures, under their title, between the marks that name them."""
    begin, end = "<!-- begin: speed -->\n", "<!-- end: speed -->"
    before, rest = page.split(begin)
    figures = (HERE / "speed.md").read_text(encoding="utf-8").split("\n", 2)[2]
    return before + begin + figures + end + rest.split(end)[1]


def machine() -> dict:
    import torch

    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return {
        "processor": next(x.split(": ")[1] for x in flags.splitlines() if "model name" in x),
        "cores": os.cpu_count(),
        "avx512_bf16": "avx512_bf16" in flags,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cellpose": "3.1.1.3",
    }


def prepare(folder: Path) -> None:
    """Write what both sides read: pictures, checkpoint, tiles, maps, a batch to train on."""
    from cellwatch.core.flows import flows_of
    from cellwatch.workflows.simulate import Optics, expose, render_cells
    from cellwatch.zoo.cards import find_model
    from cellwatch.zoo.catalog import load_model
    from cellwatch.zoo.weights import save_checkpoint

    rng = np.random.default_rng(0)
    optics = Optics(diameter=DIAMETER, density=0.11)
    for side, name in ((1024, "image"), (2048, "large")):
        bright, truth = render_cells(side, optics, rng)
        tifffile.imwrite(folder / f"{name}.tif", expose(bright, optics, rng))
        if name == "image":
            labels = truth
    for n in range(16):
        bright, _ = render_cells(256, optics, rng)
        tifffile.imwrite(folder / f"small_{n:02d}.tif", expose(bright, optics, rng))
    save_checkpoint(load_model(find_model("nuclei")), folder / "checkpoint")
    np.save(folder / "tiles.npy", rng.normal(0.3, 0.3, (8, 2, 224, 224)).astype(np.float32))
    flows = flows_of(labels)
    cellprob = np.where(labels > 0, np.float32(5), np.float32(-5))
    other = np.roll(labels, 2, axis=1)
    np.savez(folder / "maps.npz", flows=flows, cellprob=cellprob, labels=labels, other=other)
    targets = np.concatenate([flows, (labels > 0)[None]]).astype(np.float32)
    crops = [np.s_[y : y + 224, x : x + 224] for y in (0, 400) for x in (0, 200, 400, 600)]
    batch = np.stack([targets[(slice(None), *crop)] for crop in crops])
    tiles = rng.normal(0.3, 0.3, (8, 2, 224, 224)).astype(np.float32)
    np.savez(folder / "batch.npz", tiles=tiles, targets=batch)
    facts = {"diameter": DIAMETER, "steps": 200}
    (folder / "facts.json").write_text(json.dumps(facts))


class Contestant:
    """A process that does a task whenever it is asked, and tells the seconds."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env={**os.environ, **(environment or {})},
        )  # fmt: skip

    def ask(self, task: str) -> float:
        self._process.stdin.write(f"{task}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{task} failed:\n{self._process.stderr.read()[-2000:]}")
        return float(line)

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def contestants(peer: str, folder: Path, how: list[str]) -> dict[str, Contestant]:
    ours, theirs = str(HERE / "speed_cellwatch.py"), str(HERE / "speed_cellpose.py")
    each = {p: Contestant([sys.executable, ours, str(folder), p, *how]) for p in PRECISIONS}
    each["cellpose"] = Contestant([peer, theirs, str(folder)])
    each["cellpose tuned"] = Contestant([peer, theirs, str(folder)], TUNED)
    return each


def in_one_process(
    peer: str, folder: Path, tasks: list[str], turns: int
) -> Iterator[tuple[str, dict]]:
    for how in ([], ["training"]):
        wanted = [task for task in tasks if (task == "training_step") == bool(how)]
        if not wanted:
            continue
        each = contestants(peer, folder, how)
        for task in wanted:
            times: dict[str, list[float]] = {name: [] for name in each}
            for turn in range(turns + 1):
                for name, one in each.items():
                    seconds = one.ask(task)
                    if turn:  # the first warms up
                        times[name].append(seconds)
            row = summary(times)
            if task == "network_8_tiles":
                for p in PRECISIONS:
                    limit = each[p].ask("convolution_rate")
                    rate = 8 * TILE_GFLOP / row["seconds"][p]
                    row[f"share of the convolution rate, {p}"] = round(rate / limit, 3)
            yield task, row
        for one in each.values():
            one.end()


def as_commands(peer: str, folder: Path, side: int, turns: int) -> dict:
    image = str(folder / ("image.tif" if side == 1024 else "large.tif"))
    checkpoint = str(folder / "checkpoint")
    cellpose = [
        peer, "-m", "cellpose", "--image_path", image, "--pretrained_model", checkpoint,
        "--diameter", str(DIAMETER), "--save_tif", "--no_npy", "--savedir", str(folder),
    ]  # fmt: skip
    commands = {
        p: ([
            sys.executable, "-m", "cellwatch", "segment", image, "--out", str(folder / "out"),
            "--model", checkpoint, "--diameter", str(DIAMETER), "--overwrite", "--device", "cpu",
            "--precision", p,
        ], {})
        for p in PRECISIONS
    }  # fmt: skip
    commands |= {"cellpose": (cellpose, {}), "cellpose tuned": (cellpose, TUNED)}
    times: dict[str, list[float]] = {name: [] for name in commands}
    peaks: dict[str, float] = {}
    for turn in range(turns + 1):
        for name, (command, environment) in commands.items():
            seconds, peak = ran(command, environment)
            if turn:
                times[name].append(seconds)
                peaks[name] = round(max(peaks.get(name, 0.0), peak), 3)
    return summary(times) | {"peak_gb": peaks}


def summary(times: dict[str, list[float]]) -> dict:
    medians = {name: round(statistics.median(values), 4) for name, values in times.items()}
    ratios = {
        p: {
            name: round(statistics.median(t / o for t, o in zip(each, times[p], strict=True)), 2)
            for name, each in times.items()
            if name.startswith("cellpose")
        }
        for p in PRECISIONS
    }
    return {"seconds": medians, "ratios": ratios}


def table(figures: dict) -> str:
    facts = figures["machine"]
    lines = [
        "# Speed and memory against Cellpose 3.1.1.3",
        "",
        f"Written by `bench/speed.py`: {facts['processor']}, {facts['cores']} cores, torch "
        f"{facts['torch']}, no GPU.",
        "Ratios are Cellpose's time ÷ cellwatch's, in brackets against Cellpose with a tuned",
        "malloc; above 1 cellwatch is faster.",
        "",
        "| what | bfloat16 | float32 | seconds: bfloat16, float32, Cellpose, tuned |",
        "|---|---|---|---|",
    ]
    names = {**TASKS, **{row: f"whole command, {side}²" for row, side in COMMANDS.items()}}
    for row, title in names.items():
        if row not in figures["rows"]:
            continue
        facts = figures["rows"][row]
        cells = [
            f"{facts['ratios'][p]['cellpose']:.2f} ({facts['ratios'][p]['cellpose tuned']:.2f})"
            for p in PRECISIONS
        ]
        seconds = ", ".join(f"{s:.3g}" for s in facts["seconds"].values())
        lines.append(f"| {title} | {cells[0]} | {cells[1]} | {seconds} |")
        if "peak_gb" in facts:
            theirs = facts["peak_gb"]["cellpose"]
            cells = [f"{theirs / facts['peak_gb'][p]:.2f}" for p in PRECISIONS]
            peaks = ", ".join(f"{gb:.2f}" for gb in facts["peak_gb"].values())
            lines.append(f"| {title}: peak memory | {cells[0]} | {cells[1]} | {peaks} GB |")
        if "share of the convolution rate, float32" in facts:
            shares = [f"{facts[f'share of the convolution rate, {p}']:.2f}" for p in PRECISIONS]
            lines.append(f"| share of the machine's convolution rate | {' | '.join(shares)} | |")
    lines += ["", *speed_alone.table(figures["rows"])]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
