"""Sets of OME-TIFF files: the metadata of one of them, or a companion file, list all planes.

Files of Micro-Manager are none: each is read for the planes that it holds.
"""

from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import tifffile

from cellwatch.errors import UnreadableImage
from cellwatch.images import ome_set, tiff
from cellwatch.images.planes import stamp_of
from cellwatch.images.sets.planes import ImageSet, Plane, SetImage, base_name

COMPANION = ".companion.ome"
TIFFS = (".tif", ".tiff", ".btf", ".tf8")


def index_of(path: Path) -> Path | None:
    """Return the file that lists a set's planes; None: the file is no part of one.

    It is opened for that. The index may be the file itself, and may not be there.
    """
    if path.suffix.lower() not in TIFFS:
        return None
    try:
        return _index_of_once(path, stamp_of(path))
    except UnreadableImage:
        return None


@lru_cache(maxsize=256)
def _index_of_once(path: Path, stamp: tuple[int, ...]) -> Path | None:
    del stamp  # it tells that the file is the same
    try:
        with tifffile.TiffFile(path, is_mmstack=False, is_ndtiff=False, _multifile=False) as file:
            xml = file.ome_metadata if file.is_ome and not file.is_micromanager else None
    except Exception:  # noqa: BLE001  what it is will be told when it is read
        return None
    if not xml:
        return None
    if companion := ome_set.companion_of(path, xml):
        return companion
    files = _files(xml)
    if len(files) < 2 or path.name not in files:
        return None
    return path.with_name(files[0])


def read(index: Path) -> ImageSet:
    """Read the metadata of a set.

    Raises
    ------
    ValueError
        When it holds none.
    """
    root = ElementTree.fromstring(_xml(index))
    images = []
    for number, pixels in enumerate(e for e in root.iter() if ome_set.tag_of(e) == "Pixels"):
        names = ome_set.channel_names(pixels)
        planes = {}
        for file, _, page, (_, t, c, z) in ome_set.entries(number, pixels):
            planes[t, z, c] = Plane(index.with_name(base_name(file) or index.name), page)
        channels = {c: names[c] if c < len(names) else "" for _, _, c in planes}
        sides = tiff.ome_sides(pixels) or (0.0, 0.0)
        images.append(SetImage(f"image {number + 1}", planes, channels, sides))
    return ImageSet("ome-tiff", tuple(images))


def _xml(index: Path) -> str:
    if index.name.lower().endswith(COMPANION):
        return index.read_text(encoding="utf-8-sig", errors="replace")
    with tifffile.TiffFile(index, _multifile=False) as file:
        return str(file.ome_metadata or "")


def _files(xml: str) -> list[str]:
    # In the order in which their planes are listed.
    try:
        root = ElementTree.fromstring(xml.rstrip("\0 \n"))
    except (ElementTree.ParseError, ValueError):
        return []
    named = [e.get("FileName", "") for e in root.iter() if ome_set.tag_of(e) == "UUID"]
    return list(dict.fromkeys(base_name(name) for name in named if name))
