"""Arrays that are too large for memory, in unnamed files that vanish with their process."""

import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def scratch_zeros(shape: tuple[int, ...], kind: Any, folder: Path) -> NDArray[Any]:  # Any: a dtype
    """Return an array of zeros whose pages the system may write to a disk when memory is short.

    Parameters
    ----------
    shape : tuple of int
    kind : numpy dtype
    folder : Path
        On the disk that is used: no folder in memory, such as `/tmp` may be.

    Raises
    ------
    OSError
        When the disk has no room for all of it: it is taken at once.
    """
    n_bytes = math.prod(shape) * np.dtype(kind).itemsize
    with tempfile.TemporaryFile(dir=folder) as file:
        # Without it a full disk would end the process when a page is written.
        os.posix_fallocate(file.fileno(), 0, max(1, n_bytes))
        return np.memmap(file, kind, "r+", shape=shape)
