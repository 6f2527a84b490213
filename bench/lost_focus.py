"""A time-lapse loses its focus at frame 60: how soon does the station say so, and does it cry wolf?

A station with its default model segments one run that loses focus and ten that do not, each an
experiment of its own, frame by frame as files. Reported are the alarms, and after how many images
without focus the alarm of the first run was raised.

    python bench/lost_focus.py --out bench/lost_focus.json
"""

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import tifffile

from cellwatch.workflows.simulate.cells import Optics, expose, render_cells

LOST_AT = 60  # frame
SHARP, BLURRED = 1.2, 6.0  # px, sigma of the optics' blur
COMMAND = [sys.executable, "-m", "cellwatch"]
CONFIG = """
watch: [{folder: images, settle: 1s}]
output: {folder: masks, preview: false}
state: {folder: state}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--healthy", type=int, default=10, help="runs")
    parser.add_argument("--frames", type=int, default=66)
    parser.add_argument("--size", type=int, default=160, help="side of the images, px")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cellwatch-focus-") as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
        for run in range(options.healthy + 1):
            write_run(folder / f"images/run{run:02d}", run, options)
        subprocess.run(
            [*COMMAND, "run", "--once", "--config", str(folder / "config.yaml")], check=True
        )
        found = told(folder / "state/cellwatch.db")
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def write_run(folder: Path, run: int, options: argparse.Namespace) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(run)
    for frame in range(options.frames):
        is_lost = run == 0 and frame >= LOST_AT
        optics = Optics(density=0.12, psf=BLURRED if is_lost else SHARP)
        pixels = expose(render_cells(options.size, optics, rng)[0], optics, rng)
        tifffile.imwrite(folder / f"t{frame:03d}.tif", pixels)


def told(ledger: Path) -> dict:
    with closing(sqlite3.connect(ledger)) as db:
        states = dict(db.execute("SELECT state, count(*) FROM acquisitions GROUP BY state"))
        models = dict(db.execute("SELECT model_id, count(*) FROM targets GROUP BY model_id"))
        rows = db.execute(
            """
            SELECT l.experiment, l.measure, l.told, a.relative_path, l.ended_at,
                   (SELECT max(o.relative_path) FROM acquisitions o
                    WHERE o.experiment = l.experiment AND o.finished_at <= l.raised_at)
            FROM alarms l JOIN acquisitions a ON a.id = l.acquisition_id ORDER BY l.id
            """
        ).fetchall()
    alarms = [
        {"experiment": e, "measure": m, "told": t, "first": first, "raised_after": last}
        for e, m, t, first, _, last in rows
    ]
    images = [int(Path(a["raised_after"]).stem[1:]) - LOST_AT + 1 for a in alarms[:1]]
    return {
        "images": states,
        "models": models,
        "alarms": alarms,
        "images_until_alarm": images[0] if images else None,
        "false_alarms": sum(alarm["experiment"] != "run00" for alarm in alarms),
    }


if __name__ == "__main__":
    main()
