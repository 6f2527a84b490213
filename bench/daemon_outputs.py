"""What measurements, label TIFFs and previews cost a daemon: its pace with and without them.

The same images of 512² run through a daemon with nothing but mask stores, and through one with
`also: [tif, csv]` and previews, in turns; reported is the median of the ratios of their paces.

    python bench/daemon_outputs.py --out bench/daemon_outputs.json
"""

import argparse
import json
import signal
import sqlite3
import statistics
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import tifffile
from speed_alone import CELLWATCH, picture

OUTPUT = {
    "without": "{folder: masks, also: [], preview: false}",
    "with": "{folder: masks, also: [tif, csv], preview: true}",
}
CONFIG = """
watch: [{{folder: {images}, model: general, diameter: 30 px}}]
output: {output}
state: {{folder: state}}
report: never
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    paces: dict[str, list[float]] = {how: [] for how in OUTPUT}
    with tempfile.TemporaryDirectory(prefix="cellwatch-outputs-") as name:
        folder = Path(name)
        images = folder / "images"
        images.mkdir()
        rng = np.random.default_rng(7)
        for n in range(options.images):
            tifffile.imwrite(images / f"{n:03d}.tif", picture(512, rng))
        for turn in range(options.turns):
            for how in OUTPUT if turn % 2 == 0 else reversed(OUTPUT):
                station = folder / f"{how}_{turn}"
                paces[how].append(pace(station, images, OUTPUT[how], options.images))
                print(how, round(paces[how][-1], 2), "images a minute", flush=True)
    ratios = [a / b for a, b in zip(paces["with"], paces["without"], strict=True)]
    found = {
        "images_a_minute": {how: [round(v, 2) for v in each] for how, each in paces.items()},
        "ratio": {
            "median": round(statistics.median(ratios), 3),
            "all": [round(v, 3) for v in ratios],
        },
    }
    print(json.dumps(found["ratio"]))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def pace(station: Path, images: Path, output: str, n_images: int) -> float:
    """Run a daemon over the images; return how many a minute, from the first to the last."""
    station.mkdir()
    config = station / "config.yaml"
    config.write_text(CONFIG.format(images=images, output=output), encoding="utf-8")
    with (station / "log").open("w") as log:
        process = subprocess.Popen([*CELLWATCH, "run", "--config", str(config)], stderr=log)
    times = "min(julianday(finished_at)), max(julianday(finished_at)), count(*)"
    sql = f"SELECT {times} FROM acquisitions WHERE state = 'done'"
    try:
        while True:
            time.sleep(0.5)
            if process.poll() is not None:
                raise SystemExit((station / "log").read_text())
            try:
                with closing(sqlite3.connect(station / "state/cellwatch.db", timeout=30)) as db:
                    first, last, n = db.execute(sql).fetchone()
            except sqlite3.OperationalError:
                continue  # it is being made
            if n == n_images:
                return (n - 1) / ((last - first) * 24 * 60)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


if __name__ == "__main__":
    main()
