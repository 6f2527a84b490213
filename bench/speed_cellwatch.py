"""cellwatch's side of `bench/speed.py`: does one task for each line of its input, prints seconds.

    python bench/speed_cellwatch.py FOLDER PRECISION [training]

With `training` memory is kept as the trainer keeps it, else as the worker does.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import tifffile
import torch

from cellwatch.cli.segment import load_for
from cellwatch.compute.device import keep_freed_memory, reuse_small_memory
from cellwatch.core.flows import flows_of
from cellwatch.core.folded import folded
from cellwatch.core.matching import match
from cellwatch.core.network import CPNet
from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.core.segment import labels_from_maps, segment
from cellwatch.training.batches import Batch
from cellwatch.training.fit import make_optimiser, ready_to_train, train_step
from cellwatch.training.plans import FitPlan
from cellwatch.zoo.weights import load_checkpoint

CPU = torch.device("cpu")
RATES = ((128, 56), (64, 112), (256, 28))  # channels and side of the convolutions that are timed


class Tasks:
    """What can be asked for, each a method without arguments."""

    def __init__(self, folder: Path, precision: str) -> None:
        self.folder, self.precision = folder, precision
        self.facts = json.loads((folder / "facts.json").read_text())
        self.network: CPNet = load_for(str(folder / "checkpoint"), None, "cpu").network
        self.params = SegmentationParams(
            diameter=Diameter("fixed", self.facts["diameter"]), precision=precision
        )
        self.image = tifffile.imread(folder / "image.tif")
        self.small = [tifffile.imread(p) for p in sorted(folder.glob("small_*.tif"))]
        self.tiles = torch.from_numpy(np.load(folder / "tiles.npy"))
        with np.load(folder / "maps.npz") as maps:
            self.maps = dict(maps)
        self.trained = None

    def image_1024(self) -> None:
        labels = segment(self.image[None], self.network, self.params).labels
        tifffile.imwrite(self.folder / f"ours_{self.precision}.tif", labels)

    def small_images(self) -> None:
        for pixels in self.small:
            segment(pixels[None], self.network, self.params)

    def network_8_tiles(self) -> None:
        with torch.inference_mode():
            network = folded(self.network, getattr(torch, self.precision))
            for start in range(0, len(self.tiles), 4):  # as many as `segment` gives it at once
                network(self.tiles[start : start + 4])

    def training_step(self) -> None:
        if self.trained is None:
            network = load_checkpoint(self.folder / "checkpoint")
            ready_to_train(network, CPU, self.precision)
            plan = FitPlan("online", 20, precision=self.precision)
            self.trained = network, make_optimiser(network, plan)
        with np.load(self.folder / "batch.npz") as batch:
            arrays = Batch(batch["tiles"], batch["targets"])
        train_step(*self.trained, arrays, self.precision)

    def flows_to_labels(self) -> None:
        flows, cellprob = self.maps["flows"], self.maps["cellprob"]
        labels_from_maps(flows, cellprob, self.params, self.facts["steps"], CPU)

    def labels_to_flows(self) -> None:
        flows_of(self.maps["labels"])

    def average_precision(self) -> None:
        match(self.maps["labels"], self.maps["other"])

    def convolution_rate(self) -> float:
        """Return the best GFLOP/s of this machine's 3 x 3 convolutions."""
        dtype = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        return max(rate_of(channels, side, dtype) for channels, side in RATES)


def rate_of(channels: int, side: int, dtype: torch.dtype) -> float:
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(dtype)
    layer = layer.to(memory_format=torch.channels_last)
    x = torch.randn(8, channels, side, side, dtype=dtype).to(memory_format=torch.channels_last)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(12):
            started = time.perf_counter()
            layer(x)
            best = min(best, time.perf_counter() - started)
    return 2 * 9 * channels * channels * side * side * 8 / best / 1e9


def main() -> None:
    if sys.argv[3:] == ["training"]:
        keep_freed_memory()
    else:
        reuse_small_memory()
    tasks = Tasks(Path(sys.argv[1]), sys.argv[2])
    for line in sys.stdin:
        started = time.perf_counter()
        answer = getattr(tasks, line.strip())()
        print(time.perf_counter() - started if answer is None else answer, flush=True)


if __name__ == "__main__":
    main()
