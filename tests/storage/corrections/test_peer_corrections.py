"""Files that Cellpose 3.1.1.3 itself writes are read exactly, and it reads ours."""

import os
import subprocess

import numpy as np
import pytest

from cellwatch.core.labels import number_in_raster_order
from cellwatch.storage.corrections.export import write_labels
from cellwatch.storage.corrections.formats.reading import read_labels
from tests.storage.corrections.test_formats import SHAPE, ragged_labels

PEER = os.environ.get("CELLWATCH_PEER", "")
pytestmark = [
    pytest.mark.peer,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PEER, reason="CELLWATCH_PEER names no Python with Cellpose 3.1.1.3"),
]

WRITE = """
import sys
import numpy as np
from cellpose import io
masks = np.load(sys.argv[1])
shape = masks.shape
flows = [np.zeros((*shape, 3), np.uint8), np.zeros((2, *shape), np.float32),
         np.zeros(shape, np.float32), np.zeros((2, *shape), np.float32)]
image = np.zeros(shape, np.uint8)
io.masks_flows_to_seg(image, masks, flows, sys.argv[2], channels=[0, 0], diams=30)
io.save_masks(image, masks, flows, sys.argv[2], png=True, tif=True, savedir=sys.argv[3])
"""
READ = """
import sys
import numpy as np
held = np.load(sys.argv[1], allow_pickle=True).item()
assert {"masks", "outlines", "chan_choose", "ismanual", "filename", "flows"} <= set(held)
np.save(sys.argv[2], held["masks"])
"""


def peer(code, *arguments):
    subprocess.run([PEER, "-c", code, *map(str, arguments)], check=True, capture_output=True)


def test_what_cellpose_writes_is_read_exactly(tmp_path):
    labels = ragged_labels()
    np.save(tmp_path / "masks.npy", labels.astype(np.uint16))

    peer(WRITE, tmp_path / "masks.npy", tmp_path / "a.tif", tmp_path)

    for name in ("a_seg.npy", "a_cp_masks.png", "a_cp_masks.tif"):
        found = read_labels(tmp_path / name, SHAPE)
        assert (number_in_raster_order(found.labels) == labels).all(), name


def test_cellpose_reads_what_is_checked_out_for_it(tmp_path):
    labels = ragged_labels()
    write_labels(tmp_path / "a_seg.npy", labels, "cellpose", tmp_path / "a.tif")

    peer(READ, tmp_path / "a_seg.npy", tmp_path / "out.npy")

    assert (np.load(tmp_path / "out.npy") == labels).all()
