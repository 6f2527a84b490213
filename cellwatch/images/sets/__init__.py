"""Sets: files that belong together, and the one among them, or beside them, that lists the others.

The path of a set is that of its index. The fields of a plate, and positions that are not alike,
are images of their own (`9987.HTD/B02/1`); positions that are alike belong to one acquisition.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cellwatch.errors import UnreadableImage
from cellwatch.files.members import file_of, member_of
from cellwatch.images import aborted
from cellwatch.images.planes import Pages, Span, stamp_of
from cellwatch.images.sets import pages, pattern, planes
from cellwatch.images.sets.planes import ImageSet, SetImage
from cellwatch.images.suffixes import INDICES, TIFFS, suffix_of
from cellwatch.records import ImageInfo

# Modules of this package, by what the names of their indices end in.
KINDS = MappingProxyType(
    {
        "index.idx.xml": "operetta",
        "index.xml": "operetta",
        "measurementdata.mlf": "cellvoyager",
        ".htd": "imagexpress",
        ".nd": "metamorph",
        "ndtiff.index": "ndtiff",
        ".companion.ome": "ome",
    }
)
# Kinds whose index, and the names in its folders, say all; of others sizes of files matter too.
BY_LISTING = ("operetta", "cellvoyager", "imagexpress", "ome", "pattern")
BY_NAME = ("operetta", "cellvoyager", "imagexpress", "ndtiff", "metamorph")
assert set(KINDS) == set(INDICES)


def index_by_name(path: Path) -> Path | None:
    """Return the index of the set to which a file belongs, as far as names tell; None: to none.

    The index itself is no part; of some kinds it may not be there yet.
    """
    for kind in BY_NAME:
        index: Path | None = _module(kind).index_of(path)
        if index is not None and index != path:
            return index
    return None


def index_of(path: Path) -> Path | None:
    """Return the same, also for files that must be opened for it, and of one that is the index."""
    return pattern.index_of(path) or index_by_name(path) or _module("ome").index_of(path)


def may_be_of_set(path: Path) -> bool:
    """Say whether a file that is no index by its name may belong to a set, or list one."""
    return suffix_of(path.name) in TIFFS or pattern.named(path) is not None


def place_by_name(path: Path) -> tuple[str, int | None]:
    """Return the well and the field that a pattern of file names tells; ("", None): none does."""
    named = pattern.named(path)
    return (named.well, named.field) if named else ("", None)


def lists_a_set(path: Path) -> bool:
    """Say whether an image file lists the planes of a set, all of which are there."""
    if not may_be_of_set(path):
        return False
    try:
        stamp = (path.parent.stat().st_mtime_ns, *stamp_of(path))
    except (OSError, UnreadableImage):
        return False
    return _lists_a_set_once(path, stamp)


@lru_cache(maxsize=64)
def _lists_a_set_once(path: Path, stamp: tuple[int, ...]) -> bool:
    del stamp  # it tells that nothing was changed
    return index_of(path) == path and (aborted.is_read(path) or not why_not_whole(path))


def members(file: Path, *, is_given_up: bool = False) -> tuple[str, ...]:
    """Return the names of the complete images of a set; () where all of it is one acquisition.

    Of a set that is given up, images that are read as far as they are whole are among them.
    """
    found = _read(file)
    is_cut = is_given_up and aborted.is_read(file)
    if not _are_apart(found) or (not (found.is_plate or is_cut) and planes.why_lacking(found)):
        return ()  # whether positions are alike is known when all are there
    return tuple(
        image.name
        for image in found.images
        if not planes.why_image_lacks(image) or (is_cut and _as_far_as_whole(file, found, [image]))
    )


def why_not_whole(path: Path) -> str:
    """Say what a set, or one image of it, lacks; "" when nothing."""
    file = file_of(path)
    try:
        found = _read(file)
        if not member_of(path):
            return planes.why_lacking(found)
        return planes.why_image_lacks(_image(path, found))
    except UnreadableImage as error:
        return error.reason


def describe(path: Path) -> ImageInfo:
    """Tell what a set, or one image of it, holds."""
    found, images = _chosen(path)
    return pages.described(path, found.format, images)


def open_pages(path: Path, *, is_labels: bool = False) -> Pages:
    """Open a set, or one image of it, a page for each plane of each channel."""
    del is_labels
    return pages.opened(path, _chosen(path)[1])


def spans(file: Path, member: str) -> list[Span]:
    """Return the bytes of a set, or of one image of it, in all of its files."""
    found = _read(file)
    images = [_image(file / member, found)] if member else list(found.images)
    if member or not _are_apart(found):
        images = _as_far_as_whole(file, found, images) or images
    for image in images:
        planes.require_files(file / member, image)
    return [
        Span(f"{image.name if not member else ''}:{span.name}", span.file, span.start, span.size)
        for image in images
        for span in planes.spans_of(image)
    ]


def _chosen(path: Path) -> tuple[ImageSet, list[SetImage]]:
    # The images of one acquisition: all of a set, or the one that a path names.
    found = _read(file_of(path))
    if member_of(path):
        images = [_image(path, found)]
    elif _are_apart(found):
        first = found.images[0].name
        told = f"a set of {len(found.images)} images, each with a path of its own: {first}"
        raise UnreadableImage(path, told)
    else:
        images = list(found.images)
    if not aborted.is_read(path) and (reason := _why_lacking(images)):
        raise UnreadableImage(path, reason)
    if aborted.is_read(path) and images:
        reason = _why_lacking(images) or found.lacks
        images = _as_far_as_whole(path, found, images)
        if not images:
            raise UnreadableImage(path, reason)
    if not images:
        raise UnreadableImage(path, planes.why_lacking(found))
    return found, images


def _as_far_as_whole(path: Path, found: ImageSet, images: list[SetImage]) -> list[SetImage]:
    # All that there is of what is whole; empty where it cannot be told what is.
    reason = _why_lacking(images) or ("" if found.is_plate else found.lacks)
    if not reason or not aborted.is_read(path):
        return images
    return planes.as_far_as_whole(images, reason)


def _why_lacking(images: Sequence[SetImage]) -> str:
    return next((why for image in images if (why := planes.why_image_lacks(image))), "")


def _image(path: Path, found: ImageSet) -> SetImage:
    name = member_of(path)
    for image in found.images:
        if image.name == name:
            return image
    raise UnreadableImage(path, f"the set has no image '{name}'")


def _are_apart(found: ImageSet) -> bool:
    return found.is_plate or not planes.are_alike(found.images)


def _read(file: Path) -> ImageSet:
    try:
        status = file.stat()
        kind = _kind(file)
        if kind not in BY_LISTING:
            return _reader(kind)(file)
        # Files that are added or taken away change their folder's time.
        folders = tuple(p.stat().st_mtime_ns for p in (file.parent, *_folders(file.parent, kind)))
        return _read_once(file, status.st_size, status.st_mtime_ns, folders)
    except UnreadableImage:
        raise
    except OSError as error:
        raise UnreadableImage(file, f"cannot be opened: {error.strerror or error}") from error
    except MemoryError:
        raise
    except Exception as error:
        # A damaged index may be anything.
        raise UnreadableImage(file, f"the list of its files cannot be read: {error}") from error


@lru_cache(maxsize=4)
def _read_once(file: Path, size: int, mtime_ns: int, folders: tuple[int, ...]) -> ImageSet:
    del size, mtime_ns, folders  # they tell that it is the same
    return _reader(_kind(file))(file)


def _reader(kind: str) -> Callable[[Path], ImageSet]:
    read: Callable[[Path], ImageSet] = _module(kind).read
    return read


def _folders(folder: Path, kind: str) -> list[Path]:
    return list(_module(kind).folders_in(folder)) if kind == "imagexpress" else []


def _kind(file: Path) -> str:
    by_name = "ome" if pattern.named(file) is None else "pattern"
    return KINDS.get(suffix_of(file.name), by_name)


def _module(kind: str) -> Any:  # Any: a module, of which mypy does not know the functions
    return import_module(f"cellwatch.images.sets.{kind}")
