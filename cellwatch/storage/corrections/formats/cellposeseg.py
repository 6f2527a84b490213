"""`_seg.npy` of Cellpose's GUI and scripts: a pickled dictionary, read without executing it."""

from pathlib import Path

import numpy as np

from cellwatch.core.arrays import Int32
from cellwatch.errors import RejectedCorrection, UnsafePickle
from cellwatch.storage.corrections.formats.instances import instances
from cellwatch.zoo.pickles import read_pickled_dict


def read(path: Path, shape: tuple[int, int], _target: str) -> tuple[Int32, str, list[str]]:
    """Read the masks of a `_seg.npy`; see `formats.reading.read_labels`."""
    try:
        held = read_pickled_dict(path)
    except UnsafePickle as error:
        reason = str(error).removeprefix(f"{path} ")
        raise RejectedCorrection(
            f"it is not a _seg.npy that can be read safely: {reason}",
            "save it again in Cellpose, or save the masks as PNG or TIFF",
        ) from error
    if "masks" not in held:
        raise RejectedCorrection(
            f"it holds no 'masks', only {', '.join(sorted(map(str, held))[:8])}",
            "save it in Cellpose's GUI with Ctrl+S",
        )
    masks = np.asarray(held["masks"])
    if masks.dtype == object:
        raise RejectedCorrection("its 'masks' are not a plain array", "save the masks as TIFF")
    labels, notes = instances(masks, shape)
    return labels, "Cellpose _seg.npy", notes
