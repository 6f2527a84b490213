"""Are the chunks of an OME-Zarr image there? A store opens as well without them, as black.

Chunks that hold nothing but the fill value may be left out by who writes. So it is the last one
that tells: what is written in order and is not done lacks it.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

METADATA = (".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json")


@dataclass(frozen=True, slots=True)
class Chunks:
    """How many files the pixels of an array are in.

    Attributes
    ----------
    expected, found : int
    has_last : bool
        Whether the last one is there, in the order of the axes.
    """

    expected: int
    found: int
    has_last: bool

    @property
    def absent(self) -> int:
        """Return how many are not there."""
        return max(0, self.expected - self.found)


def chunks_of(store: Path, pixels: Any) -> Chunks:  # Any: zarr.Array
    """Count the chunks, or shards, of an array; of one in a zip file all are there."""
    grid = [
        -(-int(n) // int(each))
        for n, each in zip(pixels.shape, pixels.shards or pixels.chunks, strict=True)
    ]
    expected = 1
    for n in grid:
        expected *= n
    if not store.is_dir():
        return Chunks(expected, expected, has_last=True)
    place = store / pixels.path
    key = pixels.metadata.encode_chunk_key(tuple(n - 1 for n in grid))
    return Chunks(expected, _n_files(place), has_last=(place / key).is_file())


def _n_files(folder: Path) -> int:
    return sum(
        name not in METADATA and not name.endswith(".partial")
        for _, _, names in os.walk(folder)
        for name in names
    )
