"""Compare a training run's weights in full precision with the half-precision model it became.

    python bench/half_precision.py CHECKPOINT MODEL DATA

CHECKPOINT is a run's checkpoint.safetensors of the last epoch, MODEL the model folder, DATA a
folder of pairs. Prints the mean average precision of both at the true diameters.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open

from cellwatch.compute.device import keep_freed_memory, optimised
from cellwatch.compute.models import Model
from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.records import ChannelChoice
from cellwatch.training.evaluate import summarise
from cellwatch.workflows.evaluate import evaluate_folder
from cellwatch.zoo.cards import find_model
from cellwatch.zoo.catalog import load_model
from cellwatch.zoo.weights import network_from


def main() -> None:
    checkpoint, folder, data = map(Path, sys.argv[1:])
    keep_freed_memory()
    place = find_model(str(folder.absolute()))
    with safe_open(checkpoint, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith("weights.")]  # noqa: SIM118
        full = {name.removeprefix("weights."): file.get_tensor(name) for name in names}
    networks = {"full": network_from(full, str(checkpoint)), "half": load_model(place)}
    params = SegmentationParams(diameter=Diameter("model"))
    for name, network in networks.items():
        optimised(network, torch.device("cpu"))
        model = Model(network, place.card)
        scored = evaluate_folder(data, model, params, ChannelChoice(), is_true_diameter=True)
        scores = [one.score for one in scored]
        print(name, json.dumps(summarise(scores).to_json()["ap"]))


if __name__ == "__main__":
    main()
