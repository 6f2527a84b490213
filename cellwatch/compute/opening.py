"""Open an acquisition as its size allows: all of it in memory, or a plane at a time."""

from pathlib import Path

from cellwatch.compute.memory import decoding_within, is_read_by_planes
from cellwatch.errors import UnreadableImage
from cellwatch.images import Image, OpenImage, load, open_image
from cellwatch.records import ImageInfo


def open_or_load(path: Path, info: ImageInfo, axes: str) -> Image | OpenImage:
    """Return an acquisition whose planes can be asked for, to be closed; in memory, if it is small.

    Raises
    ------
    UnreadableImage
        When it cannot be read, or decodes to more than it declares.
    """
    if is_read_by_planes(info):
        return open_image(path, axes)
    try:
        with decoding_within(info):
            return load(path, axes)
    except MemoryError as error:
        raise UnreadableImage(path, f"it decodes to more than it declares: {info.shape}") from error
