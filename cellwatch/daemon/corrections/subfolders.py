"""Where an image lies, and how a sub-folder of the corrections folder says so."""

from collections.abc import Sequence
from pathlib import Path

from cellwatch.config.schema import Config
from cellwatch.files.stems import name_key
from cellwatch.records import Acquisition
from cellwatch.storage.corrections.names import DroppedName
from cellwatch.storage.ledger.path_text import readable, text_path


def lies_in(row: Acquisition, folder: Path) -> bool:
    """Say whether a sub-folder names the end of an image's folder.

    corrections/scope/day1/a_masks.tif and corrections/day1/a_masks.tif both mean scope's day1.
    """
    wanted = [name_key(part) for part in folder.parts]
    return bool(wanted) and [name_key(part) for part in place_of(row)][-len(wanted) :] == wanted


def lies_below(row: Acquisition, folder: Path) -> bool:
    """Say whether a sub-folder, from the watched folder's name on, leads to an image.

    corrections/scope/a_masks.tif also means scope's day1/a.tif.
    """
    wanted = [name_key(part) for part in folder.parts]
    return [name_key(part) for part in place_of(row)][: len(wanted)] == wanted


def place_of(row: Acquisition) -> list[str]:
    """Return the parts of an image's folder, the watched folder's name first."""
    return [row.watch, *Path(text_path(row.relative_path)).parent.parts]


def who(folder: Path, name: DroppedName) -> str:
    """Return the annotator that a sub-folder names; "": none.

    Who copies a whole checkout folder is not an annotator of its name: that of the file in it.
    """
    named = first(folder)
    return "" if name_key(named) == name_key(name.readings[0].stem) else named


def names_watched(config: Config, folder: Path, name: DroppedName) -> str:
    """Return the watched folder that a sub-folder is named as; "": none.

    Such a name says where the image lies, never who drew.
    """
    key = name_key(first(folder))
    if not key or not who(folder, name):
        return ""
    return next((watch.name for watch in config.watch if name_key(watch.name) == key), "")


def first(folder: Path) -> str:
    """Return the first part of a sub-folder of corrections/, readable; "": it lies in no other."""
    return readable(folder.parts[0]) if folder.parts else ""


def telling_folders(rows: Sequence[Acquisition]) -> list[str]:
    """Return the shortest ends of the images' folders that differ; none when some share one."""
    places = [place_of(row) for row in rows]
    for length in range(1, max(map(len, places)) + 1):
        ends = ["/".join(place[-length:]) for place in places]
        if len(set(map(name_key, ends))) == len(rows):
            return ends
    return []
