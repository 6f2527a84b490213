"""The reconciling scan: what really lies in a folder, whatever events were lost."""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from cellwatch.watching.names import is_wanted
from cellwatch.watching.settle import Sighting

ANY_NAME = "\uffff"  # stands for a folder's files when patterns are asked about the folder


def scan(
    root: Path, include: Sequence[str], exclude: Sequence[str], suffixes: Sequence[str]
) -> Iterator[Sighting]:
    """Yield every wanted file below a folder.

    Parameters
    ----------
    root : Path
    include, exclude : sequence of str
        Patterns of paths below the folder.
    suffixes : sequence of str
        Of the formats that can be read, in lower case.

    Raises
    ------
    OSError
        When the folder itself cannot be listed: it is offline, and nothing in it was deleted.

    Notes
    -----
    Links to folders are not followed. A folder or file that vanishes during the scan is left out.
    """
    pending = [""]
    while pending:
        relative = pending.pop()
        try:
            entries = list(os.scandir(root / relative))
        except OSError:
            if not relative:
                raise
            continue
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder and not _is_item(path, suffixes):
                if is_wanted(f"{path}/{ANY_NAME}", ("**",), exclude):
                    pending.append(path)
            elif sighting := look(root, path, include, exclude, suffixes):
                yield sighting


def look(
    root: Path,
    relative: str,
    include: Sequence[str],
    exclude: Sequence[str],
    suffixes: Sequence[str],
) -> Sighting | None:
    """Return one wanted file as it is now; None when it is not wanted, gone, or no plain file.

    Where `.zarr` is among the suffixes such a folder counts as one file: as large as all in it, as
    old as the newest.
    """
    if os.path.splitext(relative)[1].lower() not in suffixes:  # noqa: PTH122  faster than Path
        return None
    if not is_wanted(relative, include, exclude):
        return None
    path = root / relative
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            return None
        status = path.stat()
        if stat.S_ISDIR(status.st_mode) and _is_item(relative, suffixes):
            return _whole_folder(path, relative)
    except OSError:
        return None
    is_plain = stat.S_ISREG(status.st_mode)
    return Sighting(relative, status.st_size, status.st_mtime_ns) if is_plain else None


def item_of(relative: str, suffixes: Sequence[str]) -> str:
    """Return what an event on a path speaks of: the path, or the folder that counts as one file.

    Examples
    --------
    >>> item_of("a/b.zarr/0/c/0", [".zarr"]), item_of("a/b.tif", [".zarr"])
    ('a/b.zarr', 'a/b.tif')
    """
    parts = relative.split("/")
    for n in range(1, len(parts)):
        if _is_item("/".join(parts[:n]), suffixes):
            return "/".join(parts[:n])
    return relative


def _is_item(relative: str, suffixes: Sequence[str]) -> bool:
    return ".zarr" in suffixes and relative.lower().endswith(".zarr")


def _whole_folder(path: Path, relative: str) -> Sighting:
    size, newest = 0, path.stat().st_mtime_ns
    for folder, _, names in os.walk(path):
        newest = max(newest, os.stat(folder).st_mtime_ns)  # noqa: PTH116  faster than Path
        for name in names:
            status = os.lstat(f"{folder}/{name}")
            size, newest = size + status.st_size, max(newest, status.st_mtime_ns)
    return Sighting(relative, size, newest)
