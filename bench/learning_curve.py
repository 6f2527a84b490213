"""Draw the paper's learning curves on categories of images that no built-in model has seen.

- `curve`: average precision on the test folder against the number of training ROIs, pretrained
  against from scratch, over random nested subsets of the training images (Fig. 3);
- `loop`: five images in turn, each first segmented by the latest model; a ROI that no predicted one
  matches at IoU 0.75 counts as drawn by hand; then the base is trained again on all so far, with
  the `online` schedule. At the end the five train once more with `offline` (Fig. 4 and 5).

Rows are appended to OUT/curve.csv and OUT/loop.csv as they come; a run that was cut off continues.
The pictures are drawn again each time.

    python bench/learning_curve.py --data DATA/adapt/cytology_brightfield --out bench/curves

Inference is at the mean training diameter, as in the paper's claims on adaptation. `--steps` below
the schedule's own length scales it, and stands in each row.
"""

import argparse
import csv
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from cellwatch.compute.device import choose_device, keep_freed_memory, optimised, precision_on
from cellwatch.compute.models import Model, channels_for
from cellwatch.core.channels import take_channels
from cellwatch.core.labels import iou_matrix, relabel
from cellwatch.core.network import CPNet, NetworkConfig, fresh_network
from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.core.segment import segment
from cellwatch.records import ChannelChoice, ModelCard
from cellwatch.storage.datasets.pairs import find_pairs, load_pair
from cellwatch.training.dataset import TrainingImage, mean_diameter
from cellwatch.training.evaluate import summarise
from cellwatch.training.fit import fit
from cellwatch.training.plans import FitPlan, schedule_named
from cellwatch.workflows.evaluate import evaluate_folder
from cellwatch.workflows.train import read_images
from cellwatch.zoo.cards import find_model
from cellwatch.zoo.catalog import load_model
from cellwatch.zoo.weights import with_diameters

SCRATCH = "scratch"
MATCHED = 0.75  # a predicted ROI with a lower IoU is drawn again
IMAGES_IN_LOOP = 5

CURVE = ["category", "start", "schedule", "steps", "images", "seed", "rois", "ap50", "ap75"]
LOOP = ["category", "start", "schedule", "steps", "order", "image", "rois", "by_hand", "share"]
LOOP += ["ap50"]


def main() -> None:
    options = parsed()
    keep_freed_memory()
    options.device = choose_device("auto")
    options.precision = precision_on(options.device, options.precision)
    options.out.mkdir(parents=True, exist_ok=True)
    for category in options.data:
        if options.part in ("curve", "all"):
            learning_curve(category, options)
        if options.part in ("loop", "all"):
            for order in range(options.seeds):
                annotation_loop(category, order, options)
    draw(options.out)


def learning_curve(category: Path, options: argparse.Namespace) -> None:
    images = [i for i in read_images(category / "train", category.name) if i.n_rois]
    for start in starts(options):
        for schedule in options.schedule:
            for seed in range(options.seeds):
                order = np.random.default_rng(seed).permutation(len(images))
                for size in [n for n in options.sizes if n <= len(images)]:
                    chosen = [images[i] for i in order[:size]]
                    key = [category.name, start, schedule, str(length(schedule, options))]
                    key += [str(size), str(seed)]
                    if has_row(options.out / "curve.csv", key):
                        continue
                    model = trained(start, chosen, schedule, seed, options)
                    ap = scored(model, category / "test", options)
                    rois = sum(image.n_rois for image in chosen)
                    add_row(options.out / "curve.csv", CURVE, [*key, rois, *ap])


def annotation_loop(category: Path, order: int, options: argparse.Namespace) -> None:
    images = [i for i in read_images(category / "train", category.name) if i.n_rois]
    pairs = {f"{category.name}/{p.image.name}": p for p in find_pairs(category / "train")}
    turn = np.random.default_rng(100 + order).permutation(len(images))[:IMAGES_IN_LOOP]
    path = options.out / "loop.csv"
    for start in starts(options):
        done: list[TrainingImage] = []
        model = None if start == SCRATCH else as_model(load_model(find_model(start)), options)
        for number, index in enumerate(turn):
            image = images[index]
            key = [category.name, start, "online", str(length("online", options))]
            key += [str(order), str(number + 1)]
            if not has_row(path, key):
                if model is None and done:
                    model = trained(start, done, "online", order, options)
                by_hand = missed(image, pairs[image.name], model, options)
                is_last = number + 1 == len(turn)
                done.append(image)
                model = trained(start, done, "online", order, options)
                ap = scored(model, category / "test", options)[0] if is_last else ""
                share = f"{by_hand / image.n_rois:.4f}"
                add_row(path, LOOP, [*key, image.n_rois, by_hand, share, ap])
            else:
                done.append(image)
                model = None
        key = [category.name, start, "offline", str(length("offline", options)), str(order)]
        key += [str(len(turn))]
        if not has_row(path, key):
            model = trained(start, done, "offline", order, options)
            rois = sum(image.n_rois for image in done)
            ap = scored(model, category / "test", options)[0]
            add_row(path, LOOP, [*key, rois, "", "", ap])


def starts(options: argparse.Namespace) -> list[str]:
    both = {"pretrained": options.pretrained, "scratch": SCRATCH}
    return [both[name] for name in options.start]


def trained(
    start: str,
    images: list[TrainingImage],
    schedule: str,
    seed: int,
    options: argparse.Namespace,
) -> Model:
    base = load_model(find_model(options.pretrained))
    diameter = mean_diameter(images)
    if start == SCRATCH:
        config = NetworkConfig(diam_mean=base.config.diam_mean, diam_labels=diameter)
        network = fresh_network(config, seed)
    else:
        network = with_diameters(base, diam_labels=diameter)
    plan = FitPlan(
        schedule,
        length(schedule, options),
        images_per_epoch=8,
        seed=seed,
        min_rois=1,
        precision=options.precision,
    )
    with tempfile.TemporaryDirectory() as folder:
        for _ in fit(
            network, images, plan, Path(folder), device=options.device, checkpoint_every=1e9
        ):
            pass
    return as_model(network, options)


def as_model(network: CPNet, options: argparse.Namespace) -> Model:
    optimised(network, options.device)
    return Model(network, replace(ModelCard("bench", "", 0, 0), channels=("cell",)))


def scored(model: Model, test: Path, options: argparse.Namespace) -> tuple[str, str]:
    each = evaluate_folder(test, model, params(options), ChannelChoice(), is_true_diameter=False)
    ap = summarise([one.score for one in each]).average_precision
    return f"{ap[0.5]:.4f}", f"{ap[0.75]:.4f}"


def missed(
    image: TrainingImage, pair: object, model: Model | None, options: argparse.Namespace
) -> int:
    if model is None:
        return image.n_rois
    pixels, labels = load_pair(pair)
    chosen, _ = channels_for(pixels, model.card, ChannelChoice())
    plane = take_channels(pixels.pixels[0, 0, 0], chosen)
    found = segment(plane, model.network, params(options))
    overlap = iou_matrix(relabel(labels), found.labels)
    matched = (overlap.max(axis=1) >= MATCHED).sum() if overlap.shape[1] else 0
    return int(overlap.shape[0] - matched)


def params(options: argparse.Namespace) -> SegmentationParams:
    return SegmentationParams(diameter=Diameter("model"), precision=options.precision)


def length(schedule: str, options: argparse.Namespace) -> int:
    return options.steps or schedule_named(schedule).epochs


def has_row(path: Path, key: list[str]) -> bool:
    return any(row[: len(key)] == key for row in rows_of(path))


def rows_of(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def add_row(path: Path, header: list[str], row: list[object]) -> None:
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(header)
        writer.writerow(row)
    print(*row, flush=True)


def draw(out: Path) -> None:
    curves: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in rows_of(out / "curve.csv"):
        curves[row[0], f"{row[1]}, {row[2]}"].append((float(row[6]), float(row[7])))
    shares: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows_of(out / "loop.csv"):
        if row[8]:
            shares[row[0], row[1]][int(row[5])].append(float(row[8]))
    means = {
        key: [(float(n), float(np.mean(each))) for n, each in by_image.items()]
        for key, by_image in shares.items()
    }
    panels(out / "curve.png", curves, "training ROIs", "AP@0.5 on test", is_log=True)
    panels(out / "loop.png", means, "image", "share of ROIs drawn by hand", is_log=False)


def panels(
    path: Path,
    drawn: dict[tuple[str, str], list[tuple[float, float]]],
    x: str,
    y: str,
    *,
    is_log: bool,
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    categories = sorted({category for category, _ in drawn})
    if not categories:
        return
    figure = Figure(figsize=(4.2 * len(categories), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(1, len(categories), squeeze=False)[0]
    for axes, category in zip(all_axes, categories, strict=True):
        for (of, label), points in sorted(drawn.items()):
            if of == category:
                axes.plot(*zip(*sorted(points), strict=True), "o-", label=label, alpha=0.8)
        axes.set_title(category, fontsize=10)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_ylim(0, 1.02)
        axes.set_xscale("log" if is_log else "linear")
        axes.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="categories")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=["curve", "loop", "all"], default="all")
    parser.add_argument("--pretrained", default="general")
    parser.add_argument("--start", nargs="+", default=["pretrained", "scratch"])
    parser.add_argument("--schedule", nargs="+", default=["online"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=0, help="epochs of one step each; 0: all")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    return parser.parse_args(sys.argv[1:])


if __name__ == "__main__":
    main()
