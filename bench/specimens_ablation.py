"""Train with and without simulated specimens, equal in all else, and score on real images.

For each of --shares a run of --steps begins from the network START and sees the four sets of `base`
as the recipe of `general` does (bench/train_zoo.sh), but for the part of the crops that is drawn.
Scores: AP@0.5, mean over a set's `test` images, each at its true diameter, flow threshold 0.4. Rows
are kept in OUT as they come; a share that stands there for this seed is not trained again.

    python bench/specimens_ablation.py --data DATA --start START --work FOLDER \\
        [--shares 0,0.5] [--steps 600] [--seed 21] [--out bench/specimens_ablation.json]

DATA holds `base` and `adapt`. The table of docs/explanation/built-in-models.md is written from OUT
by `python bench/zoo_scores.py --pages`.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from zoo_scores import KINDS

HERE = Path(__file__).parent
SETS = {"nuclei_dsb2018": "CC0", "nuclei_bbbc039": "CC0", "phase_t98g": "MIT",
        "histology_purple": "CC0"}  # fmt: skip
RECIPE = "--schedule offline --images-per-epoch 16 --precision bfloat16 --balanced"


def main() -> None:
    options = parsed()
    rows = json.loads(options.out.read_text()) if options.out.exists() else []
    for share in options.shares.split(","):
        asked = {"share": float(share), "steps": options.steps, "seed": options.seed}
        if any(asked.items() <= row.items() for row in rows):
            continue
        model = trained(options, **asked)
        rows.append({**asked, "scores": scored(model, options.data)})
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--start", required=True, help="model folder that every run begins from")
    parser.add_argument("--work", type=Path, required=True, help="folder for the trained models")
    parser.add_argument("--shares", default="0,0.5")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--out", type=Path, default=HERE / "specimens_ablation.json")
    return parser.parse_args()


def trained(options: argparse.Namespace, share: float, steps: int, seed: int) -> Path:
    out = options.work / f"share-{share:g}-steps-{steps}-seed-{seed}"
    if (out / "card.json").exists():
        return out
    words = [*shlex.split(RECIPE), "--vary-intensities", "--from", options.start]
    words += ["--steps", str(steps), "--seed", str(seed), "--out", str(out)]
    words += ["--flow-cache", str(options.work / "flows")]
    for name, licence in SETS.items():
        words += ["--data", str(options.data / "base" / name / "train"), "--licence", licence]
    if share:
        words += ["--simulated", f"{share:g}"]
    subprocess.run([sys.executable, "-m", "cellwatch", "train", *words], check=True)
    return out


def scored(folder: Path, data: Path) -> dict[str, float]:
    """Return AP@0.5 on each set's test images."""
    from cellwatch.compute.device import choose_device, reuse_small_memory
    from cellwatch.compute.models import ready_either
    from cellwatch.core.parameters import Diameter, SegmentationParams
    from cellwatch.records import ChannelChoice
    from cellwatch.training.evaluate import summarise
    from cellwatch.workflows.evaluate import evaluate_folder
    from cellwatch.zoo.classifiers import find_either

    reuse_small_memory()
    model = ready_either(find_either(str(folder)), choose_device("cpu"))
    params = SegmentationParams(diameter=Diameter("model"), precision="bfloat16")
    scores = {}
    for key in KINDS:
        test = data / key / "test"
        each = evaluate_folder(test, model, params, ChannelChoice(), is_true_diameter=True)
        scores[key] = round(summarise([one.score for one in each]).average_precision[0.5], 4)
        print(folder.name, key, scores[key], flush=True)
    return scores


if __name__ == "__main__":
    main()
