"""Memory over many images whose cells differ in size, so that each is resized to another shape.

    python bench/many_shapes.py [--images 30] [--out bench/many_shapes.json]

Draws images of 1024 x 1344 px with cells of 24 to 60 px, segments them with `diameter: auto` in one
`cellwatch segment` and through a daemon. Of the computing process it reads, after each image, what
it holds and the peak since the image before (/proc/PID/clear_refs sets the peak back). The bar: at
most 1.6 GB (2 GB in float32), and from the 5th to the last image at most 5 % more. `trend` is the
rise of a straight line through the peaks from the 5th on; `growth` that of the highest peak so far,
which rises a little with any scatter; `held_growth` that of what is held after the last image.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from cellwatch.workflows.simulate import Optics, expose, render_cells

SIZE = (1024, 1344)
DIAMETERS = (24.0, 60.0)
CELLWATCH = (sys.executable, "-m", "cellwatch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--precision", choices=["auto", "bfloat16", "float32"], default="auto")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        draw(images, options.images)
        by_daemon, idle = in_daemon(images, Path(folder), options.precision, idle_s=15)
        by_command = in_segment(images, Path(folder), options.precision)
        found = {"segment": by_command, "daemon": by_daemon}
    report = {name: summary(peaks) for name, peaks in found.items()} | {"idle_mb": idle}
    print(json.dumps(report, indent=1))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def draw(folder: Path, n_images: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(3)
    spread = np.linspace(*DIAMETERS, n_images)
    for index in range(n_images):  # large and small in turn
        diameter = spread[index // 2] if index % 2 else spread[-1 - index // 2]
        optics = Optics(diameter=float(diameter), density=0.2)
        bright, _ = render_cells(max(SIZE), optics, rng)
        pixels = expose(bright, optics, rng)[: SIZE[0], : SIZE[1]]
        tifffile.imwrite(folder / f"{index:02d}.tif", pixels)


def in_segment(images: Path, folder: Path, precision: str) -> list[tuple[int, int]]:
    words = [*CELLWATCH, "segment", str(images), "--out", str(folder / "out")]
    words += ["--precision", precision]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    peaks = [
        memory_of(process.pid) for line in process.stderr if re.search(r"\.tif: \d+ ROIs", line)
    ]
    assert process.wait() == 0
    return peaks


def in_daemon(
    images: Path, folder: Path, precision: str, idle_s: float
) -> tuple[list[tuple[int, int]], int]:
    """Return the memory after each image, and what the worker holds when idle, all in MB."""
    station = folder / "station"
    config = station / "config.yaml"
    station.mkdir()
    text = f"watch: [{{folder: {images}}}]\noutput: {{folder: masks}}\nstate: {{folder: state}}\n"
    text += f"precision: {precision}\n"
    config.write_text(text, encoding="utf-8")
    environment = {**os.environ, "CELLWATCH_CONFIG": str(config)}
    log = (station / "log").open("w")
    daemon = subprocess.Popen([*CELLWATCH, "run"], env=environment, stderr=log)
    peaks: list[tuple[int, int]] = []
    wanted = len(list(images.iterdir()))
    while len(peaks) < wanted:
        time.sleep(0.2)
        n_done = (station / "log").read_text().count("segmented ")
        if n_done > len(peaks):
            peaks += [memory_of(worker_of(daemon.pid))] * (n_done - len(peaks))
        assert daemon.poll() is None, (station / "log").read_text()
    time.sleep(idle_s)
    idle, _ = memory_of(worker_of(daemon.pid))
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(20)
    return peaks, idle


def worker_of(parent: int) -> int:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
    return next(pid for pid, command in commands.items() if "compute.worker" in command)


def memory_of(pid: int) -> tuple[int, int]:
    """Return what a process holds now and has held at most since the last call, in MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    now, most = (re.search(rf"{name}:\s+(\d+)", text) for name in ("VmRSS", "VmHWM"))
    assert now is not None
    assert most is not None
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM starts again
    return int(now[1]) // 1000, int(most[1]) // 1000


def summary(peaks: list[tuple[int, int]]) -> dict[str, object]:
    highest = np.maximum.accumulate([most for _, most in peaks])
    fifth = min(4, len(peaks) - 1)
    held, later = [now for now, _ in peaks], [most for _, most in peaks[fifth:]]
    slope, start = np.polyfit(range(len(later)), later, 1) if len(later) > 1 else (0.0, later[0])
    return {
        "images": len(peaks),
        "peak_mb": int(highest[-1]),
        "peak_after_5_mb": int(highest[fifth]),
        "growth": round(highest[-1] / highest[fifth] - 1, 3),
        "held_growth": round(held[-1] / held[fifth] - 1, 3),
        "trend": round(slope * (len(later) - 1) / start, 3),
        "peaks_mb": [most for _, most in peaks],
        "held_between_mb": held,
    }


if __name__ == "__main__":
    main()
