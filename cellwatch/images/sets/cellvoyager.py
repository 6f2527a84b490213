"""Plates of Yokogawa's CellVoyager: `MeasurementData.mlf` lists every plane."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from cellwatch.images.sets.planes import ImageSet, Plane, SetImage, base_name, in_order, letters

INDEX = "MeasurementData.mlf"
DETAIL = "MeasurementDetail.mrf"
PLANE = re.compile(r".+_[A-Z]{1,2}\d{2}_T\d+F\d+L\d+A\d+Z\d+C\d+\.tiff?", re.IGNORECASE)
CORRECTION = re.compile(r"(?:DC|SC)_.*\.tiff?", re.IGNORECASE)  # for dark current and shading


def index_of(path: Path) -> Path | None:
    """Return the index of the plate that a file belongs to; it may not be there yet."""
    index = path.with_name(INDEX)
    if PLANE.fullmatch(path.name) or (CORRECTION.fullmatch(path.name) and index.exists()):
        return index
    return None


def read(index: Path) -> ImageSet:
    """Read a plate's index."""
    sides = _sides(index.with_name(DETAIL))
    images: dict[str, SetImage] = {}
    for record in _records(index, "MeasurementRecord"):
        said = {key.rpartition("}")[2]: value for key, value in record.attrib.items()}
        if said.get("Type") != "IMG":
            continue
        t, z, channel = (int(said[key]) for key in ("TimePoint", "ZIndex", "Ch"))
        name = f"{letters(int(said['Row']))}{int(said['Column']):02d}/{int(said['FieldIndex'])}"
        side = sides.get(channel, (0.0, 0.0))
        image = images.setdefault(name, SetImage(name, {}, {}, side))
        file = index.with_name(base_name((record.text or "").strip()))
        image.planes[t, z, channel] = Plane(file)
        image.channels[channel] = str(channel)
    return ImageSet("cellvoyager", tuple(in_order(images)), is_plate=True)


def _sides(detail: Path) -> dict[int, tuple[float, float]]:
    # µm a pixel, of each channel.
    found = {}
    for record in _records(detail, "MeasurementChannel") if detail.is_file() else ():
        said = {key.rpartition("}")[2]: value for key, value in record.attrib.items()}
        sides = [float(said.get(f"{way}PixelDimension") or 0) for way in ("Horizontal", "Vertical")]
        found[int(said["Ch"])] = (sides[0], sides[1])
    return found


def _records(file: Path, tag: str) -> Iterator[ElementTree.Element]:
    root = ElementTree.fromstring(file.read_bytes())
    yield from (part for part in root if part.tag.rpartition("}")[2] == tag)
