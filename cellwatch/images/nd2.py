"""Read ND2, the files of Nikon's NIS-Elements, with the library `nd2`."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import nd2
import numpy as np

from cellwatch.errors import UnreadableImage
from cellwatch.images.planes import Array, CalledPages, Pages
from cellwatch.records import ImageInfo

MICROMETRES_APART = 0.01  # relative difference of the pixel's sides up to which it is called square


def describe(path: Path) -> ImageInfo:
    """Tell what an ND2 file holds: its axes are positions, time, z, channels and the plane."""
    with _opened(path) as file:
        names, shape = list(file.sizes), tuple(file.sizes.values())
        if strange := [name for name in names if name not in "PTZCYXS"]:
            raise UnreadableImage(path, f"its axis '{strange[0]}' has no meaning here")
        notes: tuple[str, ...] = ()
        y, x = file.voxel_size().y, file.voxel_size().x
        size = float(x) if x > 0 else None
        if size and abs(x - y) > MICROMETRES_APART * x:
            size, notes = None, (f"its pixels are not square ({x:g} by {y:g} µm)",)
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
            try:
                return np.array(file.read_frame(index))  # a copy: what it returns is mapped
            except Exception as error:
                if isinstance(error, OSError) and error.errno:
                    raise  # the disk or the share failed, not the file
                raise UnreadableImage(path, f"the ND2 file cannot be read: {error}") from error

        return CalledPages(math.prod(ahead), np.dtype(file.dtype), page, stack.pop_all().close)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[nd2.ND2File]:
    try:
        # An open file, not a path: that would have to fit into the address space as a whole.
        with path.open("rb") as handle, nd2.ND2File(handle) as file:
            yield file
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:
        # A damaged file may make the library raise anything.
        raise UnreadableImage(path, f"the ND2 file cannot be read: {error}") from error
