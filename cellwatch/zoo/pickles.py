"""Read the arrays that NumPy pickled into a `.npy` file, executing nothing that the file names.

Cellpose keeps size models, its choice of styles and `_seg.npy` as a pickled dictionary in an array
of objects. The names that such a file may call are listed here one by one, for NumPy 1 and 2; any
other is refused before it is looked up.
"""

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from cellwatch.errors import UnsafePickle

LARGEST_FILE = 2 << 30  # bytes

# Constructors of arrays, dtypes and scalars: all that NumPy writes for plain data.
ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}
RENAMED = {"numpy.core.multiarray": "numpy._core.multiarray"}
RENAMED |= {"numpy.core.numeric": "numpy._core.numeric"}


def read_pickled_dict(path: Path) -> dict[str, Any]:  # Any: what the file holds
    """Read the dictionary of a `.npy` file.

    Raises
    ------
    UnsafePickle
        When the file calls a name that is not listed, or holds something else than a dictionary.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise UnsafePickle(f"{path} is larger than {LARGEST_FILE >> 30} GiB")
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            header = (
                np.lib.format.read_array_header_1_0(file)
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0(file)
            )
            held = _Restricted(file, path).load()
        except UnsafePickle:
            raise
        except Exception as error:
            # A damaged pickle may raise anything at all.
            raise UnsafePickle(f"{path} cannot be read: {error}") from error
    if header[2] != np.dtype(object) or not isinstance(held, np.ndarray) or held.size != 1:
        raise UnsafePickle(f"{path} holds no dictionary")
    value = held.item()
    if not isinstance(value, dict):
        raise UnsafePickle(f"{path} holds a {type(value).__name__}, not a dictionary")
    return value


class _Restricted(pickle.Unpickler):
    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:  # Any: as in pickle
        if (module, name) not in ALLOWED:
            raise UnsafePickle(
                f"{self._path} would call {module}.{name}; only plain arrays are read, "
                "and nothing of it was executed"
            )
        try:
            return super().find_class(RENAMED.get(module, module), name)
        except (ImportError, AttributeError):  # NumPy 1 has only the old name
            return super().find_class(module.replace("numpy._core", "numpy.core"), name)

    def persistent_load(self, pid: Any) -> Any:  # Any: as in pickle
        raise UnsafePickle(f"{self._path} refers to something outside itself ({pid!r})")
