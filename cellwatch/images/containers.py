"""Are the container files of microscope makers whole? By the tables that they end with, or name."""

import struct
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import BinaryIO

ND2_START = b"\xda\xce\xbe\x0a"
ND2_OLD = b"\x00\x00\x00\x0cjP  "  # NIS-Elements before 2008: JPEG 2000
ND2_END = b"ND2 CHUNK MAP SIGNATURE 0000001!"
CZI_START, CZI_TABLE = b"ZISRAWFILE", b"ZISRAWDIRECTORY"
CZI_METADATA, CZI_BLOCK = b"ZISRAWMETADATA", b"ZISRAWSUBBLOCK"
CZI_ATTACHED, CZI_ATTACHMENT = b"ZISRAWATTDIR", b"ZISRAWATTACH"
CZI_SCHEMAS = (b"DV", b"DE")
CZI_HEADER, CZI_ENTRIES = 512, 128  # bytes before the positions end, and before the table's entries
MAX_ENTRIES, MAX_ATTACHMENTS = 10_000_000, 10_000
STILL = "it is still written or was cut"


def nd2(file: BinaryIO, size: int) -> str:
    """Say why an ND2 file is not whole: its table of chunks is written last; "" when it is."""
    head = file.read(8)
    if head[:8] == ND2_OLD[:8]:
        return ""
    if head[:4] != ND2_START:
        return "this is not an ND2 file"
    if size < len(ND2_END) + 8:
        return f"the ND2 file has no table of its chunks: {STILL}"
    file.seek(size - len(ND2_END) - 8)
    end = file.read()
    if not end.startswith(ND2_END):
        return f"the ND2 file has no table of its chunks: {STILL}"
    (table,) = struct.unpack("<Q", end[len(ND2_END) :])
    return "" if table < size else f"the ND2 file names a table beyond its end: {STILL}"


def czi(file: BinaryIO, size: int) -> str:
    """Say why a CZI file is not whole, by its directory of blocks; "" when it is."""
    return next(_lacks_of_czi(file, size), "")


def _lacks_of_czi(file: BinaryIO, size: int) -> Iterator[str]:
    head = file.read(CZI_HEADER)
    if not head.startswith(CZI_START):
        yield "this is not a CZI file"
    elif len(head) < CZI_HEADER:
        yield f"the CZI file ends in its header: {STILL}"
    table, metadata, is_pending, attached = struct.unpack("<QQiQ", head[84:112])
    if is_pending:
        yield "the CZI file says that it is being written"
    if not table or not _is_there(file, size, table, CZI_TABLE):
        yield f"the CZI file has no directory of its blocks: {STILL}"
    places = [(position, CZI_BLOCK) for position in _blocks(file, table)]
    places += [(metadata, CZI_METADATA), (attached, CZI_ATTACHED)]
    places += [(position, CZI_ATTACHMENT) for position in _attachments(file, attached)]
    for position, name in places:
        if position and not _is_there(file, size, position, name):
            yield f"the CZI file lacks its {name.decode()} at byte {position}: {STILL}"


def _blocks(file: BinaryIO, table: int) -> Iterator[int]:
    # Where the last block lies: they are written one after the other.
    file.seek(table + 32)
    (count,) = struct.unpack("<i", file.read(4))
    file.seek(table + 32 + CZI_ENTRIES)
    last = 0
    for _ in range(min(count, MAX_ENTRIES)):
        entry = file.read(32)
        if entry[:2] not in CZI_SCHEMAS:
            raise ValueError("an entry of the directory is none")
        last = max(last, struct.unpack("<q", entry[6:14])[0])
        file.seek(20 * max(0, struct.unpack("<i", entry[28:32])[0]), 1)
    if last:
        yield last


def _attachments(file: BinaryIO, attached: int) -> Iterator[int]:
    if not attached:
        return
    file.seek(attached + 32)
    (count,) = struct.unpack("<i", file.read(4))
    file.seek(attached + 32 + 256)
    entries = [file.read(128) for _ in range(min(max(0, count), MAX_ATTACHMENTS))]
    yield from (struct.unpack("<q", entry[12:20])[0] for entry in entries)


def _is_there(file: BinaryIO, size: int, position: int, name: bytes) -> bool:
    file.seek(position)
    head = file.read(32)
    if len(head) < 32 or not head.startswith(name):
        return False
    return bool(position + 32 + struct.unpack("<q", head[16:24])[0] <= size)


CONTAINERS: Mapping[str, Callable[[BinaryIO, int], str]] = MappingProxyType(
    {".nd2": nd2, ".czi": czi}
)
