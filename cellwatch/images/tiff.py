"""Read TIFF files: plain, OME-TIFF and ImageJ hyperstacks."""

import logging
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from cellwatch.errors import CodecMissing, UnreadableImage
from cellwatch.images.ome_set import OwnPlanes, channel_names, own_planes, pixels_of
from cellwatch.records import ImageInfo

# Units in which files give lengths, in µm.
MICROMETRES = {
    "µm": 1.0,
    "μm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "\\u00b5m": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "inch": 25400.0,
    "Å": 1e-4,
    "pm": 1e-6,
}
SQUARE = 0.01  # relative difference of the pixel's sides up to which it is called square
POSITIONS = "R"  # Micro-Manager's letter
WHITE_IS_ZERO = 0  # the tag PhotometricInterpretation
ORIENTATION = 274  # the tag; 1: as it is
# What brings rows and columns to where the tag says that they are: a swap, flips of y and of x.
TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def describe(path: Path) -> ImageInfo:
    """Tell what a TIFF file holds."""
    with _open(path) as file:
        try:
            return _described(path, file)
        except (UnreadableImage, MemoryError):
            raise
        except Exception as error:
            raise UnreadableImage(path, f"the TIFF's structure is broken: {error}") from error


def read(path: Path, *, is_labels: bool = False) -> NDArray[np.generic]:
    """Read the pixels of a TIFF file, as they are meant to be seen.

    Parameters
    ----------
    path : Path
    is_labels : bool
        Whether the values are numbers of ROIs: then 0 is 0, whatever is said to be white.
    """
    with _open(path) as file:
        try:
            shape = _described(path, file).shape
            own = _own_planes(path, file)
            if own is not None:
                pixels = np.stack([file.pages[page].asarray() for page in own.pages])
            else:
                arrays = [series.asarray() for series in _series(file)]
                pixels = arrays[0] if len(arrays) == 1 else np.stack(arrays)
        except (UnreadableImage, MemoryError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno:
                raise  # the disk or the share failed, not the file
            raise _why_undecoded(path, error) from error
        page = file.pages.first
        is_rgb = "S" in page.axes
        pixels = _turned(np.asarray(pixels).reshape(_turned_shape(shape, page)), page)
        if _is_inverted(page) and not is_labels and not is_rgb:
            pixels = _inverted(pixels)
    return pixels


def _described(path: Path, file: tifffile.TiffFile) -> ImageInfo:
    own = _own_planes(path, file)
    if own is not None:
        axes, shape, dtype = _own_axes(path, own, file)
    else:
        axes, shape, dtype = _axes(path, _series(file))
    page = file.pages.first
    shape = _turned_shape(shape, page)
    kind = _kind(file)
    size, notes = _pixel_size(file, own)
    notes += own.notes if own is not None else ()
    if _is_inverted(page) and "S" not in axes:
        notes += ("white is 0 in this file (its photometric tag): its intensities are inverted",)
    if _turn_of(page):
        notes += (f"turned as its orientation tag says ({page.tags[ORIENTATION].value})",)
    names = _names(file, axes, shape, own)
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and not file.is_imagej:
        notes += ("it has a palette: its numbers are taken for intensities, not its colours",)
    lacks = own.lacks if own is not None else ""
    return ImageInfo(str(path), kind, axes, shape, dtype, size, names, notes=notes, lacks=lacks)


def _kind(file: tifffile.TiffFile) -> str:
    kinds = {"ome-tiff": file.is_ome, "imagej": file.is_imagej, "lsm": file.is_lsm}
    return next((name for name, is_it in kinds.items() if is_it), "tiff")


def _series(file: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    # Zeiss's LSM keeps small pictures of itself beside the image.
    return list(file.series)[:1] if file.is_lsm else list(file.series)


def _open(path: Path) -> tifffile.TiffFile:
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it logs, we raise or check
    try:
        # One file at a time: what others hold, or lack, does not change what this one means.
        return tifffile.TiffFile(path, is_mmstack=False, is_ndtiff=False, _multifile=False)
    except tifffile.TiffFileError as error:
        raise UnreadableImage(path, f"this is no TIFF file: {error}") from error
    except OSError as error:
        raise UnreadableImage(path, f"cannot be opened: {error.strerror or error}") from error
    except Exception as error:
        raise UnreadableImage(path, f"the TIFF's header is broken: {error}") from error


def _why_undecoded(path: Path, error: Exception) -> UnreadableImage:
    # tifffile names the package that it misses; newer codecs are modules of Python's own.
    if "imagecodecs" in str(error) or isinstance(error, ImportError):
        return CodecMissing(path, f"{error}; install the codecs: pip install 'cellwatch[codecs]'")
    return UnreadableImage(path, f"the pixels cannot be decoded: {error}")


def _own_planes(path: Path, file: tifffile.TiffFile) -> OwnPlanes | None:
    return own_planes(path, file.ome_metadata or "", len(file.pages)) if file.is_ome else None


def _own_axes(
    path: Path, own: OwnPlanes, file: tifffile.TiffFile
) -> tuple[str, tuple[int, ...], str]:
    pages = [file.pages[page] for page in own.pages]
    first = pages[0]
    if any(page.shape != first.shape or page.dtype != first.dtype for page in pages):
        raise UnreadableImage(path, f"its {len(pages)} planes differ in size or type")
    axes = f"{own.axes}{first.axes.upper()}"
    shape = (*own.shape, *(int(n) for n in first.shape))
    return *_named_axes(path, axes, shape, first), str(first.dtype)


def _axes(path: Path, series: list[Any]) -> tuple[str, tuple[int, ...], str]:  # Any: tifffile's
    if not series:
        raise UnreadableImage(path, "the TIFF holds no image")
    first = series[0]
    if any(s.shape != first.shape or s.dtype != first.dtype for s in series):
        sizes = ", ".join(str(s.shape) for s in series[:4])
        raise UnreadableImage(path, f"its {len(series)} images differ in size or type: {sizes}")
    shape = tuple(int(n) for n in first.shape)
    axes, shape = _named_axes(path, str(first.axes).upper(), shape, first.keyframe)
    if len(series) > 1:
        if "P" in axes:
            raise UnreadableImage(path, f"its {len(series)} images have positions of their own")
        axes, shape = f"P{axes}", (len(series), *shape)
    return axes, shape, str(first.dtype)


def _named_axes(
    path: Path, axes: str, shape: tuple[int, ...], page: Any
) -> tuple[str, tuple[int, ...]]:  # Any: tifffile's
    axes = axes.replace(POSITIONS, "P") if "P" not in axes else axes
    axes = _channels_last(axes, shape, page)
    if "C" in axes and "S" in axes:
        raise UnreadableImage(path, f"shape {shape} has both channels and colours ({axes})")
    return axes, shape


def _channels_last(axes: str, shape: tuple[int, ...], page: Any) -> str:  # Any: tifffile's
    # Samples that no colour space explains are channels: a two-channel picture written Y, X, C.
    if "S" not in axes:
        return axes
    is_colour = page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
    is_picture = is_colour and shape[axes.index("S")] in (3, 4)
    return axes if is_picture or "C" in axes else axes.replace("S", "C")


def _turn_of(page: Any) -> tuple[bool, bool, bool] | None:  # Any: tifffile's
    tag = page.tags.get(ORIENTATION)
    return TURNS.get(tag.value) if tag is not None else None


def _turned_shape(shape: tuple[int, ...], page: Any) -> tuple[int, ...]:  # Any: tifffile's
    # The other way round it is the same swap.
    turn = _turn_of(page)
    if turn is None or not turn[0]:
        return shape
    y, swapped = _y_of(page) % len(shape), list(shape)
    swapped[y], swapped[y + 1] = shape[y + 1], shape[y]
    return tuple(swapped)


def _turned(pixels: NDArray[np.generic], page: Any) -> NDArray[np.generic]:  # Any: tifffile's
    turn = _turn_of(page)
    if turn is None:
        return pixels
    y = _y_of(page)
    pixels = np.swapaxes(pixels, y, y + 1) if turn[0] else pixels
    flips = tuple(at for at, is_on in ((y, turn[1]), (y + 1, turn[2])) if is_on)
    return np.flip(pixels, flips) if flips else pixels


def _y_of(page: Any) -> int:  # Any: tifffile's
    return -3 if page.axes.endswith("S") else -2


def _is_inverted(page: Any) -> bool:
    return bool(page.photometric == WHITE_IS_ZERO)


def _inverted(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    # Zero is white: what is brightest gets the largest number.
    if pixels.dtype == bool:
        return np.asarray(np.logical_not(pixels))
    if pixels.dtype.kind == "f":
        return np.asarray(np.nanmax(pixels) - pixels) if pixels.size else pixels
    return np.asarray(np.invert(pixels))


def _pixel_size(
    file: tifffile.TiffFile, own: OwnPlanes | None
) -> tuple[float | None, tuple[str, ...]]:
    # A resolution in a plain TIFF is as a rule the 72 dpi of a screen: it says nothing.
    sides: tuple[float, float] | None = None
    try:
        if file.is_ome:
            sides = _ome_sides(
                own.pixels if own is not None else pixels_of(file.ome_metadata or "")
            )
        elif file.is_imagej:
            sides = _imagej_sides(file)
        elif file.is_lsm:
            metres = file.lsm_metadata or {}
            sides = metres["VoxelSizeX"] * 1e6, metres["VoxelSizeY"] * 1e6
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        return None, (f"the pixel size in the file cannot be read ({error}): taken as not known",)
    if sides is None or not all(math.isfinite(side) and side > 0 for side in sides):
        return None, ()
    x, y = sides
    if abs(x - y) > SQUARE * max(x, y):
        return None, (f"its pixels are not square ({x:g} x {y:g} µm): the size is not used",)
    return x, ()


def _ome_sides(pixels: ElementTree.Element | None) -> tuple[float, float] | None:
    if pixels is None or not pixels.attrib.get("PhysicalSizeX", "").strip():
        return None
    unit_x, unit_y = (MICROMETRES.get(pixels.get(f"PhysicalSize{a}Unit", "µm")) for a in "XY")
    if unit_x is None or unit_y is None:
        return None
    x = _number(pixels.attrib["PhysicalSizeX"]) * unit_x
    said = pixels.get("PhysicalSizeY", "").strip()
    return x, _number(said) * unit_y if said else x


def _number(text: str) -> float:
    # Software of some countries writes a comma.
    return float(text.strip().replace(",", "."))


def _imagej_sides(file: tifffile.TiffFile) -> tuple[float, float] | None:
    metadata = file.imagej_metadata or {}
    unit = MICROMETRES.get(str(metadata.get("unit", "")).lower())
    tags = file.pages.first.tags
    if unit is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    sides = []
    for name in ("XResolution", "YResolution"):
        numerator, denominator = tags[name].value
        if not numerator:
            return None
        sides.append(denominator / numerator * unit)
    return sides[0], sides[1]


def _names(
    file: tifffile.TiffFile, axes: str, shape: tuple[int, ...], own: OwnPlanes | None
) -> tuple[str, ...]:
    if "S" in axes:
        return ("red", "green", "blue", "alpha")[: shape[axes.index("S")]]
    count = shape[axes.index("C")] if "C" in axes else 1
    names: list[str] = []
    if own is not None:
        names = list(own.channels)
    elif file.is_ome:
        names = channel_names(pixels_of(file.ome_metadata or ""))
    elif file.is_imagej:
        labels = (file.imagej_metadata or {}).get("Labels") or []
        names = [str(label) for label in labels[:count]] if count > 1 else []
    return tuple((names + [""] * count)[:count])
