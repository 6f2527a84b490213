"""How long do new images wait while a training runs beside them, against without one?

A station with a built-in model segments --images images that arrive one every --every seconds,
first alone, then, in the same run, while a training is under way (its length does not matter: it is
ended afterwards). Told is the time from queued to done of each image: median and
95th percentile.

    python bench/images_come_first.py --data DATA/adapt/histology_pink \\
        --out bench/images_come_first.json
"""

import argparse
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cellwatch.storage.datasets.pairs import find_pairs

CONFIG = """
watch: [{{folder: images, model: {model}, diameter: model, settle: 0.5 s, group: lab}}]
output: {{folder: masks, also: []}}
state: {{folder: state}}
corrections: {{folder: corrections}}
retrain: {{at: never, min_new_rois: 1, budget: 4 h}}
"""


def main() -> None:
    options = parsed()
    with tempfile.TemporaryDirectory() as name:
        station = Path(name)
        for folder in ("images/first", "corrections"):
            (station / folder).mkdir(parents=True)
        (station / "config.yaml").write_text(CONFIG.format(model=options.model))
        pairs = find_pairs(options.data / "train")
        daemon = subprocess.Popen(
            [sys.executable, "-m", "cellwatch", "run", "--config", str(station / "config.yaml")],
            stderr=subprocess.DEVNULL,
        )
        try:
            for pair in pairs[:3]:
                shutil.copyfile(pair.image, station / "images/first" / pair.image.name)
            wait(lambda: count(station, "acquisitions", "state = 'done'") >= 3)
            alone = timed(station, "alone", pairs, options)
            for pair in pairs[:3]:
                shutil.copyfile(pair.masks, station / "corrections" / pair.masks.name)
            wait(lambda: count(station, "corrections", "state = 'trainable'") >= 3)
            command(station, "retrain", "lab", "--now")
            wait(lambda: any((station / "state/runs").glob("*/fit/log.jsonl")))
            beside = timed(station, "beside", pairs, options)
            steps = sum(
                len(p.read_text().splitlines())
                for p in (station / "state/runs").glob("*/fit/log.jsonl")
            )
        finally:
            daemon.terminate()
            daemon.wait()
    results = {"alone": alone, "beside training": beside, "training steps meanwhile": steps}
    results["p95 ratio"] = round(beside["p95"] / alone["p95"], 3)
    options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))


def timed(station: Path, experiment: str, pairs: list, options: argparse.Namespace) -> dict:
    folder = station / "images" / experiment
    folder.mkdir()
    for number in range(options.images):
        source = pairs[number % len(pairs)].image
        shutil.copyfile(source, folder / f"{number:03d}{source.suffix}")
        time.sleep(options.every)
    where = f"experiment = '{experiment}' AND state = 'done'"
    wait(lambda: count(station, "acquisitions", where) >= options.images)
    sql = f"""
        SELECT (julianday(finished_at) - julianday(queued_at)) * 86400 FROM acquisitions
        WHERE {where}
    """
    with sqlite3.connect(station / "state/cellwatch.db") as db:
        seconds = [row[0] for row in db.execute(sql)]
    return {
        "images": len(seconds),
        "median": round(float(np.median(seconds)), 3),
        "p95": round(float(np.percentile(seconds, 95)), 3),
    }


def count(station: Path, table: str, where: str) -> int:
    try:
        with sqlite3.connect(station / "state/cellwatch.db") as db:
            return int(db.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # the daemon has not made it yet


def wait(condition, seconds: float = 900) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("it did not come to it in time")
        time.sleep(0.2)


def command(station: Path, *words: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "cellwatch", *words, "--config", str(station / "config.yaml")],
        check=True, capture_output=True,
    )  # fmt: skip


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a category")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="general")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between arrivals")
    return parser.parse_args(sys.argv[1:])


if __name__ == "__main__":
    main()
