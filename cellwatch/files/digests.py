"""Digests of files, and fingerprints: the same content under another name is the same image.

The first kilobytes of two images of one microscope are often equal (header, dark border), so the
tail is included.
"""

import hashlib
import os
import stat
from pathlib import Path

from cellwatch.errors import UnreadableImage

PART = 64 * 1024  # bytes of head and of tail


def fingerprint(path: Path) -> str:
    """Return 32 hex digits that name a file's size, head and tail.

    Raises
    ------
    UnreadableImage
        When the path is not a regular file, or cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UnreadableImage(path, f"cannot be opened: {error.strerror}") from error
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage(path, "is not a regular file")
        digest = hashlib.blake2b(status.st_size.to_bytes(8, "little"), digest_size=16)
        try:
            digest.update(file.read(PART))
            file.seek(max(PART, status.st_size - PART))
            digest.update(file.read(PART))
        except OSError as error:
            raise UnreadableImage(path, f"cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def file_state(path: Path) -> tuple[int, int]:
    """Return size and time of a file, in bytes and ns: what changes when it is written to.

    Raises
    ------
    UnreadableImage
        When it is not there.
    """
    status = status_of(path)
    return status.st_size, status.st_mtime_ns


def status_of(path: Path) -> os.stat_result:
    """Return what the file system says of an image file.

    Raises
    ------
    UnreadableImage
        When it is not there.
    """
    try:
        return path.stat()
    except OSError as error:
        raise UnreadableImage(path, f"cannot be opened: {error.strerror or error}") from error


def content_sha256(path: Path) -> str:
    """Return the sha256 of a whole file, in hex.

    Raises
    ------
    UnreadableImage
        When it is not there, or cannot be read.
    """
    try:
        return file_sha256(path)
    except OSError as error:
        raise UnreadableImage(path, f"cannot be read: {error.strerror or error}") from error


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
