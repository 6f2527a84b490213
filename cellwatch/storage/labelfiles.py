"""Label images as plain TIFF files, which every program opens."""

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from cellwatch.storage.publish import written_aside

LARGEST_UINT16 = 65_535


def write_label_tiff(path: Path, labels: NDArray[np.int32], superseded: Path) -> None:
    """Write a label image as TIFF: uint16, or uint32 above 65,535 ROIs.

    Parameters
    ----------
    path : Path
    labels : (..., Y, X) int32
        Axes in front of Y and X become pages.
    superseded : Path
        The folder for a file that stood there before.
    """
    dtype = np.uint16 if labels.max(initial=0) <= LARGEST_UINT16 else np.uint32
    pages = labels.astype(dtype).reshape(-1, *labels.shape[-2:])
    with written_aside(path, superseded) as aside:
        tifffile.imwrite(
            aside,
            pages[0] if len(pages) == 1 else pages,
            photometric="minisblack",
            compression="zlib",
            metadata={"axes": "YX" if len(pages) == 1 else "TYX"},
        )
