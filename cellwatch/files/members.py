"""Files that hold several images: the path of each continues below the file, as in a folder.

`project.lif/Series 1` is an image of the file `project.lif`, and not a file itself.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# What the names end in of files that may hold, or list, several images.
WITH_MEMBERS = (
    ".lif", ".czi", ".vsi", "index.idx.xml", "index.xml", "measurementdata.mlf", ".htd", ".nd",
    "ndtiff.index", ".companion.ome",
)  # fmt: skip
FIELD = re.compile(r"(?:^|/)(?P<well>[A-Za-z]{1,2}\d{2})/(?P<number>\d+)$")  # of a plate
# Names that the index of every plate of an instrument has: the plate is called after its folder.
EVERY_PLATES = ("index.idx.xml", "index.xml", "measurementdata.mlf")


@dataclass(frozen=True, slots=True)
class PlateField:
    """Which field of which well of which plate an image is."""

    plate: str
    well: str
    field: int


def file_of(path: Path) -> Path:
    """Return the file in which an image lies: its path, or the file of which it is a member.

    Examples
    --------
    >>> file_of(Path("day1/project.lif/Series 1")), file_of(Path("day1/a.tif"))
    (PosixPath('day1/project.lif'), PosixPath('day1/a.tif'))
    """
    for above in reversed(path.parents):
        if above.name.lower().endswith(WITH_MEMBERS) and not above.is_dir():
            return above
    return path


def member_of(path: Path) -> str:
    """Return which image of its file a path names; "": the file itself.

    Examples
    --------
    >>> member_of(Path("day1/project.lif/Tiles/Series 1")), member_of(Path("day1/a.tif"))
    ('Tiles/Series 1', '')
    """
    file = file_of(path)
    return "" if file == path else path.relative_to(file).as_posix()


def is_there(path: Path) -> bool:
    """Say whether the file of an image is there."""
    try:
        return file_of(path).exists()
    except OSError:  # a name that no file system has
        return False


def container_of(relative: str) -> str:
    """Return the file of an image, by its path below a watched folder alone.

    Examples
    --------
    >>> container_of("a/project.LIF/Series 1"), container_of("a/b.czi"), container_of("a/b.tif")
    ('a/project.LIF', 'a/b.czi', 'a/b.tif')
    """
    parts = relative.split("/")
    for n, part in enumerate(parts[:-1], start=1):
        if part.lower().endswith(WITH_MEMBERS):
            return "/".join(parts[:n])
    return relative


def image_name(relative: str) -> str:
    """Return the name that an image would have as a file of its own: its masks are named after it.

    Examples
    --------
    >>> image_name("day1/a.tif"), image_name("day1/project.lif/Tiles/Series 1.5")
    ('a.tif', 'Series 1.5.lif')
    >>> image_name("plate/9987.HTD/B02/1"), image_name("slide.czi/scene 2")
    ('B02_1.HTD', 'slide scene 2.czi')
    """
    file, path = PurePosixPath(container_of(relative)), PurePosixPath(relative)
    if field := FIELD.search(relative):
        return f"{field['well']}_{field['number']}{file.suffix if file != path else ''}"
    if file == path:
        return path.name
    before = "" if file.suffix.lower() == ".lif" else f"{file.stem} "
    return f"{before}{path.name}{file.suffix}"


def plate_field(relative: str) -> PlateField | None:
    """Return which field of a plate an image is, by its path below a watched folder; None: of none.

    Examples
    --------
    >>> plate_field("day1/9987.HTD/b02/3"), plate_field("day1/a.tif")
    (PlateField(plate='day1/9987', well='B02', field=3), None)
    >>> plate_field("screen 5/Images/Index.idx.xml/C03/1").plate
    'screen 5'
    """
    file, match = PurePosixPath(container_of(relative)), FIELD.search(relative)
    if match is None or file == PurePosixPath(relative):
        return None
    plate = file.with_suffix("")
    if file.name.lower() in EVERY_PLATES:
        above = file.parent
        plate = above.parent if above.name.lower() == "images" else above
    name = plate.as_posix() if plate.name else file.name
    return PlateField(name, match["well"].upper(), int(match["number"]))
