"""Masks go with their image: moved with a file that was renamed, copied for one that is alike.

With a mask store go the label TIFFs and the tables beside it.
"""

import shutil
from contextlib import suppress
from pathlib import Path

from cellwatch.files.publish import move_published, sweep, written_aside
from cellwatch.files.stems import stem_of
from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.masks.content import Json
from cellwatch.storage.masks.exports import exported_beside
from cellwatch.storage.masks.label_tiff import beside
from cellwatch.storage.masks.measurements import KINDS, table_beside
from cellwatch.storage.masks.ngff import read_attributes, write_attributes
from cellwatch.storage.previews.preview import preview_beside


def source_sha256(store: Path) -> str:
    """Return the sha256 of the image of which a mask store is; "": it does not say."""
    return str(_source_of(store).get("sha256", ""))


def source_path(store: Path) -> str:
    """Return the path of that image, as ledger text; "": it does not say."""
    return str(_source_of(store).get("path", ""))


def move_masks(former: Path, store: Path, path: str, superseded: Path) -> None:
    """Give a mask store, and what lies beside it, the place that its image's new name asks for.

    The store goes last: what a killed process left is moved by the next one.

    Parameters
    ----------
    former, store : Path
    path : str
        Of the image now.
    superseded : Path
        The folder for what stood in the new places.

    Raises
    ------
    OutputError
        When a place cannot be written.
    """
    targets = list(read_attributes(former).get("cellwatch", {}).get("targets", {}))
    names = ["", *targets]
    pairs = [(beside(former, name), beside(store, name)) for name in names]
    pairs += [(table_beside(former, kind), table_beside(store, kind)) for kind in KINDS]
    stem, other = (stem_of(place.name.removesuffix(".zarr")) for place in (former, store))
    for old in exported_beside(former, targets):
        pairs.append((old, store.with_name(f"{other}{old.name[len(stem) :]}")))
    pairs.append((preview_beside(former), preview_beside(store)))
    for old, new in (*pairs, (former, store)):
        if old.exists():
            sweep(new, superseded)
            move_published(old, new, superseded)
    name_source(store, path)
    _remove_if_bare(former.parent)


def name_source(store: Path, path: str) -> None:
    """Write down where the image of a mask store lies now."""
    said = read_attributes(store)
    if said["cellwatch"]["source"]["path"] != path_text(path):
        said["cellwatch"]["source"]["path"] = path_text(path)
        write_attributes(store, said)


def copy_masks(twin: Path, store: Path, path: str, superseded: Path) -> None:
    """Copy a mask store for another image, at `path`, with the same content.

    Raises
    ------
    OutputError
        When the place cannot be written.
    """
    with written_aside(store, superseded) as aside:
        shutil.copytree(twin, aside)
        name_source(aside, path)


def _source_of(store: Path) -> Json:
    source: Json = read_attributes(store).get("cellwatch", {}).get("source", {})
    return source


def _remove_if_bare(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
