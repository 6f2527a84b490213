"""Score the built-in models on every kind of image there is, also on those they never saw.

    python bench/zoo_scores.py --data DATA [--models auto,general] [--out bench/zoo_scores.json]
    python bench/zoo_scores.py --pages          # write the tables into README.md and docs

DATA holds `base` and `adapt`, folders of sets with `test` pairs each. Every model is scored at the
true diameter and with `diameter: auto`, flow threshold 0.4, AP at IoU 0.5 and 0.75, mean over
images; with `auto` the error of the diameter is kept too. With --out, only what is missing there is
scored.
"""

import argparse
import json
import statistics
from pathlib import Path

from cellwatch.core.parameters import ALGORITHM_VERSION, Diameter, SegmentationParams
from cellwatch.zoo.cards import find_model

HERE = Path(__file__).parent
PAGES = (HERE.parent / "README.md", HERE.parent / "docs/explanation/built-in-models.md")
MODELS = "auto,general,nuclei,phase"
KINDS = {
    "base/nuclei_dsb2018": "fluorescent nuclei (BBBC038)",
    "base/nuclei_bbbc039": "fluorescent nuclei (BBBC039)",
    "base/phase_t98g": "T98G cells in phase contrast",
    "base/histology_purple": "purple histology",
    "adapt/bacteria_timelapse": "bacteria, time-lapse",
    "adapt/ecoli_fluorescence": "*E. coli*, fluorescence",
    "adapt/ecoli_phase": "*E. coli*, phase contrast",
    "adapt/hela_phase_2ch": "HeLa cells, phase contrast and nuclei",
    "adapt/cytology_brightfield": "cytology, bright field",
    "adapt/histology_pink": "pink histology",
    "adapt/quantitative_phase": "cells, quantitative phase",
    "adapt/yeast_traps": "yeast in traps",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--out", type=Path, default=HERE / "zoo_scores.json")
    parser.add_argument("--pages", action="store_true")
    arguments = parser.parse_args()
    if arguments.data:
        score_all(arguments.data, arguments.models.split(","), arguments.out)
    if arguments.pages:
        for page in PAGES:
            page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


def score_all(data: Path, models: list[str], out: Path) -> None:
    from cellwatch.compute.device import reuse_small_memory
    from cellwatch.zoo.classifiers import find_either

    reuse_small_memory()
    known = json.loads(out.read_text()) if out.exists() else {}
    for name in models:
        made_with = {"sha256": find_either(name).card.sha256, "algorithm": ALGORITHM_VERSION}
        if {key: known.get(name, {}).get(key) for key in made_with} != made_with:
            known[name] = {**made_with, "sets": {}}
        for key in KINDS:
            if key not in known[name]["sets"]:
                known[name]["sets"][key] = scored(name, data / key / "test")
                print(name, key, known[name]["sets"][key], flush=True)
                out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def scored(name: str, folder: Path) -> dict:
    import torch

    from cellwatch.compute.device import precision_on
    from cellwatch.compute.models import ready_either
    from cellwatch.records import ChannelChoice
    from cellwatch.workflows.evaluate import evaluate_folder
    from cellwatch.zoo.classifiers import find_either

    device = torch.device("cpu")
    model = ready_either(find_either(name), device)
    rules = {}
    for rule in ("truth", "auto"):
        params = SegmentationParams(
            diameter=Diameter("model" if rule == "truth" else "auto"),
            precision=precision_on(device, "auto"),
        )
        is_true = rule == "truth"
        each = evaluate_folder(folder, model, params, ChannelChoice(), is_true_diameter=is_true)
        rules[rule] = {
            f"{t:g}": round(statistics.mean(one.score.average_precision[t] for one in each), 3)
            for t in (0.5, 0.75)
        }
    return {"images": len(each), **rules, **diameter_errors(folder, each)}


def diameter_errors(folder: Path, each: list) -> dict:
    """Return how far the diameters are off that were used, of the images that have ROIs."""
    from cellwatch.core.diameter import median_diameter
    from cellwatch.storage.datasets.pairs import find_pairs, load_pair

    true = {pair.name: median_diameter(load_pair(pair)[1]) for pair in find_pairs(folder)}
    off = [abs(o.diameter / true[o.score.name] - 1) for o in each if true[o.score.name]]
    return {
        "diameter_off": round(statistics.median(off), 3),
        "within_20": round(statistics.mean(error <= 0.2 for error in off), 3),
    }


def filled(page: str) -> str:
    """Return a page with its tables, between the marks that name them, as the files have them."""
    scores = json.loads((HERE / "zoo_scores.json").read_text(encoding="utf-8"))
    nights = json.loads((HERE / "one_night.json").read_text(encoding="utf-8"))
    tables = {
        "how good": how_good(scores, nights),
        "scores": every_model(scores),
        "cards": cards(),
        "diameters": diameters(scores),
        "specimens": specimens(),
    }
    for name, table in tables.items():
        begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->"
        if begin in page:
            before, rest = page.split(begin)
            page = f"{before}{begin}{table}\n{end}{rest.split(end)[1]}"
    return page


def how_good(scores: dict, nights: dict) -> str:
    """Return the table for readers: each kind as it comes, and after one night of corrections."""
    lines = ["| images (number) | first masks | after one night |", "|---|---|---|"]
    for key, title in KINDS.items():
        row = scores["auto"]["sets"][key]
        night = nights.get(key.split("/")[1])
        after = ""
        if night:
            n_rois = sum(night["corrected"].values())
            score = night["test"]["candidate"]["ap50"]
            after = f"{score:.2f} ({night['verdict']}; {n_rois} ROIs corrected)"
        lines.append(f"| {title} ({row['images']}) | {row['auto']['0.5']:.2f} | {after} |")
    return "\n".join(lines)


def every_model(scores: dict) -> str:
    names = [name for name in MODELS.split(",") if name in scores]
    lines = [f"| images (number) | {' | '.join(f'`{name}`' for name in names)} |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for key, title in KINDS.items():
        cells = [scores[name]["sets"].get(key) for name in names]
        shown = [f"{c['truth']['0.5']:.3f} / {c['truth']['0.75']:.3f}" if c else "" for c in cells]
        count = next(c["images"] for c in cells if c)
        lines.append(f"| {title} ({count}) | {' | '.join(shown)} |")
    for group, title in (("base", "kinds it was trained on"), ("adapt", "kinds it never saw")):
        means = [mean_of(scores[name], group) for name in names]
        lines.append(f"| mean of the {title}, AP@0.5 | {' | '.join(means)} |")
    return "\n".join(lines)


def mean_of(rows: dict, group: str) -> str:
    each = [row["truth"]["0.5"] for key, row in rows["sets"].items() if key.startswith(group)]
    return f"{statistics.mean(each):.3f}" if each else ""


def diameters(scores: dict) -> str:
    lines = ["| images | AP@0.5 with `diameter: auto` | median error | within 20 % |"]
    lines.append("|---|---|---|---|")
    for key, title in KINDS.items():
        row = scores["auto"]["sets"][key]
        share, error = row["within_20"], row["diameter_off"]
        lines.append(f"| {title} | {row['auto']['0.5']:.3f} | {error:.0%} | {share:.0%} |")
    return "\n".join(lines)


def specimens() -> str:
    """Return what a part of simulated crops gave, at equal steps."""
    rows = json.loads((HERE / "specimens_ablation.json").read_text(encoding="utf-8"))
    heads = [f"{row['share']:.0%} (seed {row['seed']})" for row in rows]
    lines = [f"| images | {' | '.join(heads)} |", "|---" * (len(rows) + 1) + "|"]
    for key, title in KINDS.items():
        shown = " | ".join(f"{row['scores'][key]:.3f}" for row in rows)
        lines.append(f"| {title} | {shown} |")
    for group, title in (("base", "kinds it was trained on"), ("adapt", "kinds it never saw")):
        each = [[ap for key, ap in row["scores"].items() if key.startswith(group)] for row in rows]
        means = " | ".join(f"{statistics.mean(one):.3f}" for one in each)
        lines.append(f"| mean of the {title} | {means} |")
    return "\n".join(lines)


def cards() -> str:
    """Return what the cards of the built-in models say: data, steps, scores."""
    lines = ["| model | for | steps | set (images) | true diameter | `diameter: model` |"]
    lines.append("|---|---|---|---|---|---|")
    for name in MODELS.split(",")[1:]:
        card = find_model(name).card
        first = f"`{name}` | {card.about} | {card.steps}"
        for data, score in card.scores.items():
            cells = [f"{score[rule]['0.5']:.3f} / {score[rule]['0.75']:.3f}" for rule in RULES]
            lines.append(f"| {first} | {data} ({score['images']}) | {' | '.join(cells)} |")
            first = "| | "
    return "\n".join(lines)


RULES = ("truth", "model")

if __name__ == "__main__":
    main()
