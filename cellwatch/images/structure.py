"""Is this file whole? Answered from its structure, without decoding pixels."""

import struct
from pathlib import Path
from typing import BinaryIO

from cellwatch.images.containers import CONTAINERS
from cellwatch.images.suffixes import TIFFS, suffix_of
from cellwatch.images.tiff_structure import Unlikely, why_tiff_not_whole

TIFF_BASED = (*TIFFS, ".svs", ".ndpi", ".vsi")
CLASSIC = 1 << 32  # bytes up to which a TIFF's numbers of four bytes say where things are


def why_file_not_whole(path: Path) -> str:
    """Say why a file is not complete; "" when it is, or is a folder or of no format known."""
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
