"""NDTiff datasets of Micro-Manager and Pycro-Manager: `NDTiff.index` says where each plane lies.

References
----------
NDTiff specification 2 and 3: an entry of the index is the plane's axes as JSON, the name of its
file, and eight numbers: where its pixels begin, width, height, kind and compression of its pixels,
where its metadata begin, their length and compression.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cellwatch.images.sets.planes import ImageSet, Plane, SetImage, base_name, in_order, member_name

INDEX = "NDTiff.index"
FULL = "Full resolution"  # the folder of the largest pictures, where there are smaller ones
SMALLER = "Downsampled_x"
STACK = "ndtiffstack"
# Kinds of pixels: their type, and how many samples.
KINDS = {0: ("uint8", 1), 2: ("uint8", 3), **dict.fromkeys((1, 3, 4, 5, 6), ("<u2", 1))}
TIMES, DEPTHS, CHANNELS = ("time", "t"), ("z", "Z"), ("channel", "c")


@dataclass(frozen=True, slots=True)
class _Entry:
    axes: dict[str, Any]  # Any: JSON, numbers and names
    plane: Plane
    end: int  # of its pixels and metadata
    metadata: tuple[int, int]  # where they begin, and their length


def index_of(path: Path) -> Path | None:
    """Return the index of the dataset that a file belongs to; it may not be there yet."""
    is_smaller = path.parent.name.startswith(SMALLER)
    if is_smaller and (path.name == INDEX or STACK in path.name.lower()):
        return path.parent.with_name(FULL) / INDEX
    if STACK in path.name.lower() and path.suffix.lower() in (".tif", ".tiff"):
        return path.with_name(INDEX)
    return None


def read(index: Path) -> ImageSet:
    """Read a dataset's index."""
    entries = list(_entries(index))
    images: dict[str, SetImage] = {}
    numbers: dict[str, dict[str, int]] = {"t": {}, "z": {}, "c": {}}
    said = _metadata(entries[0]) if entries else {}
    side = float(said.get("PixelSizeUm") or said.get("PixelSize_um") or 0)
    for entry in entries:
        values = {
            key: next((entry.axes[name] for name in names if name in entry.axes), 0)
            for key, names in (("t", TIMES), ("z", DEPTHS), ("c", CHANNELS))
        }
        at = {key: _number(value, numbers[key]) for key, value in values.items()}
        name = _position(entry.axes)
        image = images.setdefault(name, SetImage(name, {}, {}, (side, side)))
        image.planes[at["t"], at["z"], at["c"]] = entry.plane
        if at["c"] not in image.channels:
            image.channels[at["c"]] = _channel(entry, values["c"])
    short = {e.plane.file.name for e in entries if _size(e.plane.file) < e.end}
    lacks = f"{min(short)} ends before its planes do" if short else ""
    found = list(in_order(images))
    if len(found) > 1:  # each has a name of its own
        names: list[str] = []
        for number, image in enumerate(found, start=1):
            names.append(member_name(image.name, number, names))
        found = [replace(image, name=name) for image, name in zip(found, names, strict=True)]
    return ImageSet("ndtiff", tuple(found), lacks=lacks)


def _entries(index: Path) -> Iterator[_Entry]:
    data, at = index.read_bytes(), 0

    def text() -> str:
        nonlocal at
        (length,) = struct.unpack_from("<I", data, at)
        at += 4 + length
        if at > len(data):
            raise ValueError("the index ends within an entry")
        return data[at - length : at].decode()

    while at < len(data):
        axes, name = json.loads(text()), base_name(text())
        start, width, height, kind, _, metadata, length, _ = struct.unpack_from("<8I", data, at)
        at += 32
        dtype, samples = KINDS[kind]
        shape = (height, width) if samples == 1 else (height, width, samples)
        n_bytes = width * height * samples * (1 if dtype == "uint8" else 2)
        plane = Plane(index.with_name(name), raw=(start, shape, dtype))
        end = max(start + n_bytes, metadata + length)
        yield _Entry(axes, plane, end, (metadata, length))


def _channel(entry: _Entry, value: Any) -> str:  # Any: JSON
    # Where channels are numbered, their names stand in the metadata of their planes.
    if isinstance(value, str):
        return value
    has_several = any(name in entry.axes for name in CHANNELS)
    return str(_metadata(entry).get("Channel") or "") if has_several else ""


def _number(value: Any, known: dict[str, int]) -> int:  # Any: JSON
    # Names are numbered as they come.
    return value if isinstance(value, int) else known.setdefault(str(value), len(known))


def _position(axes: dict[str, Any]) -> str:  # Any: JSON
    rest = {
        key: value
        for key, value in axes.items()
        if key not in (*TIMES, *DEPTHS, *CHANNELS) and not (value == 0 and key != "position")
    }
    if "row" in axes and "column" in axes:
        rest |= {"row": axes["row"], "column": axes["column"]}
    return ", ".join(
        str(value) if isinstance(value, str) else f"{key} {value}"
        for key, value in sorted(rest.items())
    )


def _metadata(entry: _Entry) -> dict[str, Any]:  # Any: JSON
    start, length = entry.metadata
    try:
        with entry.plane.file.open("rb") as file:
            file.seek(start)
            said = json.loads(file.read(length))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0
