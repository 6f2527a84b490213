"""Plates of ImageXpress: an `.HTD` file says what was planned, names of TIFFs what is there.

Channels may be acquired at some time points only, which the `.HTD` file does not tell: those that
are not there at all of them are left out, with a note.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

import tifffile

from cellwatch.images.sets.planes import ImageSet, Plane, SetImage, in_order, letters
from cellwatch.images.sets.settings import read_settings

PLANE = re.compile(
    r"(?P<plate>.+)_(?P<well>[A-Z]{1,2}\d{2})(?:_s(?P<site>\d+))?(?:_w(?P<wave>\d+))?"
    r"(?P<thumb>_thumb)?(?:[0-9A-F]{8}-[0-9A-F-]{27})?\.tiff?",
    re.IGNORECASE,
)
FOLDER = re.compile(r"(?P<kind>TimePoint|ZStep)_(?P<number>\d+)", re.IGNORECASE)
MICROMETRES = {"um": 1.0, "µm": 1.0, "nm": 1e-3, "mm": 1e3}


def index_of(path: Path) -> Path | None:
    """Return the `.HTD` file of the plate that a file belongs to; None: there is none."""
    is_index = path.suffix.lower() == ".htd"
    match = None if is_index else PLANE.fullmatch(path.name)
    if not is_index and not match:
        return None
    plate = path.stem if match is None else match["plate"]
    # Each folder of a time point has a copy; the outermost is the plate's.
    folders, folder = [] if is_index else [path.parent], path.parent
    while FOLDER.fullmatch(folder.name):
        folder = folder.parent
        folders.append(folder)
    known = [f / f"{plate}{suffix}" for f in reversed(folders) for suffix in (".HTD", ".htd")]
    return next((index for index in known if index.exists()), None)


def read(index: Path) -> ImageSet:
    """Read a plate: what is in its folder, named as its `.HTD` file says."""
    settings = read_settings(index)
    images: dict[str, SetImage] = {}
    inside = [index.parent, *folders_in(index.parent)]
    for file in sorted(file for folder in inside for file in folder.glob("*.[tT][iI][fF]*")):
        match = PLANE.fullmatch(file.name)
        if not match or match["thumb"] or match["plate"].lower() != index.stem.lower():
            continue
        t, z = _place(file, index.parent)
        wave, site = int(match["wave"] or 1), int(match["site"] or 1)
        name = f"{match['well'].upper()}/{site}"
        image = images.setdefault(name, SetImage(name, {}, {}))
        image.planes[t, z, wave] = Plane(file)
        image.channels[wave] = settings.get(f"WaveName{wave}", "")
    sides = _sides(images)
    most = max((len(image.planes) for image in images.values()), default=0)
    found = tuple(_same_channels(image, sides, most) for image in in_order(images))
    return ImageSet("imagexpress", found, is_plate=True, lacks=_lacks(settings, images))


def folders_in(folder: Path) -> Iterator[Path]:
    """Yield the folders of time points and z below a plate's folder."""
    with os.scandir(folder) as entries:
        named = sorted(e.path for e in entries if FOLDER.fullmatch(e.name) and e.is_dir())
    for path in named:
        yield Path(path)
        yield from folders_in(Path(path))


def _place(file: Path, root: Path) -> tuple[int, int]:
    # Time point and z, by the folders that it lies in.
    numbers = {"timepoint": 1, "zstep": 1}
    for part in file.relative_to(root).parts[:-1]:
        if match := FOLDER.fullmatch(part):
            numbers[match["kind"].lower()] = int(match["number"])
    return numbers["timepoint"], numbers["zstep"]


def _same_channels(image: SetImage, sides: tuple[float, float], most: int) -> SetImage:
    times, depths, channels = image.grid
    always = [
        c for c in channels if all((t, z, c) in image.planes for t in times for z in depths)
    ] or channels
    notes = tuple(
        f"channel '{image.channels[c] or c}' is there at some time points only and is left out"
        for c in channels
        if c not in always
    )
    planes = {place: plane for place, plane in image.planes.items() if place[2] in always}
    fewer = f"{image.name} has {len(image.planes)} images, and other fields have {most}"
    lacks = fewer if len(image.planes) < most else ""
    return SetImage(image.name, planes, image.channels, sides, notes, lacks)


def _lacks(settings: Mapping[str, str], images: Mapping[str, SetImage]) -> str:
    # Wells that were selected and have no image yet, and time points that are to come.
    rows = int(settings.get("YWells") or 0)
    chosen = set()
    for row in range(1, rows + 1):
        flags = settings.get(f"WellsSelection{row}", "").split(",")
        chosen |= {f"{letters(row)}{n:02d}" for n, f in enumerate(flags, 1) if f.strip() == "TRUE"}
    there = {name.partition("/")[0] for name in images}
    if lacking := sorted(chosen - there):
        return f"{len(lacking)} of {len(chosen)} wells have no images yet: {', '.join(lacking[:3])}"
    planned = int(settings.get("TimePoints") or 1)
    times = {t for image in images.values() for t, _, _ in image.planes}
    return f"{len(times)} of {planned} time points are there" if len(times) < planned else ""


def _sides(images: Mapping[str, SetImage]) -> tuple[float, float]:
    # MetaXpress writes them into every TIFF.
    plane = next((p for image in images.values() for p in image.planes.values()), None)
    if plane is None:
        return 0.0, 0.0
    try:
        with tifffile.TiffFile(plane.file) as file:
            root = ElementTree.fromstring(file.pages.first.description.rstrip("\0"))
        said = {prop.get("id"): prop.get("value", "") for prop in root.iter("prop")}
        unit = MICROMETRES.get(said.get("spatial-calibration-units", ""), 0.0)
        x, y = (float(said[f"spatial-calibration-{axis}"]) * unit for axis in "xy")
    except (KeyError, ValueError, OSError, ElementTree.ParseError, tifffile.TiffFileError):
        return 0.0, 0.0
    return x, y
