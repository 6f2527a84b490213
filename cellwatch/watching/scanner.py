"""The reconciling scan: what really lies in a folder, whatever events were lost."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from cellwatch.images.suffixes import suffix_of
from cellwatch.watching.names import FileFilter, is_wanted
from cellwatch.watching.settle import Sighting

Place = tuple[int, int]  # device and inode
ANY_NAME = "\uffff"  # represents a folder's files when patterns are asked about the folder


def scan(root: Path, wanted: FileFilter) -> Iterator[Sighting]:
    """Yield every wanted file below a folder.

    Parameters
    ----------
    root : Path
    wanted : FileFilter

    Raises
    ------
    OSError
        When the folder itself cannot be listed: it is offline, and nothing in it was deleted.

    Notes
    -----
    Links to folders are not followed, and neither are links to files: one that leads out of the
    folder, or to itself, is none of it, and what one within it leads to is found by itself. A
    folder or file that vanishes during the scan is left out.
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
            if is_folder and not _is_item(path, wanted.suffixes):
                if is_wanted(f"{path}/{ANY_NAME}", ("**",), wanted.exclude):
                    pending.append(path)
            elif sighting := look(root, path, wanted):
                yield sighting


def unread_in(
    root: Path, exclude: Sequence[str], looks_like: Sequence[str]
) -> dict[str, list[str]]:
    """Return the files of a folder that look like images and are of no kind that is read.

    Parameters
    ----------
    root : Path
    exclude : sequence of str
        Patterns of paths that nobody misses.
    looks_like : sequence of str
        Suffixes of images, in lower case.

    Returns
    -------
    dict of str to list of str
        By suffix: paths below the folder. Empty where the folder cannot be listed.
    """
    found: dict[str, list[str]] = {}
    for folder, folders, names in os.walk(root):
        below = os.path.relpath(folder, root)
        start = "" if below == "." else f"{below}/"
        folders[:] = [n for n in folders if is_wanted(f"{start}{n}/{ANY_NAME}", ("**",), exclude)]
        for name in names:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122  faster than Path
            if suffix in looks_like and is_wanted(f"{start}{name}", ("**",), exclude):
                found.setdefault(suffix, []).append(f"{start}{name}")
    return found


def place_of(folder: Path) -> Place | None:
    """Return the device and inode of a folder; None: it is not there."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_bare(folder: Path) -> bool:
    """Say whether a folder holds nothing at all, as a mount point without its disk does."""
    try:
        with os.scandir(folder) as entries:
            return not any(entries)
    except OSError:
        return True


def look(root: Path, relative: str, wanted: FileFilter) -> Sighting | None:
    """Return one wanted file as it is now; None when it is not wanted, gone, or no plain file.

    Where `.zarr` is among the suffixes such a folder is treated as one file: as large as all in
    it, as old as the newest.
    """
    suffixes = wanted.suffixes
    if not relative.lower().endswith(tuple(suffixes)) or suffix_of(relative) not in suffixes:
        return None
    if not is_wanted(relative, wanted.include, wanted.exclude):
        return None
    path = root / relative
    try:
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode) and _is_item(relative, suffixes):
            return _whole_folder(path, relative)
    except OSError:
        return None
    is_plain = stat.S_ISREG(status.st_mode)
    if not is_plain:
        return None
    return Sighting(relative, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def is_gone(root: Path, relative: str) -> bool:
    """Say whether a file is certainly not there: the folder above it can be listed, without it."""
    path = root / relative
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return _is_listed(path.parent, root)
    except OSError:
        pass
    return False


def _is_listed(folder: Path, root: Path) -> bool:
    # Or the folder above, where this one is gone too.
    try:
        with os.scandir(folder):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return folder != root and _is_listed(folder.parent, root)
    except OSError:
        return False


def item_of(relative: str, suffixes: Sequence[str]) -> str:
    """Return what an event on a path means: the path, or the folder that is treated as one file.

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


class Lister(Protocol):
    """Who looks into a folder: this process, or another that may be given up."""

    def scan(self, root: Path, wanted: FileFilter) -> Iterable[Sighting]:
        """Return what `scan` yields, or raise what it raises."""

    def look(self, root: Path, relative: str, wanted: FileFilter) -> Sighting | None:
        """Return what `look` returns; raise OSError where there is no answer."""

    def is_gone(self, root: Path, relative: str) -> bool:
        """Return what `is_gone` returns; False where there is no answer."""

    def place_of(self, folder: Path) -> Place | None:
        """Return what `place_of` returns."""

    def is_bare(self, folder: Path) -> bool:
        """Return what `is_bare` returns."""

    def unread_in(
        self, root: Path, exclude: Sequence[str], looks_like: Sequence[str]
    ) -> dict[str, list[str]]:
        """Return what `unread_in` returns."""

    def close(self) -> None:
        """Give back what it holds: a process, where it has one."""


class _Local:
    """Look into folders of this machine."""

    scan = staticmethod(scan)
    look = staticmethod(look)
    is_gone = staticmethod(is_gone)
    place_of = staticmethod(place_of)
    is_bare = staticmethod(is_bare)
    unread_in = staticmethod(unread_in)

    def close(self) -> None:
        """Nothing is held."""


LOCAL: Lister = _Local()
