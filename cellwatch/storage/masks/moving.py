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
from cellwatch.storage.masks.paths import label_tiffs_of
from cellwatch.storage.masks.plates import plate_of, version_of, write_plate
from cellwatch.storage.previews.preview import preview_beside


def source_sha256(store: Path) -> str:
    """Return the sha256 of the image of which a mask store is; "": it does not say."""
    return str(_source_of(store).get("sha256", ""))


def source_path(store: Path) -> str:
    """Return the path of that image, as ledger text; "": it does not say."""
    return str(_source_of(store).get("path", ""))


def move_masks(former: Path, store: Path, superseded: Path) -> None:
    """Give a mask store, and what lies beside it, the place that its image's new name asks for.

    The store goes last: what a killed process left is moved by the next one.

    Raises
    ------
    OutputError
        When a place cannot be written.
    """
    pairs = [(tiff, beside(store, _target_of(tiff, former))) for tiff in label_tiffs_of(former)]
    pairs += [(table_beside(former, kind), table_beside(store, kind)) for kind in KINDS]
    stem, other = (stem_of(place.name.removesuffix(".zarr")) for place in (former, store))
    for old in exported_beside(former):
        pairs.append((old, store.with_name(f"{other}{old.name[len(stem) :]}")))
    pairs.append((preview_beside(former), preview_beside(store)))
    for old, new in pairs:
        if old.exists():
            sweep(new, superseded)
            move_published(old, new, superseded)
    version = version_of(plate_of(former) or former)
    sweep(store, superseded)
    move_published(former, store, superseded)
    for plate in {plate_of(former), plate_of(store)} - {None}:
        if plate is not None and plate.is_dir():
            write_plate(plate, version)
    _remove_if_bare(former.parent)


def copy_masks(twin: Path, store: Path, path: str, superseded: Path) -> None:
    """Copy a mask store for another image, at `path`, with the same content.

    Raises
    ------
    OutputError
        When the place cannot be written.
    """
    with written_aside(store, superseded) as aside:
        shutil.copytree(twin, aside)
        said = read_attributes(aside)
        said["cellwatch"]["source"]["path"] = path_text(path)
        write_attributes(aside, said)


def _target_of(tiff: Path, store: Path) -> str:
    # Which target's labels a TIFF beside a store holds; "": those of the only one.
    labels = store / "labels"
    names = [part.name for part in labels.iterdir()] if labels.is_dir() else []
    return next((name for name in names if beside(store, name) == tiff), "")


def _source_of(store: Path) -> Json:
    source: Json = read_attributes(store).get("cellwatch", {}).get("source", {})
    return source


def _remove_if_bare(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
