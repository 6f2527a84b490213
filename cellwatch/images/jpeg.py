"""Read JPEG pictures: grey and RGB of 8 bits, upright as their orientation tag says."""

from pathlib import Path

import numpy as np
from PIL import ImageOps

from cellwatch.errors import UnreadableImage
from cellwatch.images.libraries import open_picture
from cellwatch.images.planes import WholePage
from cellwatch.records import ImageInfo

MODES = {"L": "YX", "RGB": "YXS"}
ORIENTATION = 0x0112  # the tag of EXIF; 1: as it is
SIDEWAYS = (5, 6, 7, 8)  # its values that swap height and width
LOSSY = "a JPEG: what compression changed in its intensities is not known"


def describe(path: Path) -> ImageInfo:
    """Tell what a JPEG file holds."""
    with open_picture(path, "JPEG") as image:
        if image.mode not in MODES:
            raise UnreadableImage(path, f"a JPEG of mode {image.mode}; save it as RGB or as grey")
        axes, turn = MODES[image.mode], image.getexif().get(ORIENTATION, 1)
        height, width = image.height, image.width
    sides = (width, height) if turn in SIDEWAYS else (height, width)
    shape, channels = (sides, ("",)) if axes == "YX" else ((*sides, 3), ("red", "green", "blue"))
    notes = (LOSSY, *((f"turned as its orientation tag says ({turn})",) if turn != 1 else ()))
    return ImageInfo(str(path), "jpeg", axes, shape, "uint8", None, channels, notes=notes)


def open_pages(path: Path, *, is_labels: bool = False) -> WholePage:
    """Read the pixels of a JPEG file, which is one page.

    Raises
    ------
    UnreadableImage
        When it is broken, or labels are asked for: compression changes their numbers.
    """
    if is_labels:
        raise UnreadableImage(path, "a JPEG cannot hold labels: compression changes the numbers")
    with open_picture(path, "JPEG") as image:
        try:
            return WholePage(np.asarray(ImageOps.exif_transpose(image)))
        except (OSError, SyntaxError, ValueError) as error:
            raise UnreadableImage(path, f"the JPEG is broken: {error}") from error
