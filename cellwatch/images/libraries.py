"""What the libraries of formats raise, as errors that people understand."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from cellwatch.errors import UnreadableImage


@contextlib.contextmanager
def opening(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a library raises while it opens a file into an UnreadableImage."""
    try:
        yield
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:
        # A damaged file may make a library raise anything.
        raise UnreadableImage(path, f"the {kind} cannot be read: {error}") from error


@contextlib.contextmanager
def decoding(path: Path, kind: str) -> Iterator[None]:
    """Do the same while pixels are read; what the disk or the share does is no fault of the file.

    Raises
    ------
    UnreadableImage
    OSError
        With an `errno`: the operating system's.
    """
    try:
        yield
    except OSError as error:
        if error.errno:
            raise
        raise UnreadableImage(path, f"the {kind} cannot be read: {error}") from error
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:
        raise UnreadableImage(path, f"the {kind} cannot be read: {error}") from error


def open_picture(path: Path, kind: str) -> Image.Image:
    """Open a picture with Pillow, of one kind and no other.

    Raises
    ------
    UnreadableImage
        When it is none, or would be too large.
    """
    try:
        return Image.open(path, formats=[kind])
    except UnidentifiedImageError as error:
        raise UnreadableImage(path, f"this is not a {kind} file") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableImage(path, f"the {kind} cannot be opened: {error}") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(path, f"the {kind} is too large: {error}") from error
