"""The side of Cellpose 3.1.1.3 of `bench/speed.py`; it runs in Cellpose's own environment.

peer/bin/python bench/speed_cellpose.py FOLDER
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import tifffile
import torch
from cellpose import dynamics, metrics, models, train
from cellpose.resnet_torch import CPnet

CPU = torch.device("cpu")


class Tasks:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = json.loads((folder / "facts.json").read_text())
        self.model = models.CellposeModel(gpu=False, pretrained_model=str(folder / "checkpoint"))
        self.image = tifffile.imread(folder / "image.tif")
        self.small = [tifffile.imread(p) for p in sorted(folder.glob("small_*.tif"))]
        self.tiles = torch.from_numpy(np.load(folder / "tiles.npy"))
        with np.load(folder / "maps.npz") as maps:
            self.maps = dict(maps)
        self.trained = None

    def image_1024(self) -> None:
        masks = self.model.eval(self.image, channels=[0, 0], diameter=self.facts["diameter"])[0]
        tifffile.imwrite(self.folder / "theirs.tif", masks)

    def small_images(self) -> None:
        for pixels in self.small:
            self.model.eval(pixels, channels=[0, 0], diameter=self.facts["diameter"])

    def network_8_tiles(self) -> None:
        with torch.no_grad():
            self.model.net.eval()
            self.model.net(self.tiles)

    def training_step(self) -> None:
        if self.trained is None:
            network = CPnet(
                [2, 32, 64, 128, 256], 3, sz=3, mkldnn=False, max_pool=True, diam_mean=17.0
            )
            network.load_model(str(self.folder / "checkpoint"), device=CPU)
            weights = [p for p in network.parameters() if p.requires_grad]
            optimiser = torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=1e-4)
            self.trained = network.train(), optimiser
        network, optimiser = self.trained
        with np.load(self.folder / "batch.npz") as batch:
            tiles, targets = batch["tiles"], batch["targets"]
        y = network(torch.from_numpy(tiles))[0]
        labels = np.concatenate([targets[:, 2:], targets[:, :2]], axis=1)
        loss = train._loss_fn_seg(labels, y, CPU)  # noqa: SLF001
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def flows_to_labels(self) -> None:
        dynamics.resize_and_compute_masks(
            self.maps["flows"], self.maps["cellprob"], niter=self.facts["steps"], device=CPU
        )

    def labels_to_flows(self) -> None:
        dynamics.labels_to_flows([self.maps["labels"]], device=CPU)

    def average_precision(self) -> None:
        metrics.average_precision(self.maps["labels"], self.maps["other"])


def main() -> None:
    tasks = Tasks(Path(sys.argv[1]))
    for line in sys.stdin:
        started = time.perf_counter()
        getattr(tasks, line.strip())()
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
