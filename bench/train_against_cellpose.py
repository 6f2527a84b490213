"""Train cellwatch and Cellpose 3.1.1.3 side by side, from one checkpoint, on one machine.

Three questions, each kept in OUT as soon as it is answered:

- losses: the same weights and the same 20 stored batches: the loss at each step, and seconds per
  step, the two programs taking turns of five steps;
- adapted: both fine-tuned for 100 epochs of one step on one category, with --seeds seeds: average
  precision on its test folder at the true diameters, all networks run by cellwatch. Several
  categories may be asked for one after the other; the losses are those of the first.

Cellpose lives in a virtual environment of its own (torch 2.13.0, cellpose 3.1.1.3):

    python bench/train_against_cellpose.py --peer peer/bin/python --checkpoint cpnet_dsb.pth \\
        --data DATA/adapt/cytology_brightfield --out bench/train_against_cellpose.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cellwatch.compute.device import keep_freed_memory, optimised
from cellwatch.compute.models import Model
from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.records import ChannelChoice, ModelCard
from cellwatch.training.batches import Batch, draw_batches
from cellwatch.training.evaluate import summarise
from cellwatch.training.fit import fit, make_optimiser, ready_to_train, train_step
from cellwatch.training.plans import FitPlan
from cellwatch.workflows.evaluate import evaluate_folder
from cellwatch.workflows.train import read_images
from cellwatch.zoo.weights import load_checkpoint

TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
STEPS, TURN, RATE = 20, 5, 0.05

PEER = """
import json, sys, time
import numpy as np
import torch
from cellpose import models, train
from cellpose.resnet_torch import CPnet

device = torch.device("cpu")

def network(path):
    net = CPnet([2, 32, 64, 128, 256], 3, sz=3, mkldnn=False, max_pool=True, diam_mean=17.0)
    net.load_model(path, device=device)
    return net.train()

def steps(ask):
    losses, seconds = [], []
    for k in ask["numbers"]:
        with np.load(ask["batches"] % k) as batch:
            tiles, targets = batch["tiles"], batch["targets"]
        began = time.perf_counter()
        x = torch.from_numpy(tiles)
        y = net(x)[0]
        labels = np.concatenate([targets[:, 2:], targets[:, :2]], axis=1)
        loss = train._loss_fn_seg(labels, y, device)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
        seconds.append(time.perf_counter() - began)
    return {"losses": losses, "seconds": seconds}

def adapt(ask):
    net = network(ask["checkpoint"])
    seed = np.random.seed
    np.random.seed = lambda n: seed(n + 1000 * ask["seed"])
    with np.load(ask["images"]) as held:
        n = len(held.files) // 2
        images = [held[f"image{i}"] for i in range(n)]
        labels = [held[f"labels{i}"].astype(np.int32) for i in range(n)]
    path, _, _ = train.train_seg(
        net, train_data=images, train_labels=labels, channels=[0, 0], SGD=True, batch_size=8,
        learning_rate=0.1, weight_decay=1e-4, n_epochs=ask["epochs"], nimg_per_epoch=8,
        min_train_masks=1, save_path=ask["folder"], model_name=f"seed{ask['seed']}",
    )
    np.random.seed = seed
    return {"path": str(path)}

for line in sys.stdin:
    ask = json.loads(line)
    if ask["do"] == "start":
        net = network(ask["checkpoint"])
        weights = [p for p in net.parameters() if p.requires_grad]
        optimiser = torch.optim.SGD(weights, lr=ask["rate"], momentum=0.9, weight_decay=1e-4)
        answer = {}
    else:
        answer = {"steps": steps, "adapt": adapt}[ask["do"]](ask)
    print("ANSWER" + json.dumps(answer), flush=True)
"""


class Peer:
    """Cellpose in a process of its own, asked by lines of JSON."""

    def __init__(self, python: str, *, is_tuned: bool) -> None:
        environment = {**os.environ, **(TUNED if is_tuned else {})}
        self._process = subprocess.Popen(
            [python, "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip

    def ask(self, **question: object) -> dict:
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("ANSWER"):
                return json.loads(line.removeprefix("ANSWER"))
        raise SystemExit(f"Cellpose ended with {self._process.wait()}")

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    options = parsed()
    keep_freed_memory()
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    images = read_images(options.data / "train", options.data.name)
    if "losses" not in results:
        results["losses"] = same_batches(options, images)
        keep(results, options.out)
    category = options.data.name
    for seed in range(options.seeds):
        key = f"{category}, seed {seed}"
        if key not in results:
            results[key] = adapted(options, images, seed)
            keep(results, options.out)
    ours, theirs = (
        statistics.mean(
            results[f"{category}, seed {seed}"][name]["ap"]["0.5"] for seed in range(options.seeds)
        )
        for name in ("cellwatch", "cellpose")
    )
    results[f"{category}, mean AP@0.5"] = {
        "cellwatch": round(ours, 4),
        "cellpose": round(theirs, 4),
        "seeds": options.seeds,
    }
    keep(results, options.out)
    print(json.dumps(results, indent=2))


def same_batches(options: argparse.Namespace, images: list) -> dict:
    network = load_checkpoint(options.checkpoint)
    plan = FitPlan("online", STEPS, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        pattern = f"{folder}/%d.npz"
        batches = []
        for number in range(STEPS):
            batch = next(draw_batches(images, plan, network.config, number))
            two = np.concatenate([batch.tiles, np.zeros_like(batch.tiles)], axis=1)
            batches.append(Batch(two, batch.targets))
            np.savez(pattern % number, tiles=two, targets=batch.targets)
        peers = {
            "cellpose": Peer(options.peer, is_tuned=False),
            "cellpose tuned": Peer(options.peer, is_tuned=True),
        }
        for peer in peers.values():
            peer.ask(do="start", checkpoint=str(options.checkpoint), rate=RATE)
        ready_to_train(network, torch.device("cpu"), "float32")
        optimiser = make_optimiser(network, plan)
        for group in optimiser.param_groups:
            group["lr"] = RATE
        losses = {name: [] for name in ("cellwatch", *peers)}
        seconds = {name: [] for name in losses}
        for first in range(0, STEPS, TURN):
            numbers = list(range(first, first + TURN))
            for number in numbers:
                began = time.perf_counter()
                losses["cellwatch"].append(train_step(network, optimiser, batches[number]))
                seconds["cellwatch"].append(time.perf_counter() - began)
            for name, peer in peers.items():
                said = peer.ask(do="steps", numbers=numbers, batches=pattern)
                losses[name] += said["losses"]
                seconds[name] += said["seconds"]
        for peer in peers.values():
            peer.close()
    ours, theirs = np.array(losses["cellwatch"]), np.array(losses["cellpose"])
    # The first step of each program pays for its start.
    medians = {name: round(statistics.median(each[1:]), 3) for name, each in seconds.items()}
    return {
        "losses": {name: [round(v, 6) for v in each] for name, each in losses.items()},
        "largest relative difference": float(np.abs(ours / theirs - 1).max()),
        "seconds per step": medians,
        "cellwatch / cellpose": round(medians["cellwatch"] / medians["cellpose"], 3),
        "cellwatch / cellpose tuned": round(medians["cellwatch"] / medians["cellpose tuned"], 3),
    }


def adapted(options: argparse.Namespace, images: list, seed: int) -> dict:
    plan = FitPlan("online", options.epochs, seed=seed, min_rois=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        held = {f"image{i}": image.plane[0] for i, image in enumerate(images)}
        held |= {f"labels{i}": image.labels for i, image in enumerate(images)}
        np.savez(folder / "images.npz", **held)
        peer = Peer(options.peer, is_tuned=True)
        said = peer.ask(
            do="adapt", checkpoint=str(options.checkpoint), images=str(folder / "images.npz"),
            seed=seed, epochs=plan.epochs, folder=name,
        )  # fmt: skip
        peer.close()
        ours = load_checkpoint(options.checkpoint)
        for _ in fit(ours, images, plan, folder, device=torch.device("cpu")):
            pass
        theirs = load_checkpoint(Path(said["path"]))
        before = load_checkpoint(options.checkpoint)
        networks = {"before": before, "cellwatch": ours, "cellpose": theirs}
        return {name: scored(network, options.data / "test") for name, network in networks.items()}


def scored(network: torch.nn.Module, test: Path) -> dict:
    optimised(network, torch.device("cpu"))
    model = Model(network, replace(ModelCard("bench", "", 0, 0), channels=("cell",)))
    params = SegmentationParams(diameter=Diameter("model"))
    each = evaluate_folder(test, model, params, ChannelChoice(), is_true_diameter=True)
    summary = summarise([one.score for one in each]).to_json()
    return {"ap": {t: summary["ap"][t] for t in ("0.5", "0.75", "0.9")}, "rois": summary["rois"]}


def keep(results: dict, path: Path) -> None:
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="python with Cellpose 3.1.1.3")
    parser.add_argument("--checkpoint", type=Path, required=True, help="a Cellpose checkpoint")
    parser.add_argument("--data", type=Path, required=True, help="a category: train and test")
    parser.add_argument("--out", type=Path, default=Path("train_against_cellpose.json"))
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=2)
    return parser.parse_args(sys.argv[1:])


if __name__ == "__main__":
    main()
