"""Files that are there whole or not at all, also after a power cut."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def writing(path: Path, writer: str = "") -> Iterator[Path]:
    """Yield a place for a file, which gets its name when the block ends, and goes when it fails.

    Parameters
    ----------
    path : Path
        What it was is replaced.
    writer : str
        Tells processes apart that may write the same file; "": there is one.
    """
    mark = f".{writer}" if writer else ""
    aside = path.with_name(f".{path.name}{mark}.partial")
    aside.unlink(missing_ok=True)  # of a process that was killed
    try:
        yield aside
        put_in_place(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(
    path: Path,
    data: Any,  # Any: JSON
    *,
    indent: int = 1,
    writer: str = "",
) -> None:
    """Write a file of JSON, whole or not at all; `writer` as in `writing`."""
    with writing(path, writer) as aside:
        aside.write_text(json.dumps(data, indent=indent) + "\n", encoding="utf-8")


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
