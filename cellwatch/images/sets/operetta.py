"""Plates of Operetta and Opera Phenix: `Index.idx.xml` lists planes with well and field."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from cellwatch.images.sets.planes import ImageSet, Plane, SetImage, base_name, in_order, letters

INDICES = ("index.idx.xml", "index.xml")
PLANE = re.compile(r"r\d{2}c\d{2}f\d+p\d+-ch\d+sk\d+fk\d+fl\d+\.tiff?", re.IGNORECASE)


def index_of(path: Path) -> Path | None:
    """Return the index of the plate that a file is a plane of; it may not be there yet."""
    if not PLANE.fullmatch(path.name):
        return None
    known = [path.with_name(name) for name in ("Index.idx.xml", "Index.xml")]
    return next((index for index in known if index.exists()), known[0])


def read(index: Path) -> ImageSet:
    """Read a plate's index."""
    images: dict[str, SetImage] = {}
    for entry in _entries(index):
        text = {_tag(part): (part.text or "").strip() for part in entry}
        if "URL" not in text or text.get("ImageType", "Signal") != "Signal":
            continue
        t, z, channel = (int(text[key]) for key in ("TimepointID", "PlaneID", "ChannelID"))
        name = f"{letters(int(text['Row']))}{int(text['Col']):02d}/{int(text['FieldID'])}"
        sides = tuple(float(text.get(f"ImageResolution{axis}") or 0) * 1e6 for axis in "XY")
        image = images.setdefault(name, SetImage(name, {}, {}, (sides[0], sides[1])))
        image.planes[t, z, channel] = Plane(index.with_name(base_name(text["URL"])))
        image.channels[channel] = text.get("ChannelName", "")
    return ImageSet("operetta", tuple(in_order(images)), is_plate=True)


def _entries(index: Path) -> Iterator[ElementTree.Element]:
    root = ElementTree.fromstring(index.read_bytes())
    lists = [part for part in root if _tag(part) == "Images"]
    yield from (entry for part in lists for entry in part if _tag(entry) == "Image")


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
