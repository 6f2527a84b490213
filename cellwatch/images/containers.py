"""Are files that are no TIFFs whole? By what they end with, or the tables that they name."""

import re
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
LIF_START, LIF_TEST = b"\x70\0\0\0", 0x2A
LIF_MEMORY = re.compile(r'<Memory Size="(\d+)" MemoryBlockID="([^"]+)"')
OLE_START, OLE_HEADER, OLE_FREE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 512, 0xFFFFFFFF
MAX_LISTS = 100_000  # of tables of sectors; more are no file of this kind
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
JPEG_TAIL = 4096  # bytes at the end of a JPEG in which its mark stands: some writers add to it
ETS_ENTRY = 36  # bytes of a tile in the table, at least
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


def lif(file: BinaryIO, size: int) -> str:
    """Say why a LIF project is not whole: each image it lists has its block of pixels; else ""."""
    xml, at = _lif_header(file, size)
    if not xml:
        return f"the LIF file ends in its list of images: {STILL}" if at else "this is no LIF file"
    listed = {
        name: int(n) for n, name in LIF_MEMORY.findall(xml.decode("utf-16-le", errors="replace"))
    }
    while at < size:
        name, start, length = _lif_block(file, at)
        if start + length > size:
            return f"the LIF file ends in the pixels of an image: {STILL}"
        if listed.pop(name, length) != length:
            return f"the LIF file lists another size for the block {name}: {STILL}"
        at = start + length
    lacking = [name for name, length in listed.items() if length]
    return f"the LIF file lacks the pixels of {len(lacking)} images: {STILL}" if lacking else ""


def _lif_header(file: BinaryIO, size: int) -> tuple[bytes, int]:
    # The list of images, and where the first block begins; 0: it is no such file.
    head = file.read(13)
    if len(head) < 13 or head[:4] != LIF_START or head[8] != LIF_TEST:
        return b"", 0
    n_bytes = 2 * struct.unpack("<I", head[9:13])[0]
    return (file.read(n_bytes), 13 + n_bytes) if 13 + n_bytes <= size else (b"", 13)


def _lif_block(file: BinaryIO, at: int) -> tuple[str, int, int]:
    # A block's name, where its bytes begin, and how many they are.
    file.seek(at)
    head = file.read(9)
    if head[:4] != LIF_START or head[8] != LIF_TEST:
        raise ValueError("a block of the LIF file is none")
    (chunk,) = struct.unpack("<I", head[4:8])
    rest = file.read(chunk - 1)
    # The number of bytes has eight of them, and four in the files of the first version.
    wide = rest[8:9] == bytes([LIF_TEST])
    (length,) = struct.unpack("<Q" if wide else "<I", rest[: 8 if wide else 4])
    name = rest[13 if wide else 9 :].decode("utf-16-le", errors="replace").rstrip("\0")
    return name, at + 8 + chunk, length


def oib(file: BinaryIO, size: int) -> str:
    """Say why an OIB file is not whole, by the table of its sectors; "" when it is."""
    head = file.read(OLE_HEADER)
    if not head.startswith(OLE_START) or len(head) < OLE_HEADER:
        return "this is no OIB file"
    sector = 1 << struct.unpack("<H", head[30:32])[0]
    tables, first, n_lists = (struct.unpack("<I", head[at : at + 4])[0] for at in (44, 68, 72))
    listed = list(struct.unpack("<109I", head[76:512]))
    for _ in range(min(n_lists, MAX_LISTS)):
        file.seek((first + 1) * sector)
        *more, first = struct.unpack(f"<{sector // 4}I", file.read(sector))
        listed += more
    last = 0
    for n, table in enumerate(listed[:tables]):
        file.seek((table + 1) * sector)
        entries = struct.unpack(f"<{sector // 4}I", file.read(sector))
        used = [i for i, entry in enumerate(entries) if entry != OLE_FREE]
        last = max(last, n * len(entries) + used[-1]) if used else last
    if (last + 2) * sector > size:
        return f"the OIB file ends before its last sector: {STILL}"
    return ""


def png(file: BinaryIO, size: int) -> str:
    """Say why a PNG is not whole: its last chunk says that it is; "" when it is."""
    if file.read(8) != PNG_START:
        return "this is not a PNG file"
    file.seek(max(0, size - 64))
    return "" if PNG_END in file.read() else "the PNG has no end: it is still written or was cut"


def jpeg(file: BinaryIO, size: int) -> str:
    """Say why a JPEG is not whole: it ends with its mark of the end; "" when it is."""
    if file.read(2) != b"\xff\xd8":
        return "this is no JPEG file"
    file.seek(max(0, size - JPEG_TAIL))
    return "" if b"\xff\xd9" in file.read() else f"the JPEG has no end: {STILL}"


def ets(file: BinaryIO, size: int) -> str:
    """Say why a file of a VSI's pixels is not whole, by its table of tiles; "" when it is."""
    head = file.read(64)
    if not head.startswith(b"SIS\0") or len(head) < 64:
        return "the file with its pixels has no header yet"
    table, count = struct.unpack("<QI", head[32:44])
    if not table or not count or table + count * ETS_ENTRY > size:
        return f"the file with its pixels has no table of its tiles: {STILL}"
    return ""


CONTAINERS: Mapping[str, Callable[[BinaryIO, int], str]] = MappingProxyType(
    {
        ".png": png,
        ".nd2": nd2,
        ".czi": czi,
        ".lif": lif,
        ".oib": oib,
        ".jpg": jpeg,
        ".jpeg": jpeg,
        ".ets": ets,
    }
)
