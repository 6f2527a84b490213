"""The mask stores of a plate's fields lie within one OME-Zarr plate, which programs open as such.

`<index>.zarr/B/02/1` is the mask store of one field. What makes the folders around it a plate is
written again whenever a field is published, from what is there.

References
----------
OME-NGFF specification 0.5: plate and well metadata.
"""

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellwatch.storage.masks.content import Json
from cellwatch.storage.masks.ngff import Version, read_attributes, write_group

# Paths of images that are fields of a plate: its index, the well and the field.
FIELD = re.compile(
    r"(?P<index>(?:.*/)?[^/]*\.(?:htd|mlf|xml))/(?P<row>[A-Z]{1,2})(?P<column>\d{2})/(?P<field>\d+)",
    re.IGNORECASE,
)
LOCK = ".lock"


def place_in_plate(relative: str) -> str | None:
    """Return where the masks of a plate's field lie, below the output folder's part of its watch.

    Examples
    --------
    >>> place_in_plate("p1/9987.HTD/B02/3"), place_in_plate("p1/a.tif")
    ('p1/9987.HTD.zarr/B/02/3', None)
    """
    match = FIELD.fullmatch(relative)
    if match is None:
        return None
    return f"{match['index']}.zarr/{match['row'].upper()}/{match['column']}/{match['field']}"


def plate_of(store: Path) -> Path | None:
    """Return the plate that a mask store is a field of; None: of none."""
    root = store.parents[2] if len(store.parents) > 2 else None
    is_field = root is not None and root.name.endswith(".zarr") and not store.name.endswith(".zarr")
    return root if is_field else None


def version_of(root: Path) -> Version | None:
    """Return the version of OME-Zarr in which a plate is written; None: there is none."""
    said = read_attributes(root)
    if "plate" in said:
        return "0.4"
    return "0.5" if "ome" in said else None


def write_plate(root: Path, version: Version = "0.5") -> None:
    """Write what makes a folder of fields an OME-Zarr plate, by what it holds.

    Raises
    ------
    OSError
        When the disk does not allow it.
    """
    with _alone(root):
        wells = [(row, column) for row in _folders(root) for column in _folders(row)]
        for row in {row for row, _ in wells}:
            write_group(row, {}, version)
        for _, column in wells:
            fields = sorted((f.name for f in _folders(column) if f.name.isdecimal()), key=int)
            images = [{"path": name} for name in fields]
            well = (
                {"images": images} if version == "0.4" else {"version": version, "images": images}
            )
            write_group(column, {"well": well}, version)
        rows = sorted({row.name for row, _ in wells}, key=lambda name: (len(name), name))
        columns = sorted({column.name for _, column in wells})
        plate: Json = {
            "name": root.name.removesuffix(".zarr"),
            "rows": [{"name": name} for name in rows],
            "columns": [{"name": name} for name in columns],
            "wells": [
                {
                    "path": f"{row.name}/{column.name}",
                    "rowIndex": rows.index(row.name),
                    "columnIndex": columns.index(column.name),
                }
                for row, column in wells
            ],
        }
        write_group(root, {"plate": plate}, version)


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    # Two workers that publish fields of one plate list it one after the other.
    with (root / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
