"""Label images as TIFF (napari, Fiji, ilastik …) and PNG of 8 or 16 bits."""

from pathlib import Path

import numpy as np

from cellwatch.core.arrays import Int32
from cellwatch.errors import RejectedCorrection, UnreadableImage
from cellwatch.images import describe, load
from cellwatch.storage.corrections.formats.instances import checked_shape, instances


def read(path: Path, shape: tuple[int, int], _target: str) -> tuple[Int32, str, list[str]]:
    """Read a label image; see `formats.reading.read_labels`."""
    try:
        # What it declares is refused before a byte of it is decoded.
        checked_shape(_plain_shape(path), shape)
        pixels = load(path, is_labels=True).pixels
    except UnreadableImage as error:
        raise RejectedCorrection(f"it cannot be read: {error.reason}", "save it again") from error
    labels, notes = instances(np.squeeze(pixels).reshape(shape), shape)
    return labels, "PNG" if path.suffix.lower() == ".png" else "label TIFF", notes


def _plain_shape(path: Path) -> list[int]:
    info = describe(path)
    order = sorted(range(len(info.axes)), key=lambda i: (info.axes[i] == "S", i))
    return [info.shape[i] for i in order]
