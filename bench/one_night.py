"""One night of the loop on real images that no built-in model has seen: is the morning better?

For each category: a station is made; its training images arrive and are segmented; an oracle takes
out the next --images, as `cellwatch checkout --next` hands them out (five, as in the paper's loop,
where there are so many), and corrects them, or crops, up to --rois ROIs in all; one training runs
as a night does, also where a night would wait for more ROIs (`dry_run` then has their number); the
gate decides. Then the model in use before and the candidate, whatever the gate said, are scored on
the category's test folder, which the station never sees.

Rows are kept in OUT as they come; categories that stand there are not done again.

    python bench/one_night.py --data DATA/adapt/histology_pink DATA/adapt/ecoli_fluorescence \\
        --out bench/one_night.json
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cellwatch.compute.device import choose_device, keep_freed_memory
from cellwatch.compute.models import ready_either
from cellwatch.core.labels import relabel
from cellwatch.core.parameters import SegmentationParams
from cellwatch.files.stems import stem_of
from cellwatch.records import ChannelChoice, Crop
from cellwatch.storage.corrections.export import write_tiff
from cellwatch.storage.corrections.names import CorrectionName, correction_name
from cellwatch.storage.datasets.pairs import find_pairs, read_label_file
from cellwatch.training.evaluate import summarise
from cellwatch.workflows.evaluate import evaluate_folder
from cellwatch.zoo.classifiers import find_either

CONFIG = """
watch: [{{folder: images, model: {model}, group: lab}}]
output: {{folder: masks, also: []}}
state: {{folder: state}}
corrections: {{folder: corrections}}
retrain: {{at: never, budget: {budget}, precision: {precision}}}
"""
LEAST_SIDE = 160  # px; a smaller crop tells a network little of how cells lie


def main() -> None:
    options = parsed()
    keep_freed_memory()
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    for category in options.data:
        if category.name in results:
            continue
        results[category.name] = one_night(category, options)
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        print(category.name, json.dumps(results[category.name], indent=2), flush=True)


def one_night(category: Path, options: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory() as name:
        station = (options.keep or Path(name)).absolute() / category.name
        (station / "corrections").mkdir(parents=True)
        text = CONFIG.format(
            model=options.model, budget=options.budget, precision=options.precision
        )
        (station / "config.yaml").write_text(text, encoding="utf-8")
        pairs = find_pairs(category / "train")
        for pair in pairs:
            place = station / "images" / "exp" / pair.image.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(pair.image, place)
        cellwatch(station, "run", "--once")
        return night(station, category, correct(station, pairs, options))


def night(station: Path, category: Path, corrected: dict[str, int]) -> dict:
    """Take in what was dropped, train once as a night does, and score what came of it."""
    cellwatch(station, "run", "--once")
    listed = json.loads(cellwatch(station, "corrections", "list", "--json"))
    listed = [row for row in listed if row["file"] in corrected and row["state"] == "trainable"]
    if missing := sorted(set(corrected) - {row["file"] for row in listed}):
        raise SystemExit(f"not accepted: {', '.join(missing)}")
    (dry_run,) = json.loads(cellwatch(station, "retrain", "lab", "--dry-run", "--json"))
    began = time.monotonic()
    cellwatch(station, "retrain", "lab", "--now")
    seconds = time.monotonic() - began
    decision = json.loads(cellwatch(station, "models", "history", "--json"))[0]
    zoo = station / "state" / "models"
    base = decision["previous_id"]
    return {
        "base": base,
        "corrected": corrected,
        "prediction_ap50": {row["file"]: row["ap50"] for row in listed},
        "dry_run": dry_run["says"],
        "verdict": decision["verdict"],
        "reason": decision["reason"],
        "numbers": decision["numbers"],
        "seconds": round(seconds),
        "test": {
            "base": scored(base, zoo, category),
            "candidate": scored(decision["model_id"], zoo, category),
        },
    }


def correct(
    station: Path,
    pairs: list,
    options: argparse.Namespace,
    spoil: Callable[[np.ndarray], np.ndarray] = np.copy,
) -> dict[str, int]:
    """Drop the truth of what is handed out, cut so that the ROIs are within the limit."""
    done: dict[str, int] = {}
    words = ["--next", str(options.images), "--to", str(station / "checkout"), "--json"]
    by_stem = {stem_of(pair.image.name): pair for pair in pairs}
    chosen = [by_stem[made["stem"]] for made in json.loads(cellwatch(station, "checkout", *words))]
    each = options.rois // len(chosen)
    for pair in chosen:
        labels = read_label_file(pair.masks)
        crop = within(labels, each)
        part = relabel(spoil(relabel(labels[crop.window] if crop else labels)))
        ending = "_masks.tif" if part.any() else "_empty.tif"
        name = correction_name(CorrectionName(pair.name, crop=crop), ending)
        write_tiff(station / "corrections" / name, part)
        done[name] = int(part.max())
    return done


def within(labels: np.ndarray, rois: int) -> Crop | None:
    """Return the largest corner crop with at most so many ROIs; None: the whole image has fewer."""
    side = max(labels.shape)
    while labels.max() > rois and side > LEAST_SIDE:
        side = max(LEAST_SIDE, int(side * 0.9))
        height, width = (min(side, n) for n in labels.shape)
        if len(np.unique(labels[:height, :width])) - 1 <= rois or side == LEAST_SIDE:
            return Crop(0, 0, height, width)
    return None


def scored(name: str, zoo: Path, category: Path) -> dict:
    device = choose_device("auto")
    model = ready_either(find_either(name, zoo), device)
    each = evaluate_folder(
        category / "test", model, SegmentationParams(), ChannelChoice(), is_true_diameter=False
    )
    ap = summarise([one.score for one in each]).average_precision
    return {"ap50": round(ap[0.5], 4), "ap75": round(ap[0.75], 4), "images": len(each)}


def cellwatch(station: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cellwatch", *words, "--config", str(station / "config.yaml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="categories")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="auto", help="what the station begins with")
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--rois", type=int, default=250)
    parser.add_argument("--budget", default="4 h")
    parser.add_argument("--keep", type=Path, help="folder for the stations, each by its category")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    return parser.parse_args(sys.argv[1:])


if __name__ == "__main__":
    main()
