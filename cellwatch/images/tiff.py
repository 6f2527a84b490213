"""Read TIFF files: plain, OME-TIFF and ImageJ hyperstacks."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from cellwatch.errors import CodecMissing, UnreadableImage
from cellwatch.images.calibration import pixel_side
from cellwatch.images.ome_set import OwnPlanes, channel_names, own_planes, pixels_of
from cellwatch.images.planes import Array, CalledPages, Pages
from cellwatch.images.tiff_pages import (
    ORIENTATION,
    as_one_page,
    as_seen,
    is_inverted,
    pages_of,
    turn_of,
    turned_shape,
)
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
POSITIONS = "R"  # Micro-Manager's letter


def describe(path: Path) -> ImageInfo:
    """Tell what a TIFF file holds."""
    with _open(path) as file:
        try:
            return _described(path, file)
        except (UnreadableImage, MemoryError):
            raise
        except Exception as error:
            raise UnreadableImage(path, f"the TIFF's structure is broken: {error}") from error


def open_pages(path: Path, *, is_labels: bool = False) -> Pages:
    """Open a TIFF file; its pages come as they are meant to be seen.

    Parameters
    ----------
    path : Path
    is_labels : bool
        Whether the values are numbers of ROIs: then 0 is 0, whatever is said to be white.
    """
    return _opened(path, _raw_pages, is_labels=is_labels)


def open_every_page(path: Path) -> Pages:
    """Open a TIFF file as the pages that it holds, whatever its metadata say of them.

    The planes of an STK file, which has one page, are its pages.
    """
    return _opened(path, _every_page, is_labels=False)


def kind_of_page(path: Path, page: int) -> tuple[tuple[int, ...], str]:
    """Return the shape of a page as it is meant to be seen, and its type, without its pixels."""
    with _open(path) as file, _decoding(path):
        at = file.pages[0 if file.is_stk else page]
        shape = tuple(int(n) for n in at.shape)
        return turned_shape(shape, file.pages.first), str(np.dtype(at.dtype))


def leading_pages(path: Path) -> tuple[int, int]:
    """Return how many pages of an OME-TIFF are there from the first on, and how many it declares.

    In the order of the axes. (0, 0) where that is not told: of other kinds, and of several images.
    """
    with _open(path) as file, _decoding(path):
        series = _series(file) if file.is_ome else []
        if len(series) != 1:
            return 0, 0
        pages = list(series[0].pages)
        there = next((n for n, page in enumerate(pages) if page is None), len(pages))
        return there, len(pages)


def _opened(
    path: Path,
    pages_in: Callable[[Path, tifffile.TiffFile], Pages],
    *,
    is_labels: bool,
) -> Pages:
    # The pages that a function finds in a file, as they are meant to be seen.
    file = _open(path)
    try:
        with _decoding(path):
            pages = as_seen(pages_in(path, file), file.pages.first, is_labels=is_labels)
    except BaseException:
        file.close()
        raise

    def page(index: int) -> Array:
        with _decoding(path):
            return pages.page(index)

    return CalledPages(pages.n_pages, pages.dtype, page, file.close)


def _every_page(_: Path, file: tifffile.TiffFile) -> CalledPages:
    pages, dtype = file.pages, np.dtype(file.pages.first.dtype)
    if file.is_stk and len(pages) == 1:
        return pages_of(file, file.series[0])
    return CalledPages(len(pages), dtype, lambda n: pages[n].asarray(), file.close)


@contextlib.contextmanager
def _decoding(path: Path) -> Iterator[None]:
    # What tifffile raises on a damaged file may be anything.
    try:
        yield
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the disk or the share failed, not the file
        raise _why_undecoded(path, error) from error


def _raw_pages(path: Path, file: tifffile.TiffFile) -> CalledPages:
    own = _own_planes(path, file)
    if own is not None:
        pages = [file.pages[at] for at in own.pages]
        return CalledPages(
            len(pages), np.dtype(pages[0].dtype), lambda n: pages[n].asarray(), file.close
        )
    series = _series(file)
    each = [pages_of(file, one) for one in series]
    if len({tuple(one.keyframe.shape) for one in series}) > 1:  # planes here, colours apart there
        each = [as_one_page(one) for one in series]
    n_each = each[0].n_pages

    def page(index: int) -> Array:
        return each[index // n_each].page(index % n_each)

    return CalledPages(n_each * len(each), each[0].dtype, page, file.close)


def _described(path: Path, file: tifffile.TiffFile) -> ImageInfo:
    own = _own_planes(path, file)
    if own is not None:
        axes, shape, dtype = _own_axes(path, own, file)
    else:
        axes, shape, dtype = _axes(path, _series(file))
    page = file.pages.first
    shape = turned_shape(shape, page)
    kind = _kind(file)
    size, notes = _pixel_size(file, own)
    notes += own.notes if own is not None else ()
    if is_inverted(page) and "S" not in axes:
        notes += ("white is 0 in this file (its photometric tag): its intensities are inverted",)
    if turn_of(page):
        notes += (f"turned as its orientation tag says ({page.tags[ORIENTATION].value})",)
    names = _names(file, axes, shape, own)
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and not file.is_imagej:
        notes += ("it has a palette: its numbers are taken for intensities, not its colours",)
    if own is None and not file.is_lsm and _are_smaller(file.series):
        notes += (f"its {len(file.series) - 1} smaller images are taken for pictures of the first",)
    lacks = own.lacks if own is not None else ""
    return ImageInfo(str(path), kind, axes, shape, dtype, size, names, notes=notes, lacks=lacks)


def _kind(file: tifffile.TiffFile) -> str:
    kinds = {
        "ome-tiff": file.is_ome,
        "imagej": file.is_imagej,
        "lsm": file.is_lsm,
        "stk": file.is_stk,
    }
    return next((name for name, is_it in kinds.items() if is_it), "tiff")


def _series(file: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    # Zeiss's LSM, and files with a thumbnail or a pyramid, keep smaller pictures of the image.
    series = list(file.series)
    return series[:1] if file.is_lsm or _are_smaller(series) else series


def _are_smaller(series: Sequence[Any]) -> bool:  # Any: tifffile's
    # Whether all images but the first are smaller than it in both directions.
    sides = [dict(zip(str(each.axes), each.shape, strict=True)) for each in series]
    return len(sides) > 1 and all(
        other.get(axis, 1) < sides[0].get(axis, 1) for other in sides[1:] for axis in "YX"
    )


def _open(path: Path) -> tifffile.TiffFile:
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it logs, we raise or check
    try:
        # One file at a time: what others hold, or lack, does not change what this one means.
        return tifffile.TiffFile(path, is_mmstack=False, is_ndtiff=False, _multifile=False)
    except tifffile.TiffFileError as error:
        raise UnreadableImage(path, f"this is not a TIFF file: {error}") from error
    except OSError as error:
        raise UnreadableImage(path, f"cannot be opened: {error.strerror or error}") from error
    except Exception as error:
        raise UnreadableImage(path, f"the TIFF's header is broken: {error}") from error


def _why_undecoded(path: Path, error: Exception) -> UnreadableImage:
    # tifffile names the package that it misses; newer codecs are modules of Python's own.
    if "imagecodecs" in str(error) or isinstance(error, ImportError):
        remedy = "pip install 'cellwatch[codecs]' where cellwatch is, and restart the daemon"
        return CodecMissing(path, f"{error}; install the codecs: {remedy}")
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


def _pixel_size(
    file: tifffile.TiffFile, own: OwnPlanes | None
) -> tuple[float | None, tuple[str, ...]]:
    # A resolution in a plain TIFF is as a rule the 72 dpi of a screen: it says nothing.
    sides: tuple[float, float] | None = None
    try:
        if file.is_ome:
            sides = ome_sides(own.pixels if own is not None else pixels_of(file.ome_metadata or ""))
        elif file.is_imagej:
            sides = _imagej_sides(file)
        elif file.is_lsm:
            metres = file.lsm_metadata or {}
            sides = metres["VoxelSizeX"] * 1e6, metres["VoxelSizeY"] * 1e6
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        return None, (f"the pixel size in the file cannot be read ({error}): taken as not known",)
    return pixel_side(*sides) if sides is not None else (None, ())


def ome_sides(pixels: ElementTree.Element | None) -> tuple[float, float] | None:
    """Return the sides of a pixel in µm, as OME's metadata of an image say; None: they do not."""
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
