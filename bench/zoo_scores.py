"""Score built-in models on every kind of image there is, also those they never saw.

    python bench/zoo_scores.py --data DATA [--models general,cells] [--out bench/zoo_scores.json]

DATA holds `base` and `adapt`, folders of sets with `test` pairs each. Scored at the true diameter,
flow threshold 0.4, AP at IoU 0.5 and 0.75, mean over images. Prints a Markdown table, the worst
rows too; with --out what is there already is kept, and only what is missing is scored.
"""

import argparse
import json
import statistics
from pathlib import Path

import torch

from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.daemon.choosing import ready_model
from cellwatch.daemon.device import precision_on, reuse_small_memory
from cellwatch.daemon.scoring import evaluate_folder
from cellwatch.records import ChannelChoice
from cellwatch.training.evaluate import summarise
from cellwatch.zoo.cards import find_model

MODELS = "nuclei,phase,histology,general,cells"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    reuse_small_memory()
    folders = [p for group in ("base", "adapt") for p in sorted((given.data / group).iterdir())]
    names = given.models.split(",")
    known = json.loads(given.out.read_text()) if given.out and given.out.exists() else {}
    for name in names:
        place = find_model(name)
        rows = known.setdefault(name, {"sha256": place.card.sha256, "sets": {}})
        if rows["sha256"] != place.card.sha256:
            rows = known[name] = {"sha256": place.card.sha256, "sets": {}}
        for folder in folders:
            key = f"{folder.parent.name}/{folder.name}"
            if key not in rows["sets"]:
                rows["sets"][key] = scored(name, folder / "test")
                print(name, key, rows["sets"][key], flush=True)
        if given.out:
            given.out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    print(table(known, names, [f"{p.parent.name}/{p.name}" for p in folders]))


def scored(name: str, folder: Path) -> dict[str, float]:
    device = torch.device("cpu")
    model = ready_model(find_model(name), device)
    params = SegmentationParams(diameter=Diameter("model"), precision=precision_on(device, "auto"))
    found = evaluate_folder(folder, model, params, ChannelChoice(), is_true_diameter=True)
    summary = summarise([one.score for one in found])
    ap = {f"{t:g}": round(summary.average_precision[t], 3) for t in (0.5, 0.75)}
    return {"images": summary.images, **ap}


def table(known: dict, names: list[str], sets: list[str]) -> str:
    lines = [f"| images (n) | {' | '.join(f'`{name}`' for name in names)} |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for key in sets:
        cells = [known[name]["sets"][key] for name in names]
        shown = " | ".join(f"{c['0.5']:.3f} / {c['0.75']:.3f}" for c in cells)
        lines.append(f"| {key} ({cells[0]['images']}) | {shown} |")
    for group in ("base", "adapt"):
        means = [
            statistics.mean(c["0.5"] for k, c in known[n]["sets"].items() if k.startswith(group))
            for n in names
        ]
        lines.append(f"| mean of {group}, AP@0.5 | {' | '.join(f'{m:.3f}' for m in means)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
