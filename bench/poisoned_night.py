"""A second night on real images whose corrections are wrong: does the model in use serve on?

Each station is one that `bench/one_night.py --keep STATIONS` has left: a built-in model, a first
night of right corrections. For each poison it hands out its next images, they come back wrong, one
training runs as a night does, and the station is put back as it was. The candidate and the model in
use ("base" in the row) are scored on the category's test folder, which the station never sees. Rows
are kept in OUT as they come.

shifted: by 10 px in both axes. merged: each ROI and its nearest neighbour are one. half_deleted:
every second ROI is missing.

    python bench/poisoned_night.py --stations STATIONS --data DATA/adapt/cytology_brightfield \\
        --out bench/poisoned_night.json
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from one_night import correct, night
from scipy.ndimage import distance_transform_edt

from cellwatch.compute.device import keep_freed_memory
from cellwatch.storage.datasets.pairs import find_pairs

SHIFT = 10  # px


def main() -> None:
    options = parsed()
    keep_freed_memory()
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    for category in options.data:
        rows = results.setdefault(category.name, {})
        for poison in options.poisons:
            if poison not in rows:
                rows[poison] = one_poisoned(category, poison, options)
                options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
                print(category.name, poison, json.dumps(rows[poison], indent=2), flush=True)


def one_poisoned(category: Path, poison: str, options: argparse.Namespace) -> dict:
    station = options.stations.absolute() / category.name
    with put_back(station):
        shutil.rmtree(station / "checkout")
        pairs = find_pairs(category / "train")
        return night(station, category, correct(station, pairs, options, POISONS[poison]))


@contextmanager
def put_back(station: Path) -> Iterator[None]:
    """Leave the station as it was. It is used where it stands: its ledger names images by path."""
    with tempfile.TemporaryDirectory(dir=station.parent) as aside:
        copy = Path(aside) / station.name
        shutil.copytree(station, copy)
        try:
            yield
        finally:
            station.rename(Path(aside) / "used")
            copy.rename(station)


def shifted(labels: np.ndarray) -> np.ndarray:
    moved = np.zeros_like(labels)
    moved[SHIFT:, SHIFT:] = labels[:-SHIFT, :-SHIFT]
    return moved


def merged(labels: np.ndarray) -> np.ndarray:
    """Give pairs of neighbours, the nearest first, one number."""
    n = int(labels.max())
    gaps = np.full((n + 1, n + 1), np.inf)
    for label in range(1, n + 1):
        away = distance_transform_edt(labels != label)
        for other in range(label + 1, n + 1):
            gaps[label, other] = away[labels == other].min(initial=np.inf)
    number = np.arange(n + 1)
    free = np.ones(n + 1, bool)
    for one, other in zip(*np.unravel_index(np.argsort(gaps, axis=None), gaps.shape), strict=True):
        if free[one] and free[other] and np.isfinite(gaps[one, other]):
            number[other] = one
            free[[one, other]] = False
    return number[labels].astype(labels.dtype)


def half_deleted(labels: np.ndarray) -> np.ndarray:
    return np.where(labels % 2 == 0, labels, 0).astype(labels.dtype)


POISONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "shifted": shifted,
    "merged": merged,
    "half_deleted": half_deleted,
}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stations", type=Path, required=True, help="as one_night.py kept them")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="categories")
    parser.add_argument("--poisons", nargs="+", choices=POISONS, default=list(POISONS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--rois", type=int, default=250)
    return parser.parse_args(sys.argv[1:])


if __name__ == "__main__":
    main()
