"""Round trips with Cellpose 3.1.1.3, which lives in a virtual environment of its own.

`CELLWATCH_PEER` names its Python; without it these tests are skipped.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.core.segment import segment
from cellwatch.training.specimens.draw import draw_specimen
from cellwatch.workflows.simulate import Optics, expose, render_cells
from cellwatch.zoo.cards import find_model
from cellwatch.zoo.catalog import load_model
from cellwatch.zoo.importing import export_checkpoint, import_checkpoint

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

CELLPOSE = """
import sys
import tifffile
from cellpose import models
image, checkpoint, masks, again = sys.argv[1:]
model = models.CellposeModel(gpu=False, pretrained_model=checkpoint)
found, _, _ = model.eval(tifffile.imread(image), diameter=20, channels=[0, 0])
tifffile.imwrite(masks, found)
import torch
from cellpose.resnet_torch import CPnet
# Inference changes the network's layout in place, so another one is saved.
net = CPnet([2, 32, 64, 128, 256], 3, sz=3, mkldnn=False, max_pool=True, diam_mean=30.0)
net.load_model(checkpoint, device=torch.device("cpu"))
net.save_model(again)
"""


@pytest.fixture(scope="module")
def peer():
    python = os.environ.get("CELLWATCH_PEER")
    if not python or not Path(python).exists():
        pytest.skip("CELLWATCH_PEER names no Python with Cellpose 3.1.1.3")
    return python


@pytest.mark.parametrize("name", ["nuclei", "general", "phase"])
def test_cellpose_finds_the_same_masks_with_an_exported_model(peer, tmp_path, name):
    rng = np.random.default_rng(3)
    optics = Optics()
    brightness, _ = render_cells(256, optics, rng)
    image = expose(brightness, optics, rng)
    if name == "phase":  # which finds nothing in nuclei
        cells = draw_specimen(np.random.default_rng(6), 256, "adherent in phase contrast", 24.0)
        image = (cells.plane[0] * 40_000 / cells.plane[0].max()).clip(0).astype(np.uint16)
    tifffile.imwrite(tmp_path / "image.tif", image)
    export_checkpoint(name, None, tmp_path / "exported")

    subprocess.run(
        [peer, "-c", CELLPOSE, *(str(tmp_path / n) for n in
         ("image.tif", "exported", "masks.tif", "again"))],
        check=True, capture_output=True,
    )  # fmt: skip
    import_checkpoint(tmp_path / "again", tmp_path / "zoo/back", "back")

    network = load_model(find_model(name))
    back = load_model(find_model("back", tmp_path / "zoo"))
    for key, value in network.state_dict().items():
        assert torch.equal(back.state_dict()[key], value), key
    as_there = {"tiling": "fixed", "tile": 224, "tile_overlap": 0.1}
    params = SegmentationParams(diameter=Diameter("fixed", 20.0), **as_there)
    ours = segment(image[None].astype(np.float32), back, params)
    theirs = tifffile.imread(tmp_path / "masks.tif")
    assert theirs.max() > 5
    np.testing.assert_array_equal(ours.labels, theirs)
