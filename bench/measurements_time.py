"""Time `cellwatch measurements` as a whole command: 10,000 images of 100 ROIs each.

python bench/measurements_time.py
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cellwatch.core.measure import measure
from cellwatch.storage.ledger.database import open_ledger, transaction


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=10, help="ROIs along each side of an image")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        station = Path(name)
        (station / "config.yaml").write_text(
            "watch: [{folder: images, model: nuclei}]\noutput: {folder: masks}\n"
            "state: {folder: state}\n"
        )
        n_rows = options.images * fill(station, options.images, options.side)
        out = station / "cells.csv"
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "cellwatch", "measurements", "--out", str(out)],
            cwd=station, check=True, capture_output=True,
        )  # fmt: skip
        seconds = time.monotonic() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        with out.open() as file:
            written = sum(1 for _ in file) - 1
        print(json.dumps({"images": options.images, "rows": written, "seconds": round(seconds, 2),
                          "peak_mb": round(peak), "all_there": written == n_rows}))  # fmt: skip


def fill(station: Path, images: int, side: int) -> int:
    labels = np.kron(np.arange(1, side * side + 1).reshape(side, side), np.ones((12, 12), int))
    labels = labels.astype(np.int32)
    table = measure(labels, [labels * 3.7], ["DAPI"])
    from cellwatch.storage.masks.measurements import table_beside, write_table

    n = len(table["label"])
    where = {"target": np.array(["cells"] * n, object)}
    where |= {key: np.zeros(n, int) for key in ("position", "t", "z")}
    whole = {**where, **table, "confidence": np.full(n, 0.9)}
    folder = station / "masks/images/e"
    folder.mkdir(parents=True)
    write_table(table_beside(folder / "0.tif.zarr", "csv"), whole, station / "old")
    text = table_beside(folder / "0.tif.zarr", "csv").read_text()
    db = open_ledger(station / "state")
    now = datetime.now(UTC).isoformat()
    with transaction(db):
        for key in range(images):
            store = folder / f"{key}.tif.zarr"
            table_beside(store, "csv").write_text(text)
            db.table("acquisitions").insert(
                {"watch": "images", "path": f"/scope/e/{key}.tif", "relative_path": f"e/{key}.tif",
                 "experiment": "e", "fingerprint": str(key), "size": 1, "mtime_ns": 1,
                 "state": "done", "state_since": now, "arrived_at": now, "finished_at": now,
                 "store": str(store)}
            )  # fmt: skip
    db.close()
    return n


if __name__ == "__main__":
    main()
