"""Read PNG pictures: grey of 8 and 16 bits, and RGB of 8 bits."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cellwatch.errors import UnreadableImage
from cellwatch.images.planes import WholePage
from cellwatch.records import ImageInfo

# Pillow's modes that keep every bit of what a microscope writes, and what they are as arrays.
MODES = {
    "L": ("YX", "uint8"),
    "I;16": ("YX", "uint16"),
    "RGB": ("YXS", "uint8"),
    "RGBA": ("YXS", "uint8"),
    "1": ("YX", "uint8"),
}
PALETTE = "read through its palette"
TRANSPARENCY = "its transparency is left out"
DEEP_COLOUR = (
    b"\x10\x02",
    b"\x10\x06",
    b"\x10\x04",
)  # 16 bits with samples: Pillow drops 8 of them


def describe(path: Path) -> ImageInfo:
    """Tell what a PNG file holds."""
    with _open(path) as image:
        mode = "I;16" if image.mode == "I" else image.mode
        notes: tuple[str, ...] = ()
        if mode == "P":
            mode, notes = "L", (PALETTE,)
        elif mode == "LA":
            mode, notes = "L", (TRANSPARENCY,)
        if mode not in MODES:
            raise UnreadableImage(
                path, f"a PNG of mode {mode} has no plain intensities; save it as TIFF, or as grey"
            )
        axes, dtype = MODES[mode]
        samples = (len(image.getbands()),) if axes == "YXS" else ()
        shape = (image.height, image.width, *samples)
    channels = ("red", "green", "blue", "alpha")[: samples[0]] if samples else ("",)
    return ImageInfo(str(path), "png", axes, shape, dtype, None, tuple(channels), notes=notes)


def open_pages(path: Path, *, is_labels: bool = False) -> WholePage:
    """Read the pixels of a PNG file, which is one page.

    Parameters
    ----------
    path : Path
    is_labels : bool
        Whether the values are numbers of ROIs: of a palette its indices are taken, not its colours.
    """
    with _open(path) as image:
        try:
            pixels = np.asarray(image.getchannel("L") if image.mode == "LA" else image)
            if image.mode == "P" and not is_labels:
                pixels = _greys(path, image)[pixels]
        except (OSError, SyntaxError, ValueError) as error:
            raise UnreadableImage(path, f"the PNG is broken: {error}") from error
    kind = {"i": np.uint16, "b": np.uint8}.get(pixels.dtype.kind, pixels.dtype)
    return WholePage(pixels.astype(kind))


def _greys(path: Path, image: Image.Image) -> NDArray[np.uint8]:
    colours = np.asarray(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    if not (colours == colours[:, :1]).all():
        raise UnreadableImage(
            path,
            "its palette has colours, which are not intensities; save it as grey or as RGB "
            "(a label image of this kind is read by its numbers)",
        )
    return np.pad(colours[:, 0], (0, 256 - len(colours)))


def _open(path: Path) -> Image.Image:
    try:
        with path.open("rb") as file:
            if file.read(26)[24:26] in DEEP_COLOUR:
                raise UnreadableImage(path, "a colour PNG of 16 bits; save it as TIFF")
        return Image.open(path, formats=["PNG"])
    except UnidentifiedImageError as error:
        raise UnreadableImage(path, "this is not a PNG file") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableImage(path, f"the PNG cannot be opened: {error}") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(path, f"the PNG is too large: {error}") from error
