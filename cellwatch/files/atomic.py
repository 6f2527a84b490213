"""Files that are there whole or not at all, also after a power cut."""

import os
from pathlib import Path


def put_in_place(aside: Path, path: Path) -> None:
    """Give a file that was written aside its name; its content is on the disk before.

    Parameters
    ----------
    aside, path : Path
        In one folder. What `path` was is replaced.
    """
    flush(aside)
    aside.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Force a file, or what a folder says of its files, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
