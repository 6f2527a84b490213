"""Is this TIFF file whole? Answered from its structure, without decoding pixels.

Half of all truncated TIFFs decode without an error, as fewer or emptier planes. So the chain of
directories is walked: every byte range they name must lie inside the file, and there must be as
many planes as ImageJ's or OME's metadata declare.
"""

import re
import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO
from xml.etree import ElementTree

MAX_DIRECTORIES = 200_000  # a longer chain is a loop or an attack
MAX_VALUES = 4_000_000  # strips or tiles of one directory
MAX_TAG = 256 << 20  # bytes of one tag's values
MAX_TAGS = 10_000  # of one directory
SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
WIDTH, HEIGHT, BITS, COMPRESSION, DESCRIPTION, SAMPLES = 256, 257, 258, 259, 270, 277
ROWS_PER_STRIP, PLANAR = 278, 284
UNCOMPRESSED, SEPARATE = 1, 2  # values of the tags Compression and PlanarConfiguration
STRIPS = 273
METAMORPH = 33629  # a tag of STK files, with eight bytes and more for each plane
TEXTS = (1, 2, 7)  # types of bytes, text and anything: metadata of some hundred MiB are real
OFFSETS = {STRIPS: 279, 324: 325}  # strips and tiles: where they lie -> how long they are


_Directory = dict[int, bytes | Sequence[int]]


@dataclass(frozen=True, slots=True)
class _Layout:
    order: str  # struct's byte order
    is_big: bool  # BigTIFF
    size: int  # of the file


class Unlikely(Exception):
    """Raised when a file declares what no image needs; it is not walked any further."""


def why_tiff_not_whole(file: BinaryIO, size: int, name: str) -> str:
    """Say why a TIFF file is not whole; "" when it is.

    Parameters
    ----------
    file : binary file, at its start
    size : int, bytes
    name : str
        OME's metadata say which planes lie in the file of this name.

    Raises
    ------
    Unlikely
        When it declares what no image needs.
    struct.error, ValueError, OverflowError, LookupError, ZeroDivisionError
        When it ends inside its structure.
    """
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    version = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) >= 8 else 0
    if order is None or version not in (42, 43):
        return "this is not a TIFF file: its first bytes are not a TIFF header"
    layout = _Layout(order, version == 43, size)
    first = head[8:16] if layout.is_big else head[4:8]
    offset = struct.unpack(f"{order}{'Q' if layout.is_big else 'I'}", first)[0]
    if offset == 0:
        return "the TIFF has no image yet: its first directory is not written"
    description = b""
    n_planes = 0
    for directory in _directories(file, offset, layout):
        if isinstance(directory, str):
            return directory
        if n_planes == 0:
            description = bytes(directory.get(DESCRIPTION, b""))
            if reason := _run_of_planes(description, directory, layout):
                return reason
        n_planes += 1
    return _declared_planes(description, n_planes, name)


def _directories(file: BinaryIO, offset: int, layout: _Layout) -> Iterator[_Directory | str]:
    seen: set[int] = set()
    while offset:
        if offset in seen:
            yield "the TIFF's directories form a loop"
            return
        if len(seen) >= MAX_DIRECTORIES:
            yield f"the TIFF has more than {MAX_DIRECTORIES} directories; they are not read"
            return
        if offset + (8 if layout.is_big else 2) > layout.size:
            yield f"the TIFF is cut: a directory should lie at byte {offset} of {layout.size}"
            return
        directory, following = _directory(file, offset, layout, is_first=not seen)
        seen.add(offset)
        offset = following
        reason = _outside(directory, layout.size)
        yield reason or directory
        if reason:
            return


def _directory(
    file: BinaryIO, offset: int, layout: _Layout, *, is_first: bool
) -> tuple[_Directory, int]:
    order, big = layout.order, layout.is_big
    file.seek(offset)
    count = struct.unpack(f"{order}{'Q' if big else 'H'}", file.read(8 if big else 2))[0]
    entry_size = 20 if big else 12
    if count > MAX_TAGS:
        raise Unlikely(f"a directory of the TIFF has {count} tags, more than any image")
    table = file.read(count * entry_size)
    next_offset = struct.unpack(f"{order}{'Q' if big else 'I'}", file.read(8 if big else 4))[0]
    wanted = {WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES, ROWS_PER_STRIP, PLANAR}
    wanted |= {*OFFSETS, *OFFSETS.values(), *([DESCRIPTION, METAMORPH] if is_first else [])}
    directory: _Directory = {}
    for start in range(0, len(table), entry_size):
        tag, kind = struct.unpack_from(f"{order}HH", table, start)
        rest = table[start + 4 : start + entry_size]
        _refuse_giant(tag, kind, rest, layout)
        if tag in wanted:
            directory[tag] = _value(file, rest, kind, layout)
    return directory, int(next_offset)


def _refuse_giant(tag: int, kind: int, rest: bytes, layout: _Layout) -> None:
    # A reader takes what a tag declares into memory, many times as large as in the file.
    count = struct.unpack_from(f"{layout.order}{'Q' if layout.is_big else 'I'}", rest)[0]
    is_list = tag in OFFSETS or tag in OFFSETS.values()
    if is_list and count > MAX_VALUES:
        raise Unlikely(f"the TIFF declares {count} strips or tiles; over {MAX_VALUES} are not read")
    n_bytes = SIZES.get(kind, 1) * count
    if n_bytes > MAX_TAG or (not is_list and kind not in TEXTS and count > MAX_VALUES // 4):
        raise Unlikely(f"tag {tag} of the TIFF declares {n_bytes} bytes, more than an image has")


def _value(file: BinaryIO, rest: bytes, kind: int, layout: _Layout) -> bytes | Sequence[int]:
    order, big = layout.order, layout.is_big
    count = struct.unpack_from(f"{order}{'Q' if big else 'I'}", rest)[0]
    inline = rest[8:] if big else rest[4:]
    n_bytes = SIZES.get(kind, 1) * count
    if n_bytes > len(inline):
        at = struct.unpack(f"{order}{'Q' if big else 'I'}", inline)[0]
        if at + n_bytes > layout.size:
            raise ValueError(f"a tag's values should reach byte {at + n_bytes}")
        file.seek(at)
        inline = file.read(n_bytes)
    data = inline[:n_bytes]
    code = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}.get(kind)
    if code is None:
        return data
    values = array(code, data)  # of as many bytes as in the file
    if (order == "<") != (sys.byteorder == "little"):
        values.byteswap()
    return values


def _outside(directory: _Directory, size: int) -> str:
    for at, length in OFFSETS.items():
        offsets, lengths = directory.get(at), directory.get(length)
        if offsets is None:
            continue
        needed: Sequence[int] | None = None
        if at == STRIPS:
            needed = _needed(directory, len(offsets))
        if needed is None:
            if lengths is None or len(offsets) != len(lengths):
                return "the TIFF is cut: the sizes of its strips are not written"
            if not any(lengths):
                return "the TIFF's pixels are not written yet"
            needed = [int(n) for n in lengths]
        elif not any(offsets):
            return "the TIFF's pixels are not written yet"
        end = max(o + n for o, n in zip(offsets, needed, strict=True))
        if end > size:
            return f"the TIFF is cut: pixels should reach byte {end}, the file has {size}"
        return ""
    return "the TIFF is cut: a directory names no pixels"


def _needed(directory: _Directory, n_strips: int) -> list[int] | None:
    # Bytes of each uncompressed strip: its size says it, whatever the counts in the file say, which
    # some writers leave out, set to 0 or round up. None: only the counts can say it.
    width, height = _first(directory, WIDTH), _first(directory, HEIGHT)
    if _first(directory, COMPRESSION, UNCOMPRESSED) != UNCOMPRESSED or not width or not height:
        return None
    samples = _first(directory, SAMPLES, 1)
    bits = [int(b) for b in directory.get(BITS, (1,))] or [1]
    per_pixel = bits[0] * (samples if _first(directory, PLANAR, 1) != SEPARATE else 1)
    planes = samples if _first(directory, PLANAR, 1) == SEPARATE else 1
    rows = min(height, _first(directory, ROWS_PER_STRIP, height) or height)
    per_plane = -(-height // rows)
    if n_strips != per_plane * planes or len(set(bits)) > 1:
        return None
    row = (width * per_pixel + 7) // 8
    last = height - rows * (per_plane - 1)
    return ([rows * row] * (per_plane - 1) + [last * row]) * planes


def _first(directory: _Directory, tag: int, default: int = 0) -> int:
    values = directory.get(tag)
    return int(values[0]) if values else default


def _run_of_planes(description: bytes, directory: _Directory, layout: _Layout) -> str:
    # ImageJ writes stacks beyond 4 GiB, tifffile all of them, and MetaMorph its STK files as one
    # directory and one run of bytes, of which the metadata alone knows the length.
    planes = bytes(directory.get(METAMORPH, b""))
    count, program = (
        (len(planes) // 8, "MetaMorph") if planes else (_imagej_images(description), "ImageJ")
    )
    offsets, lengths = directory.get(STRIPS), directory.get(OFFSETS[STRIPS])
    if count < 2 or not offsets or not lengths or (len(offsets) != 1 and not planes):
        return ""
    plane = sum(int(n) for n in lengths)
    width, height = _first(directory, WIDTH), _first(directory, HEIGHT)
    bits = sum(int(b) for b in directory.get(BITS, (8,)))
    if plane != width * height * bits // 8:
        return ""  # compressed: every plane has a directory of its own
    if int(offsets[0]) + plane * count <= layout.size:
        return ""
    return f"the stack is cut: {program} declares {count} planes, the file ends before"


def _imagej_images(description: bytes) -> int:
    if not description.startswith(b"ImageJ="):
        return 0
    match = re.search(rb"^images=(\d+)", description, re.MULTILINE)
    return int(match[1]) if match else 1


def _declared_planes(description: bytes, n_planes: int, name: str) -> str:
    declared = _ome_planes(description, name) or (
        _imagej_images(description) if n_planes > 1 else 0
    )
    if declared > n_planes:
        return f"the stack is cut: {declared} planes are declared and {n_planes} are there"
    return ""


def _ome_planes(description: bytes, name: str) -> int:
    if b"<OME" not in description[:2000]:
        return 0
    try:
        root = ElementTree.fromstring(description.rstrip(b"\0 \n"))
    except ElementTree.ParseError:
        return 0
    total = 0
    for pixels in (e for e in root.iter() if e.tag.rpartition("}")[2] == "Pixels"):
        files = [e for e in pixels.iter() if e.tag.rpartition("}")[2] == "UUID"]
        elsewhere = [e for e in files if e.get("FileName", name) != name]
        if elsewhere:
            total += len(files) - len(elsewhere)
            continue
        planes = [int(pixels.get(f"Size{axis}", "1")) for axis in "CZT"]
        samples = [
            int(e.get("SamplesPerPixel", "1"))
            for e in pixels
            if e.tag.rpartition("}")[2] == "Channel"
        ]
        per_page = max(samples, default=1)
        total += planes[0] * planes[1] * planes[2] // per_page
    return total
