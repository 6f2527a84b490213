"""Is this image whole? Answered from its structure, without decoding pixels."""

import struct
from pathlib import Path
from typing import BinaryIO

from cellwatch.files.members import file_of
from cellwatch.images.containers import CONTAINERS
from cellwatch.images.suffixes import INDICES, TIFFS, ZARRS, suffix_of
from cellwatch.images.tiff_structure import Unlikely, why_tiff_not_whole

TIFF_BASED = (*TIFFS, ".svs", ".ndpi", ".vsi")
CLASSIC = 1 << 32  # bytes up to which a TIFF's numbers of four bytes say where things are


def why_not_whole(path: Path) -> str:
    """Say why an image is not complete.

    Parameters
    ----------
    path : Path
        An image's; of a format that is not known it is taken for whole.

    Returns
    -------
    str
        "" when the structure is complete; else a reason for people.
    """
    file = file_of(path)
    if suffix_of(file.name) in ZARRS:
        from cellwatch.images import ome_zarr  # zarr, which other files need not

        return ome_zarr.why_not_whole(file)
    if suffix_of(file.name) in INDICES:
        from cellwatch.images import sets

        return sets.why_not_whole(path)
    if reason := why_file_not_whole(file):
        return reason
    if suffix_of(file.name) in TIFFS:
        return _why_set_not_whole(file)
    return _why_pixels_not_whole(file) if suffix_of(file.name) == ".vsi" else ""


def why_file_not_whole(path: Path) -> str:
    """Say why a file is not complete, as `why_not_whole` does; a folder is taken for whole."""
    if path.is_dir():
        return ""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            return _structure(file, size, path.name) if size else "the file is empty (0 bytes)"
    except OSError as error:
        return f"cannot be opened: {error.strerror or error}"
    except Unlikely as error:
        return str(error)
    except (struct.error, ValueError, OverflowError, LookupError, ZeroDivisionError) as error:
        return f"the file ends inside its structure ({error})"


def _structure(file: BinaryIO, size: int, name: str) -> str:
    suffix = suffix_of(name)
    if suffix in CONTAINERS:
        return CONTAINERS[suffix](file, size)
    if suffix == ".ndpi" and size >= CLASSIC:
        return ""  # it counts beyond its numbers, in a way of its own
    return why_tiff_not_whole(file, size, name) if suffix in TIFF_BASED else ""


def _why_set_not_whole(file: Path) -> str:
    # An OME-TIFF may be one of several files. A part of another set is whole by itself: what lists
    # it tells whether the set is.
    from cellwatch.images import sets

    index = sets.index_of(file) if sets.index_by_name(file) is None else None
    if index == file:
        return sets.why_not_whole(file)
    if index is None or index.exists():
        return ""
    return f"it belongs to a set, and {index.name}, which lists its files, is not here"


def _why_pixels_not_whole(file: Path) -> str:
    # A VSI is an index: its pixels lie in files beside it.
    parts = sorted(file.with_name(f"_{file.stem}_").glob("*/*.ets"))
    if not parts:
        return f"the folder _{file.stem}_ with its pixels is not beside it"
    return next((reason for part in parts if (reason := why_file_not_whole(part))), "")
