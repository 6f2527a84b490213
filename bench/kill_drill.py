"""Kill the worker five times and the daemon five times while 200 images arrive; lose nothing.

A station with the built-in model receives simulated images while it runs. At random moments, 1 to
20 seconds after the first job of that life, the worker or the daemon is killed with SIGKILL, and
the daemon started again. At the end every acquisition must be done once, every mask store whole
and equal to what `cellwatch segment` makes of the same image, and nothing left over.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from cellwatch.storage.masks.store import read_labels

COMMAND = [sys.executable, "-m", "cellwatch"]


class Life:
    """A daemon, and what its ledger says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.process: subprocess.Popen[bytes] | None = None
        self.started_jobs = 0

    def start(self) -> None:
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "run", "--config", str(self.config)], stdout=log, stderr=log
            )

    def query(self, sql: str) -> list[tuple]:
        path = self.folder / "state/cellwatch.db"
        if not path.exists():
            return []
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30) as db:
            try:
                return db.execute(sql).fetchall()
            except sqlite3.OperationalError:
                return []

    def attempts(self) -> int:
        return (self.query("SELECT count(*) FROM attempts") or [(0,)])[0][0]

    def counts(self) -> dict[str, int]:
        return dict(self.query("SELECT state, count(*) FROM acquisitions GROUP BY state"))

    def worker(self) -> int | None:
        rows = self.query("SELECT workers FROM daemon")
        workers = json.loads(rows[0][0]) if rows else []
        return workers[0]["pid"] if workers else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=160, help="side of the images, px")
    parser.add_argument("--kills", type=int, default=5, help="of each, worker and daemon")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenario", default="rename", help="how the images are written")
    parser.add_argument("--serial", type=int, default=0, help="images compared; 0: all")
    parser.add_argument("--within", type=float, default=3000, help="s")
    parser.add_argument("--model", default="auto", help="a cheaper one where arrival is on trial")
    parser.add_argument("--diameter", default="auto", help="auto, model, or a number of px")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cellwatch-drill-") as name:
        drill(Path(name), given)


def drill(folder: Path, given: argparse.Namespace) -> None:
    images, rng = given.images, random.Random(given.seed)
    station = folder / "station"
    subprocess.run([*COMMAND, "init", str(station)], check=True, capture_output=True)
    manifest = folder / "manifest.json"
    life = Life(station)
    choose(life.config, given)
    life.start()
    microscope = subprocess.Popen(
        [*COMMAND, "simulate", given.scenario, "--to", str(station / "images/drill"),
         "--n", str(images), "--size", str(given.size), "--seed", "7", "--manifest", str(manifest)],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    victims = ["worker", "daemon"] * given.kills
    rng.shuffle(victims)
    started = time.monotonic()
    for victim in victims:
        kill(life, victim, rng)
    microscope.wait()
    while life.counts() != {"done": images}:
        if life.process.poll() is not None or time.monotonic() - started > given.within:
            raise SystemExit(f"it did not end well: {life.counts()}")
        time.sleep(1)
    print(f"{images} done after {time.monotonic() - started:.0f} s")
    life.process.send_signal(signal.SIGTERM)
    print(f"SIGTERM: exit code {life.process.wait(10)}")
    examine(life, folder, manifest, given)


def choose(config: Path, given: argparse.Namespace) -> None:
    """Write the model and the diameter that are given into the station's configuration."""
    text = config.read_text()
    text = text.replace("\n  model: auto ", f"\n  model: {given.model} ", 1)
    config.write_text(text.replace("\n  diameter: auto ", f"\n  diameter: {given.diameter} ", 1))


def kill(life: Life, victim: str, rng: random.Random) -> None:
    before = life.attempts()
    while life.attempts() == before:
        time.sleep(0.05)
    wait = rng.uniform(1, 20)
    time.sleep(wait)
    pid = life.process.pid if victim == "daemon" else life.worker()
    if pid is None:
        return kill(life, victim, rng)
    in_flight = life.query("SELECT count(*) FROM acquisitions WHERE state = 'running'")[0][0]
    os.kill(pid, signal.SIGKILL)
    print(f"killed the {victim} after {wait:.1f} s with {in_flight} in flight: {life.counts()}")
    if victim == "daemon":
        life.process.wait()
        life.start()
    return None


def examine(life: Life, folder: Path, manifest: Path, given: argparse.Namespace) -> None:
    verified = subprocess.run(
        [*COMMAND, "verify", "--manifest", str(manifest), "--config", str(life.config)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(verified.stdout, verified.stderr.strip())
    twice = life.query("SELECT path FROM acquisitions GROUP BY path HAVING count(*) > 1")
    stores = sorted((life.folder / "masks").rglob("*.zarr"))
    left = [p for p in (life.folder / "masks").rglob("*") if ".tmp-" in p.name]
    superseded = list((life.folder / "masks").glob(".superseded/*"))
    every = sorted((life.folder / "images/drill").iterdir())
    compared = random.Random(1).sample(every, given.serial) if given.serial else every
    chosen = {path.name for path in compared}
    (folder / "chosen").mkdir()
    for path in compared:
        (folder / "chosen" / path.name).hardlink_to(path)
    subprocess.run(
        [*COMMAND, "segment", str(folder / "chosen"), "--out", str(folder / "serial"),
         "--model", given.model, "--diameter", given.diameter],
        check=True, capture_output=True,
    )  # fmt: skip
    unequal = 0
    for store in (s for s in stores if s.name.removesuffix(".zarr") in chosen):
        stem = store.name.removesuffix(".tif.zarr")
        serial = tifffile.imread(folder / "serial" / f"{stem}_masks.tif")
        beside = tifffile.imread(store.with_name(f"{stem}_masks.tif"))
        labels = read_labels(store, "cells")[0, 0, 0]
        unequal += not (np.array_equal(labels, serial) and np.array_equal(beside, serial))
    outcomes = dict(life.query("SELECT outcome, count(*) FROM attempts GROUP BY outcome"))
    print(f"{len(stores)} stores, {unequal} of {len(chosen)} unequal to serial")
    print(f"{len(twice)} images taken twice")
    print(f"{len(left)} left over, {len(superseded)} superseded; attempts: {outcomes}")
    is_well = len(stores) == given.images and not (unequal or twice or left or verified.returncode)
    raise SystemExit(0 if is_well else 1)


if __name__ == "__main__":
    main()
