"""Series that were aborted, read as far as they are whole: `interrupted: process` of a folder.

The environment carries the folders, so that child processes read the same of a file.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from cellwatch.errors import UnreadableImage
from cellwatch.images.planes import CalledPages, Pages
from cellwatch.images.structure import planes_declared
from cellwatch.records import ImageInfo

VARIABLE = "CELLWATCH_ABORTED_SERIES"  # of the environment
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
    return f"the series was aborted: {n} of {total} {CALLED[axis]} are whole and were segmented"


def cut(path: Path, info: ImageInfo) -> ImageInfo:
    """Return what a single TIFF file holds as far as its planes are there.

    Such a file may be written plane by plane, and say before how many there will be.

    Raises
    ------
    UnreadableImage
        When not even the first time point (position, z plane) is whole.
    """
    declared, there = planes_declared(path) if is_read(path) else (0, 0)
    if there >= declared or info.axes[0] not in CALLED:
        return info
    total = info.shape[0]
    whole = total * there // declared
    if not whole:
        raise UnreadableImage(path, f"none of its {total} {CALLED[info.axes[0]]} is whole")
    notes = (*info.notes, note(whole, total, info.axes[0]))
    return replace(info, shape=(whole, *info.shape[1:]), notes=notes)


def cut_pages(pages: Pages, n: int, total: int) -> Pages:
    """Return the pages of the first n of so many time points (positions, z planes)."""
    if n == total:
        return pages
    return CalledPages(pages.n_pages * n // total, pages.dtype, pages.page, pages.close)
