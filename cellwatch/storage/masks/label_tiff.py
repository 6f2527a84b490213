"""Label images as plain TIFF files, which every program opens."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cellwatch.errors import MaskStoreError
from cellwatch.files.publish import written_aside
from cellwatch.files.stems import masks_name

LARGEST_UINT16 = 65_535


def write_label_tiff(
    path: Path, labels: NDArray[np.int32], superseded: Path, pixel_size_um: float | None = None
) -> None:
    """Write a label image as TIFF: uint16, or uint32 above 65,535 ROIs.

    Parameters
    ----------
    path : Path
    labels : (..., Y, X) int32
        Axes in front of Y and X become pages.
    superseded : Path
        The folder for a file that stood there before.
    pixel_size_um : float or None
        None: not known.
    """
    dtype = np.uint16 if labels.max(initial=0) <= LARGEST_UINT16 else np.uint32
    pages = labels.reshape(-1, *labels.shape[-2:])
    is_one = len(pages) == 1
    with written_aside(path, superseded) as aside:
        tifffile.imwrite(
            aside,
            (page.astype(dtype) for page in pages),
            shape=pages.shape[1:] if is_one else pages.shape,
            dtype=dtype,
            photometric="minisblack",
            compression="zlib",
            metadata={"axes": "YX" if is_one else "TYX"},
            **_resolution(pixel_size_um),
        )


def _resolution(pixel_size_um: float | None) -> dict[str, Any]:  # Any: what tifffile takes
    if not pixel_size_um:
        return {}
    a_centimetre = 1e4 / pixel_size_um
    return {"resolution": (a_centimetre, a_centimetre), "resolutionunit": "CENTIMETER"}


DIFFER = "its labels are not those of the mask store"


def check_label_tiffs(store: Path, targets: list[str]) -> list[str]:
    """Compare the label TIFFs beside a mask store with it; return what is wrong."""
    from cellwatch.storage.masks.store import read_labels  # zarr, which writing a TIFF needs not

    problems = []
    for name in targets:
        path = beside(store, name if len(targets) > 1 else "")
        try:
            pages = tifffile.imread(path)
            expected = read_labels(store, name)
            if not np.array_equal(np.ravel(pages), expected.ravel()):
                problems.append(f"{path}: {DIFFER}")
        except (OSError, ValueError, MaskStoreError) as error:
            problems.append(f"{path}: cannot be read: {error}")
    return problems


def beside(store: Path, target: str = "") -> Path:
    """Return where the label TIFF of a mask store lies."""
    return store.with_name(masks_name(store.name.removesuffix(".zarr"), target))
