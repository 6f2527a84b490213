"""Stations for tests: real folders, a real daemon process, a tiny trained model."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import tifffile

from tests.discs import disc_picture

CONFIG = """
watch: [{{folder: images, settle: 0.3 s, model: {model}, diameter: model{extra}}}]
output: {{folder: masks}}
state: {{folder: state}}
"""


class Station:
    """A station's folder and its commands."""

    def __init__(self, folder, model, extra=""):
        self.folder, self.images, self.masks = folder, folder / "images", folder / "masks"
        self.images.mkdir(parents=True, exist_ok=True)
        self.config = folder / "config.yaml"
        self.config.write_text(CONFIG.format(model=model, extra=extra))

    def take_corrections(self):
        """Have it watch a folder of corrections."""
        self.config.write_text(self.config.read_text() + "\ncorrections: {folder: corrections}\n")
        (self.folder / "corrections").mkdir()

    def command(self, *words, check=True, **options):
        return subprocess.run(
            [sys.executable, "-m", "cellwatch", *words, "--config", str(self.config)],
            capture_output=True, text=True, check=check, **options,
        )  # fmt: skip

    def status(self):
        done = self.command("status", "--json", check=False)
        assert done.stdout, f"status ended with {done.returncode}: {done.stderr}"
        return json.loads(done.stdout)

    def counts(self):
        return {s: n for s, n in self.status()["counts"].items() if n}

    def write(self, *names, seed=0):
        for index, name in enumerate(names):
            pixels, _ = disc_picture(seed + index, size=96, n=5)
            aside = self.images / f"{name}.part"
            aside.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(aside, pixels)
            aside.rename(self.images / name)

    @contextmanager
    def daemon(self, *words, begun_by="", **options):
        """Run the daemon; `begun_by` is Python that runs in its process before anything else."""
        start = f"{begun_by}\nfrom cellwatch.cli.main import main; main()"
        log = (self.folder / "log.txt").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-c", start, "run", "--config", str(self.config), *words],
            stdout=log, stderr=log, **options,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            log.close()

    def n_computed(self):
        """Return how many attempts had something to compute."""
        with closing(sqlite3.connect(self.folder / "state/cellwatch.db")) as db:
            sql = "SELECT count(*) FROM attempts WHERE outcome = 'done' AND reason IS NULL"
            return db.execute(sql).fetchone()[0]

    def log(self):
        return (self.folder / "log.txt").read_text()

    def until(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.2)
        return False

    def worker_pid(self):
        workers = self.status()["daemon"].get("workers") or []
        return workers[0]["pid"] if workers else None

    def worker_of_ledger(self):
        """Read the worker's pid as quickly as can be; None: there is no worker."""
        ledger = self.folder / "state/cellwatch.db"
        try:
            with closing(sqlite3.connect(ledger, timeout=20)) as db:
                ((workers,),) = db.execute("SELECT workers FROM daemon").fetchall()
        except (sqlite3.OperationalError, ValueError):  # it is being made
            return None
        return next((worker["pid"] for worker in json.loads(workers or "[]")), None)

    def kill_worker(self):
        os.kill(self.worker_pid(), signal.SIGKILL)
