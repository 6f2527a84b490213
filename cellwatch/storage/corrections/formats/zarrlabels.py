"""OME-Zarr label images: a mask store as cellwatch writes it, or a bare label multiscale."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.errors import BaseZarrError

from cellwatch.core.arrays import Int32
from cellwatch.errors import RejectedCorrection
from cellwatch.storage.corrections.formats.instances import checked_shape, instances


def read(path: Path, shape: tuple[int, int], target: str) -> tuple[Int32, str, list[str]]:
    """Read a label image of a store; see `formats.reading.read_labels`."""
    if any(member.is_symlink() for member in path.rglob("*")):
        raise RejectedCorrection("it holds links to other places", "save it as plain files")
    try:
        with warnings.catch_warnings():
            # A desktop leaves files of its own in a folder (.DS_Store): they are no part of it.
            warnings.simplefilter("ignore")
            array = _labels(zarr.open(path, mode="r"), target)
            checked_shape(array.shape, shape)
            pixels = np.asarray(array[...])
    except (BaseZarrError, OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise RejectedCorrection(
            f"it cannot be read as OME-Zarr: {error}", "save it again"
        ) from error
    labels, notes = instances(pixels, shape)
    return labels, "OME-Zarr", notes


def _labels(node: Any, target: str) -> Any:  # Any: zarr's groups and arrays
    if isinstance(node, zarr.Array):
        return node
    names = [name for name, _ in node.groups()]
    if "labels" in names:
        node = node["labels"]
        names = [name for name, _ in node.groups()]
    level = _finest(node)
    if level is None:
        if target in names:
            node = node[target]
        elif len(names) == 1:
            node = node[names[0]]
        else:
            raise RejectedCorrection(
                f"it holds the label images {', '.join(names) or 'none'}, and none is '{target}'",
                f"name the label image {target or 'as the target'}",
            )
        level = _finest(node) or "0"
    return node[level]


def _finest(node: Any) -> str | None:  # Any: a zarr group
    # The metadata name the level of full resolution; without them it is called 0 as a rule.
    attributes = dict(node.attrs)
    said = attributes.get("ome", attributes)
    multiscales = said.get("multiscales") if isinstance(said, dict) else None
    try:
        path = str(multiscales[0]["datasets"][0]["path"])  # type: ignore[index]  # checked by trying
    except (TypeError, KeyError, IndexError):
        path = "0"
    return path if path in node else None
