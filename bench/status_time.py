"""Time `cellwatch status` as a whole command with many rows in the ledger."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cellwatch.storage.ledger.database import open_ledger, transaction

STATES = ("done", "done", "done", "done", "queued", "failed", "waiting")


def fill(state: Path, rows: int) -> None:
    db = open_ledger(state)
    with transaction(db):
        for key in range(1, rows + 1):
            db.execute(
                """
                INSERT INTO acquisitions (id, watch, path, relative_path, experiment, fingerprint,
                    size, mtime_ns, state, state_since, arrived_at, seconds, store)
                VALUES (?, 'scope', ?, ?, 'e', ?, 1000, 1, ?, ?, ?, 1.5, ?)
                """,
                [key, f"/scope/e/{key:06d}.tif", f"e/{key:06d}.tif", f"{key:032x}",
                 STATES[key % len(STATES)], "2026-11-23T01:02:03.000+00:00",
                 "2026-11-23T01:02:03.000+00:00", f"/masks/scope/e/{key:06d}.tif.zarr"],
            )  # fmt: skip
            db.execute(
                "INSERT INTO targets (acquisition_id, name, state, rois) VALUES (?, 'cells', ?, 7)",
                [key, STATES[key % len(STATES)]],
            )
    db.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=9)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        station = Path(name) / "station"
        command = [sys.executable, "-m", "cellwatch"]
        subprocess.run([*command, "init", str(station)], check=True, capture_output=True)
        fill(station / "state", given.rows)
        times = []
        for _ in range(given.runs):
            started = time.monotonic()
            shown = subprocess.run(
                [*command, "status", "--config", str(station / "config.yaml")],
                capture_output=True, check=False,
            )  # fmt: skip
            times.append(round(time.monotonic() - started, 3))
        print(shown.stdout.decode())
        print(json.dumps({"rows": given.rows, "median_s": statistics.median(times), "s": times}))


if __name__ == "__main__":
    main()
