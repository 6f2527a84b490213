"""Many files: what an idle daemon costs, how soon it claims a new image, and how a backlog weighs.

`idle`: a folder of 10,000 files that are known. The daemon's processor time over two minutes, and
for twenty new images the time from closing the file to claiming it, beyond the settle time.

`backlog`: 100,000 images wait. The memory of the supervisor, the time of `cellwatch status` as a
whole command, and how soon an image that comes now is claimed.

    python bench/large_queue.py idle backlog --out bench/large_queue.json
"""

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from cellwatch.files.digests import fingerprint
from cellwatch.storage.ledger.database import open_ledger, transaction
from cellwatch.workflows.simulate import simulate

COMMAND = [sys.executable, "-m", "cellwatch"]
CONFIG = """
watch: [{{folder: images, model: nuclei, diameter: 18{more}}}]
output: {{folder: masks, also: []}}
state: {{folder: state}}
"""
SETTLE_S = 2.0
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="+", choices=["idle", "backlog"])
    parser.add_argument("--known", type=int, default=10_000)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--probes", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    for what in options.what:
        with tempfile.TemporaryDirectory() as name:
            found[what] = {"idle": idle, "backlog": backlog}[what](Path(name), options)
        print(what, json.dumps(found[what]), flush=True)
        if options.out:
            options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


class Station:
    """A station with its daemon."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder, self.images = folder, folder / "images"
        self.images.mkdir()
        (folder / "config.yaml").write_text(CONFIG.format(more=more), encoding="utf-8")
        self.daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Station":
        with (self.folder / "log.txt").open("w") as log:
            words = [*COMMAND, "run", "--config", str(self.folder / "config.yaml")]
            self.daemon = subprocess.Popen(words, stdout=log, stderr=log, cwd=self.folder)
        return self

    def __exit__(self, *error: object) -> None:
        self.daemon.terminate()
        self.daemon.wait(60)

    def asked(self, sql: str, *values: object) -> list[tuple]:
        with closing(sqlite3.connect(self.folder / "state/cellwatch.db", timeout=60)) as db:
            return db.execute(sql, values).fetchall()

    def until(self, sql: str, seconds: float = 600) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if self.asked(sql)[0][0]:
                    return
            except sqlite3.OperationalError:
                pass
            time.sleep(0.2)
        raise SystemExit(f"never true: {sql}")

    def processes(self) -> list[int]:
        """Return the daemon and all of its children."""
        found, below = [self.daemon.pid], {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            below.setdefault(int(fields[1]), []).append(int(status.parent.name))
        for pid in found:
            found += below.get(pid, [])
        return found

    def seconds_used(self) -> float:
        """Return the processor time of the daemon, its children, and those that have ended."""
        used = 0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += sum(int(each) for each in fields[11:15])
        return used / TICKS

    def claimed_after(self, path: Path, made: Path) -> float:
        """Put an image into the folder; return after how many seconds it is claimed."""
        path.write_bytes(made.read_bytes())
        closed = datetime.now(UTC)
        sql = (
            "SELECT min(t.started_at) FROM attempts t JOIN acquisitions a ON a.id = acquisition_id"
        )
        end = time.monotonic() + 120
        while time.monotonic() < end:
            ((began,),) = self.asked(f"{sql} WHERE a.path = ?", str(path))
            if began:
                return (datetime.fromisoformat(began) - closed).total_seconds()
            time.sleep(0.05)
        raise SystemExit(f"{path} was not claimed")


def probes(station: Station, pictures: list[Path], into: Path, pause: float) -> list[float]:
    waits = []
    for number, picture in enumerate(pictures):
        waits.append(round(station.claimed_after(into / f"new_{number}.tif", picture), 3))
        time.sleep(pause)
    return waits


def idle(folder: Path, options: argparse.Namespace) -> dict:
    pictures = rendered(folder / "made", options.probes)
    station = Station(folder, ", existing: ignore")
    data = pictures[0].read_bytes()
    for n in range(options.known):
        place = station.images / f"run_{n // 1000}"
        place.mkdir(exist_ok=True)
        (place / f"{n:06d}.tif").write_bytes(data)
    with station:
        station.until("SELECT count(*) FROM folders WHERE scanned_at IS NOT NULL")
        station.until("SELECT device IS NOT NULL AND precision IS NOT NULL FROM daemon")
        time.sleep(60)  # libraries are loaded, and the first look ends
        before, began = station.seconds_used(), time.monotonic()
        time.sleep(options.seconds)
        share = (station.seconds_used() - before) / (time.monotonic() - began)
        into = station.images / "now"
        into.mkdir()
        waits = probes(station, pictures, into, 1.0)
    beyond = [round(wait - SETTLE_S, 3) for wait in waits]
    return {
        "known": options.known,
        "share_of_a_core": round(share, 4),
        "claimed_beyond_settle_s": {"median": statistics.median(beyond), "all": beyond},
    }


def backlog(folder: Path, options: argparse.Namespace) -> dict:
    pictures = rendered(folder / "made", 20 + options.probes)
    station = Station(folder)
    fill(station, pictures[:20], options.waiting)
    with station:
        station.until("SELECT count(*) FROM folders WHERE scanned_at IS NOT NULL")
        station.until("SELECT count(*) > 20 FROM acquisitions WHERE state = 'done'")
        times = [timed_status(station) for _ in range(7)]
        waits = probes(station, pictures[20:], station.images, 2.0)
        ((done,),) = station.asked("SELECT count(*) FROM acquisitions WHERE state = 'done'")
        memory = resident_mb(station.daemon.pid)
    return {
        "waiting": options.waiting,
        "supervisor_mb": memory,
        "status_s": {"median": statistics.median(times), "all": times},
        "claimed_s": {"median": statistics.median(waits), "all": waits},
        "done_meanwhile": done,
    }


def rendered(folder: Path, n: int) -> list[Path]:
    return [Path(image.path) for image in simulate("burst", folder, n, 64, seed=5)]


def fill(station: Station, pictures: list[Path], n: int) -> None:
    db = open_ledger(station.folder / "state")
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    facts = [(fingerprint(picture), picture) for picture in pictures]
    with transaction(db):
        for number in range(n):
            mark, picture = facts[number % len(facts)]
            path = station.images / f"run_{number // 1000}" / f"{number:06d}.tif"
            path.parent.mkdir(exist_ok=True)
            path.hardlink_to(picture)
        for number in range(n):
            mark, _ = facts[number % len(facts)]
            relative = f"run_{number // 1000}/{number:06d}.tif"
            path = station.images / relative
            status = path.stat()
            store = str(station.folder / "masks/images" / f"{relative}.zarr")
            row = db.table("acquisitions").insert(
                {
                    "watch": "images", "path": str(path), "relative_path": relative,
                    "experiment": path.parent.name, "fingerprint": mark, "size": status.st_size,
                    "mtime_ns": status.st_mtime_ns, "ctime_ns": status.st_ctime_ns,
                    "state": "queued", "state_since": now, "arrived_at": now, "queued_at": now,
                    "store": store, "place_key": store, "stem": path.stem,
                }
            )  # fmt: skip
            target = {"acquisition_id": row.last_pk, "name": "cells", "state": "queued"}
            db.table("targets").insert(target)
    db.close()


def timed_status(station: Station) -> float:
    began = time.monotonic()
    words = [*COMMAND, "status", "--config", str(station.folder / "config.yaml")]
    subprocess.run(words, capture_output=True, check=False, cwd=station.folder)
    return round(time.monotonic() - began, 3)


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


if __name__ == "__main__":
    main()
