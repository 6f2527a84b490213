"""Read PNG pictures: grey and RGB of 8 and 16 bits.

Pillow keeps 8 of the 16 bits of colours: those are decoded by `imagecodecs`.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellwatch.errors import CodecMissing, UnreadableImage
from cellwatch.images.libraries import open_picture
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
# Bits and colour type of what Pillow would cut, and how many samples it has.
DEEP_COLOURS = {b"\x10\x02": 3, b"\x10\x06": 4, b"\x10\x04": 2}
GREY_AND_ALPHA = 2  # samples


def describe(path: Path) -> ImageInfo:
    """Tell what a PNG file holds."""
    samples_deep = _deep_samples(path)
    with open_picture(path, "PNG") as image:
        if samples_deep:
            return _described_deep(path, image, samples_deep)
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
    if samples_deep := _deep_samples(path):
        deep = _decoded_deep(path)
        return WholePage(deep[..., 0] if samples_deep == GREY_AND_ALPHA else deep)
    with open_picture(path, "PNG") as image:
        try:
            pixels = np.asarray(image.getchannel("L") if image.mode == "LA" else image)
            if image.mode == "P" and not is_labels:
                pixels = _greys(path, image)[pixels]
        except (OSError, SyntaxError, ValueError) as error:
            raise UnreadableImage(path, f"the PNG is broken: {error}") from error
    kind = {"i": np.uint16, "b": np.uint8}.get(pixels.dtype.kind, pixels.dtype)
    return WholePage(pixels.astype(kind))


def _deep_samples(path: Path) -> int:
    # Of a PNG of 16 bits with several samples; 0: it is none.
    try:
        with path.open("rb") as file:
            return DEEP_COLOURS.get(file.read(26)[24:26], 0)
    except OSError as error:
        raise UnreadableImage(path, f"cannot be opened: {error.strerror or error}") from error


def _described_deep(path: Path, image: Image.Image, samples: int) -> ImageInfo:
    sides = (image.height, image.width)
    if samples == GREY_AND_ALPHA:
        return ImageInfo(
            str(path), "png", "YX", sides, "uint16", None, ("",), notes=(TRANSPARENCY,)
        )
    channels = ("red", "green", "blue", "alpha")[:samples]
    return ImageInfo(str(path), "png", "YXS", (*sides, samples), "uint16", None, channels)


def _decoded_deep(path: Path) -> NDArray[np.uint16]:
    try:
        import imagecodecs
    except ImportError as error:
        told = "a colour PNG of 16 bits needs: pip install 'cellwatch[codecs]'"
        raise CodecMissing(path, told) from error
    try:
        return np.asarray(imagecodecs.png_decode(path.read_bytes()), np.uint16)
    except (OSError, RuntimeError, ValueError) as error:
        raise UnreadableImage(path, f"the PNG is broken: {error}") from error


def _greys(path: Path, image: Image.Image) -> NDArray[np.uint8]:
    colours = np.asarray(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    if not (colours == colours[:, :1]).all():
        raise UnreadableImage(
            path,
            "its palette has colours, which are not intensities; save it as grey or as RGB "
            "(a label image of this kind is read by its numbers)",
        )
    return np.pad(colours[:, 0], (0, 256 - len(colours)))
