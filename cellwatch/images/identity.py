"""What names an image's content: digests over the bytes that hold it, wherever they lie.

Most images are one file. Some are a part of one (an image in a LIF project), a file and others
that belong to it (VSI), or a folder (OME-Zarr): their format's module says where their bytes are.
"""

import hashlib
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from cellwatch.errors import UnreadableImage
from cellwatch.files import digests
from cellwatch.files.digests import PART, status_of
from cellwatch.files.members import file_of, member_of
from cellwatch.images.planes import Span
from cellwatch.images.suffixes import INDICES, LISTING, suffix_of

# Formats of which one file is not one image.
HAVE_SPANS = {
    ".lif": "lif",
    ".vsi": "slides",
    ".zarr": "ome_zarr",
    **dict.fromkeys(INDICES, "sets"),
}
MAX_SPANS = 32  # of which head and tail are read: a store may have 100,000 files
BLOCK = 1 << 20  # bytes that are read at a time


def fingerprint(path: Path) -> str:
    """Return 32 hex digits that name an image's size, head and tail.

    Raises
    ------
    UnreadableImage
        When it is not there, or cannot be read.
    """
    if not _is_apart(path):
        return digests.fingerprint(path)
    digest = hashlib.blake2b(digest_size=16)
    spans = _spans(path)
    for span in spans:
        digest.update(f"{span.name}\0{span.size}\0".encode(errors="surrogateescape"))
    for span in spans[:: -(-len(spans) // MAX_SPANS) or 1]:
        for start in (span.start, max(span.start + PART, span.start + span.size - PART)):
            n_bytes = max(0, min(PART, span.start + span.size - start))
            digest.update(b"".join(_read(path, Span(span.name, span.file, start, n_bytes))))
    return digest.hexdigest()


def has_fingerprint(path: Path, known: str) -> bool:
    """Say whether an image has a fingerprint; one that cannot be read has none."""
    try:
        return fingerprint(path) == known
    except UnreadableImage:
        return False


def content_sha256(path: Path) -> str:
    """Return the sha256 of all bytes of an image, in hex, with the errors of `fingerprint`."""
    if not _is_apart(path):
        return digests.content_sha256(path)
    digest = hashlib.sha256()
    for span in _spans(path):
        digest.update(f"{span.name}\0{span.size}\0".encode(errors="surrogateescape"))
        for block in _read(path, span):
            digest.update(block)
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """Return the bytes on disk that hold an image, in all of its files."""
    return sum(s.size for s in _spans(path)) if _is_apart(path) else status_of(path).st_size


def _is_apart(path: Path) -> bool:
    file = file_of(path)
    if file != path or file.is_dir() or suffix_of(file.name) in HAVE_SPANS:
        return True
    return suffix_of(file.name) in LISTING and bool(_sets().lists_a_set(path))


def _spans(path: Path) -> list[Span]:
    file, member = file_of(path), member_of(path)
    suffix = suffix_of(file.name)
    if suffix in LISTING and file.is_file():
        of_set: list[Span] = _sets().spans(file, member)
        return of_set
    if suffix not in HAVE_SPANS and file.is_dir():
        return list(_of_folder(file))
    if suffix not in HAVE_SPANS:
        return [Span(member, file, 0, status_of(file).st_size)]
    spans: list[Span] = import_module(f"cellwatch.images.{HAVE_SPANS[suffix]}").spans(file, member)
    return spans


def _sets() -> Any:  # Any: a module, which imports this package
    return import_module("cellwatch.images.sets")


def _of_folder(folder: Path) -> Iterator[Span]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            file = Path(place, name)
            yield Span(file.relative_to(folder).as_posix(), file, 0, status_of(file).st_size)


def _read(path: Path, span: Span) -> Iterator[bytes]:
    left = span.size
    try:
        with span.file.open("rb") as file:
            file.seek(span.start)
            while left > 0 and (block := file.read(min(BLOCK, left))):
                left -= len(block)
                yield block
    except OSError as error:
        raise UnreadableImage(path, f"cannot be read: {error.strerror or error}") from error
    if left > 0:
        raise UnreadableImage(path, f"{span.file.name} ends {left} bytes before it should")
