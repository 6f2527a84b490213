"""Read the arrays that NumPy pickled into a `.npy` file, executing nothing that the file names.

Cellpose keeps size models, its choice of styles and `_seg.npy` as a pickled dictionary in an array
of objects. The names that such a file may call are listed here one by one, for NumPy 1 and 2, and
none of them leads to NumPy: each is answered by a stand-in below that takes plain numbers and text
alone. (NumPy's own constructors would build an array of objects over any memory address.)
"""

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from cellwatch.errors import UnsafePickle

LARGEST_FILE = 2 << 30  # bytes
_PLAIN_TYPE = re.compile(r"[biufcSU]\d{1,6}|\?")


def read_pickled_dict(path: Path) -> dict[str, Any]:  # Any: what the file holds
    """Read the dictionary of a `.npy` file.

    Raises
    ------
    UnsafePickle
        When the file calls a name that is not listed, or holds something else than a dictionary of
        plain values.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise UnsafePickle(f"{path} is larger than {LARGEST_FILE >> 30} GiB")
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                np.lib.format.read_array_header_1_0(file)
            else:
                np.lib.format.read_array_header_2_0(file)
            held = _plain(_Restricted(file, path).load())
        except UnsafePickle:
            raise
        except Exception as error:
            # A damaged pickle may raise anything at all.
            raise UnsafePickle(f"{path} cannot be read: {error}") from error
    value = held.item() if isinstance(held, np.ndarray) and held.size == 1 else None
    if not isinstance(value, dict):
        raise UnsafePickle(f"{path} holds no dictionary")
    return value


class _Kind:
    """Stands for a dtype."""

    def __init__(self, text: str, *_: bool) -> None:
        self.is_object = text in ("O8", "O", "|O")
        if not self.is_object and not _PLAIN_TYPE.fullmatch(text):
            raise UnsafePickle(f"arrays of type {text!r} are not read")
        self.text = text
        self.order: Literal["<", ">", "|", "="] = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if any(part is not None for part in state[2:5]) or state[1] not in ("<", ">", "|", "="):
            raise UnsafePickle("arrays of records are not read")
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        if self.is_object:
            raise UnsafePickle("objects are not made from bytes")
        return np.dtype(self.text).newbyteorder(self.order)


class _Array:
    """Stands for an array until it is known."""

    value: np.ndarray[Any, Any] | None = None
    items: list[Any] | None = None
    shape: tuple[int, ...] = ()
    order = "C"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, kind, is_fortran, content = state[-4:]
        self.shape, self.order = _checked(shape), "F" if is_fortran else "C"
        if not isinstance(kind, _Kind):
            raise UnsafePickle("an array without a type")
        if not kind.is_object:
            self.value = _from_bytes(content, kind.dtype(), self.shape, self.order)
        elif isinstance(content, list) and len(content) == math.prod(self.shape):
            self.items = content
        else:
            raise UnsafePickle("an array of objects has as many objects as its shape says")


def _reconstruct(_kind: object, _shape: object, _code: object) -> _Array:
    return _Array()


def _scalar(kind: _Kind, content: object = b"") -> Any:  # Any: a number or text
    return _from_bytes(content, kind.dtype(), (1,), "C")[0]


def _frombuffer(content: object, kind: _Kind, shape: Any, order: str) -> Any:  # Any: an array
    return _from_bytes(content, kind.dtype(), _checked(shape), "F" if order == "F" else "C")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise UnsafePickle(f"bytes in {encoding!r} are not read")
    return text.encode("latin1")


def _from_bytes(
    content: object, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any
) -> np.ndarray[Any, Any]:
    if isinstance(content, str):  # bytes of Python 2
        content = content.encode("latin1")
    if not isinstance(content, bytes | bytearray):
        raise UnsafePickle("an array's content is not bytes")
    if len(content) != dtype.itemsize * math.prod(shape):
        raise UnsafePickle(f"{len(content)} bytes are not an array of {shape} and type {dtype}")
    flat = np.frombuffer(bytes(content), dtype)
    return flat.reshape(shape, order=order).copy()


def _checked(shape: Any) -> tuple[int, ...]:
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(not isinstance(n, int) or n < 0 for n in sizes):
        raise UnsafePickle(f"{sizes} is not a shape")
    return sizes


class _Call:
    """A function that a pickle may call, and do nothing else to: it cannot set what it has."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:  # Any: what the file gives
        return self._function(*arguments)

    def __setstate__(self, _state: object) -> None:
        raise UnsafePickle("it would change a function of the program that reads it")


# Plain names: what NumPy writes for plain data. `ndarray` is only ever passed on, never called.
_NUMPY: dict[str, Callable[..., Any]] = {
    "_reconstruct": _Call(_reconstruct),
    "scalar": _Call(_scalar),
}
STAND_INS: dict[tuple[str, str], Callable[..., Any] | str] = {
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): "ndarray",
    ("_codecs", "encode"): _Call(_encode),
    **{(f"numpy.{c}.multiarray", n): f for c in ("core", "_core") for n, f in _NUMPY.items()},
    **{(f"numpy.{c}.numeric", "_frombuffer"): _Call(_frombuffer) for c in ("core", "_core")},
}


def _plain(value: Any) -> Any:  # Any: what the file holds
    """Put arrays in the place of their stand-ins, all through a value."""
    if isinstance(value, _Array):
        if value.items is None:
            if value.value is None:
                raise UnsafePickle("an array without content")
            return value.value
        made = np.empty(len(value.items), object)
        for index, item in enumerate(value.items):
            made[index] = _plain(item)
        return made.reshape(value.shape, order="F" if value.order == "F" else "C")
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, _Kind):
        raise UnsafePickle("a bare type is not a value")
    return value


class _Restricted(pickle.Unpickler):
    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:  # Any: as in pickle
        if (module, name) not in STAND_INS:
            raise UnsafePickle(
                f"{self._path} would call {module}.{name}; only plain arrays are read, "
                "and nothing of it was executed"
            )
        return STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> Any:  # Any: as in pickle
        raise UnsafePickle(f"{self._path} refers to something outside itself ({pid!r})")
