"""Series that were aborted, read as far as they are whole: `interrupted: process` of a folder.

The environment carries the folders, so that child processes read the same of a file.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path

from cellwatch.errors import UnreadableImage
from cellwatch.images.planes import CalledPages, Pages
from cellwatch.images.suffixes import TIFFS, suffix_of
from cellwatch.records import ImageInfo

VARIABLE = "CELLWATCH_ABORTED_SERIES"  # of the environment
ABORTED = "the series was aborted"  # so begins the note on one that is read
CALLED = {"P": "positions", "T": "time points", "Z": "z planes"}


def declare(folders: Iterable[Path]) -> None:
    """Let aborted series below these folders be read, also by child processes."""
    said = [str(folder.absolute()) for folder in folders]
    if said:
        os.environ[VARIABLE] = json.dumps(said)
    else:
        os.environ.pop(VARIABLE, None)


def is_read(path: Path) -> bool:
    """Say whether a series, should it have been aborted, is read as far as it is whole."""
    return any(path.is_relative_to(root) for root in _roots(os.environ.get(VARIABLE, "")))


@lru_cache(maxsize=4)
def _roots(said: str) -> tuple[Path, ...]:
    return tuple(Path(folder) for folder in json.loads(said or "[]"))


def note(n: int, total: int, axis: str) -> str:
    """Return the note on a series of which so much is whole, along T, Z or P."""
    return f"{ABORTED}: {n} of {total} {CALLED[axis]} are whole and were segmented"


def is_noted(info: ImageInfo) -> bool:
    """Say whether an image was read as far as it is whole."""
    return any(said.startswith(ABORTED) for said in info.notes)


def cut(path: Path, info: ImageInfo) -> ImageInfo:
    """Return what a single OME-TIFF holds as far as its planes are there.

    Such a file may be written plane by plane, and say before how many there will be. One whose
    slowest axis is not time, z or position is returned as it is.

    Raises
    ------
    UnreadableImage
        When not even the first time point (position, z plane) is whole.
    """
    if suffix_of(path.name) not in TIFFS or not is_read(path) or info.axes[0] not in CALLED:
        return info
    there, declared = import_module("cellwatch.images.tiff").leading_pages(path)
    total = info.shape[0]
    if there >= declared or declared % total:
        return info
    whole = there // (declared // total)
    if not whole:
        raise UnreadableImage(path, f"none of its {total} {CALLED[info.axes[0]]} is whole")
    notes = (*info.notes, note(whole, total, info.axes[0]))
    return replace(info, shape=(whole, *info.shape[1:]), notes=notes)


def cut_pages(pages: Pages, n: int, total: int) -> Pages:
    """Return the pages of the first n of so many time points (positions, z planes)."""
    if n == total:
        return pages
    return CalledPages(pages.n_pages * n // total, pages.dtype, pages.page, pages.close)
