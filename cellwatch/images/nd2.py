"""Read ND2, the files of Nikon's NIS-Elements, with the library `nd2`."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import nd2
import numpy as np

from cellwatch.errors import UnreadableImage
from cellwatch.images.calibration import pixel_side
from cellwatch.images.libraries import decoding, opening
from cellwatch.images.planes import Array, CalledPages, Pages
from cellwatch.records import ImageInfo


def describe(path: Path) -> ImageInfo:
    """Tell what an ND2 file holds: its axes are positions, time, z, channels and the plane."""
    with _opened(path) as file:
        names, shape = list(file.sizes), tuple(file.sizes.values())
        if strange := [name for name in names if name not in "PTZCYXS"]:
            raise UnreadableImage(path, f"its axis '{strange[0]}' has no meaning here")
        size, notes = pixel_side(file.voxel_size().x, file.voxel_size().y)
        count = file.sizes.get("C", 1)
        found = [channel.channel.name for channel in file.metadata.channels or []]
        channels = tuple(found) if len(found) == count else ("",) * count
        if "S" in names:
            channels = ("red", "green", "blue")
        dtype = str(file.dtype)
        return ImageInfo(
            str(path), "nd2", "".join(names), shape, dtype, size, channels, notes=notes
        )


def open_pages(path: Path, *, is_labels: bool = False) -> Pages:
    """Open an ND2 file, whose pages hold all channels; `is_labels` changes nothing of them."""
    del is_labels
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_opened(path))
        ahead = [n for axis, n in file.sizes.items() if axis not in "CYXS"]

        def page(index: int) -> Array:
            with decoding(path, "ND2 file"):
                return np.array(file.read_frame(index))  # a copy: what it returns is mapped

        return CalledPages(math.prod(ahead), np.dtype(file.dtype), page, stack.pop_all().close)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[nd2.ND2File]:
    # An open file, not a path: that would have to fit into the address space as a whole.
    with opening(path, "ND2 file"), path.open("rb") as handle, nd2.ND2File(handle) as file:
        yield file
