"""Does a score that is made without ground truth rank images as their true AP@0.5 does?

Every image of the test folders is segmented by one model, as a station does it; beside its AP@0.5
are kept the scores that can be told without the truth. Reported are Spearman's rank correlation
pooled over all images, with a bootstrap interval, and within each folder of twelve images or more;
and how well novelty tells the folders of `adapt` from those of `base` (area under the ROC curve).

    python bench/confidence.py --data DATA --out bench/confidence.json --plot docs/confidence.png
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, spearmanr

from cellwatch.compute.device import choose_device, keep_freed_memory, precision_on
from cellwatch.compute.models import Model, channels_for, ready_model
from cellwatch.core.channels import take_channels
from cellwatch.core.confidence import image_confidence, roi_confidences, roi_probabilities
from cellwatch.core.image import cleaned
from cellwatch.core.labels import flow_errors, relabel
from cellwatch.core.matching import match
from cellwatch.core.parameters import SegmentationParams
from cellwatch.core.segment import Segmentation, segment
from cellwatch.core.styles import novelty_of
from cellwatch.records import ChannelChoice
from cellwatch.storage.datasets.pairs import find_pairs, load_pair
from cellwatch.storage.reports.doubts import UNSURE
from cellwatch.zoo.cards import find_model

SETS = ("base", "adapt")
SCORE = "confidence"  # what the program itself uses
MANY = 12  # images of a folder within which images are ranked
BOOTSTRAPS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="general")
    parser.add_argument("--part", default="test", help="test, or train to choose a score by")
    parser.add_argument("--most", type=int, default=1000, help="images of a folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    rows = json.loads(options.out.read_text())["images"] if options.out.exists() else []
    keep_freed_memory()
    device = choose_device("auto")
    model = ready_model(find_model(options.model), device)
    params = SegmentationParams(precision=precision_on(device, "auto"))
    for kind in SETS:
        for folder in sorted((options.data / kind).glob(f"*/{options.part}")):
            name = folder.parent.name
            if any(row["set"] == name for row in rows):
                continue
            pairs = find_pairs(folder)
            step = max(1, -(-len(pairs) // options.most))
            rows += [{"kind": kind, "set": name, **scored(p, model, params)} for p in pairs[::step]]
            print(name, flush=True)
            write(options.out, rows)
    told(rows)
    if options.plot:
        draw(rows, options.plot)


def scored(pair, model: Model, params: SegmentationParams) -> dict:
    image, truth = load_pair(pair)
    chosen, _ = channels_for(image, model.card, ChannelChoice())
    plane = take_channels(image.plane(0, 0, 0), chosen)
    found = segment(plane, model.network, params, size_model=model.styles.size)
    known = model.styles.known
    is_known = known is not None and found.style.any()
    ap50 = match(relabel(truth), found.labels, (0.5,))[0].average_precision
    return {
        "image": pair.name,
        "ap50": round(ap50, 4),
        "rois": found.n_rois,
        "true_rois": len(np.unique(truth[truth > 0])),
        "novelty": novelty_of(found.style, known) if is_known else None,
        **scores(found, cleaned(plane)[0][0]),
    }


def scores(found: Segmentation, cells: np.ndarray) -> dict[str, float]:
    """Return what can be said about a result without the truth; each 0 where nothing was found."""
    probability = 1 / (1 + np.exp(-found.cellprob.astype(np.float64)))
    foreground = probability > 0.5
    unsure = ((probability > 0.1) & (probability < 0.9)).sum()
    if not found.n_rois:
        nothing = ("confidence", "probability", "flows", "edges", "kept", "sure_area", "contrast")
        return dict.fromkeys(nothing, 0.0)
    each = roi_confidences(found.labels, found.cellprob, found.flows)
    errors = flow_errors(found.labels, found.flows)
    inside, outside = found.labels > 0, found.labels == 0
    spread = float(cells.std()) or 1.0
    return {
        "confidence": round(image_confidence(found.labels, found.cellprob, each), 4),
        "probability": round(float(roi_probabilities(found.labels, found.cellprob).mean()), 4),
        "flows": round(float(1 - np.clip(errors, 0, 1).mean()), 4),
        "edges": round(float(probability[inside].mean() - probability[outside].mean()), 4)
        if outside.any() else 0.0,
        "kept": round(float((foreground & inside).sum() / max(1, foreground.sum())), 4),
        "sure_area": round(float(1 - unsure / max(1, (probability > 0.1).sum())), 4),
        "contrast": round(abs(float(cells[inside].mean() - cells[outside].mean())) / spread, 4)
        if outside.any() else 0.0,
    }  # fmt: skip


def told(rows: list[dict]) -> dict:
    facts = summary(rows)
    for name, rho in sorted(facts["pooled"].items(), key=lambda pair: -pair[1]["rho"]):
        low, high = rho["interval_95"]
        print(f"{name}: Spearman {rho['rho']:.3f} ({low:.3f} to {high:.3f})")
    for name, rho in facts["within"].items():
        print(f"within {name}: {rho:.3f}")
    print(f"novelty, adapt against base: AUROC {facts['novelty_auroc']['all']:.3f}")
    for name, area in facts["novelty_auroc"]["by_set"].items():
        print(f"  {name}: {area:.3f}")
    return facts


def summary(rows: list[dict]) -> dict:
    names = [key for key in rows[0] if key not in ("kind", "set", "image", "ap50", "true_rois")]
    truth = np.array([row["ap50"] for row in rows])
    rng = np.random.default_rng(0)
    pooled = {}
    for name in names:
        values = np.array([np.nan if row[name] is None else row[name] for row in rows], float)
        values = -values if name == "novelty" else values
        is_known = np.isfinite(values)
        draws = []
        for _ in range(BOOTSTRAPS):
            at = rng.choice(np.flatnonzero(is_known), is_known.sum())
            draws.append(spearmanr(values[at], truth[at]).statistic)
        pooled[name] = {
            "rho": round(float(spearmanr(values[is_known], truth[is_known]).statistic), 4),
            "interval_95": [round(float(v), 4) for v in np.nanpercentile(draws, (2.5, 97.5))],
        }
    within = {}
    for name in dict.fromkeys(row["set"] for row in rows):
        of = [row for row in rows if row["set"] == name]
        if len(of) >= MANY:
            pair = zip(*((row[SCORE], row["ap50"]) for row in of), strict=True)
            within[name] = round(float(spearmanr(*pair).statistic), 4)
    return {"pooled": pooled, "within": within, "novelty_auroc": novelty_aurocs(rows)}


def novelty_aurocs(rows: list[dict]) -> dict:
    def known(kind: str, name: str = "") -> list[float]:
        of = [row for row in rows if row["kind"] == kind and name in ("", row["set"])]
        return [row["novelty"] for row in of if row["novelty"] is not None]

    def area(new: list[float]) -> float:
        old = known("base")
        ranks = rankdata([*new, *old])[: len(new)].sum()
        return round(float((ranks - len(new) * (len(new) + 1) / 2) / (len(new) * len(old))), 4)

    sets = dict.fromkeys(row["set"] for row in rows if row["kind"] == "adapt")
    by_set = {name: area(known("adapt", name)) for name in sets if known("adapt", name)}
    return {"all": area(known("adapt")), "by_set": by_set}


def write(out: Path, rows: list[dict]) -> None:
    text = json.dumps({"images": rows}, indent=1) + "\n"
    out.write_text(text, encoding="utf-8")


def draw(rows: list[dict], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5))
    colours = plt.get_cmap("tab20").colors
    for number, name in enumerate(dict.fromkeys(row["set"] for row in rows)):
        of = [row for row in rows if row["set"] == name]
        at = [row[SCORE] for row in of], [row["ap50"] for row in of]
        colour = colours[(2 * number) % 20 + number // 10]
        axes.scatter(*at, s=16, label=name, color=colour)
    axes.axvline(UNSURE, color="grey", linewidth=0.8, linestyle="--")
    axes.set_xlabel("confidence, without ground truth")
    axes.set_ylabel("AP@0.5")
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
