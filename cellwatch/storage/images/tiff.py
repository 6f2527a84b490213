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
# tifffile's letters for axes without a meaning; the pages of a plain stack are taken for time.
UNKNOWN_AXES = "QI"


def describe(path: Path) -> ImageInfo:
    """Tell what a TIFF file holds."""
    with _open(path) as file:
        try:
            series = list(file.series)
            axes, shape, dtype = _axes(path, series)
            kind = "ome-tiff" if file.is_ome else "imagej" if file.is_imagej else "tiff"
            return ImageInfo(
                str(path), kind, axes, shape, dtype, _pixel_size(file), _names(file, axes, shape)
            )
        except (UnreadableImage, MemoryError):
            raise
        except Exception as error:
            raise UnreadableImage(path, f"the TIFF's structure is broken: {error}") from error


def read(path: Path) -> NDArray[np.generic]:
    """Read the pixels of a TIFF file."""
    with _open(path) as file:
        try:
            arrays = [series.asarray() for series in file.series]
        except Exception as error:
            if "imagecodecs" in str(error):
                raise CodecMissing(
                    path, f"{error}; install the codecs: pip install 'cellwatch[codecs]'"
                ) from error
            raise UnreadableImage(path, f"the pixels cannot be decoded: {error}") from error
    _, shape, _ = _axes(path, file.series)
    pixels = arrays[0] if len(arrays) == 1 else np.stack(arrays)
    return np.asarray(pixels).reshape(shape)


def _open(path: Path) -> tifffile.TiffFile:
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it logs, we raise or check
    try:
        return tifffile.TiffFile(path)
    except tifffile.TiffFileError as error:
        raise UnreadableImage(path, f"this is no TIFF file: {error}") from error
    except OSError as error:
        raise UnreadableImage(path, f"cannot be opened: {error.strerror or error}") from error
    except Exception as error:
        raise UnreadableImage(path, f"the TIFF's header is broken: {error}") from error


def _axes(path: Path, series: list[Any]) -> tuple[str, tuple[int, ...], str]:  # Any: tifffile's
    if not series:
        raise UnreadableImage(path, "the TIFF holds no image")
    first = series[0]
    if any(s.shape != first.shape or s.dtype != first.dtype for s in series):
        sizes = ", ".join(str(s.shape) for s in series[:4])
        raise UnreadableImage(path, f"its {len(series)} images differ in size or type: {sizes}")
    axes = str(first.axes).upper()
    shape = tuple(int(n) for n in first.shape)
    axes = _channels_last(axes, shape, first)
    if "C" in axes and "S" in axes:
        raise UnreadableImage(path, f"shape {shape} has both channels and colours ({axes})")
    unknown = [axis for axis in axes if axis in UNKNOWN_AXES]
    if len(unknown) > 1:
        raise UnreadableImage(path, f"shape {shape} has axes without names; declare axes: for them")
    if unknown:
        axes = axes.replace(unknown[0], "T" if "T" not in axes else "Z")
    if len(series) > 1:
        axes, shape = f"P{axes}", (len(series), *shape)
    if strange := set(axes) - set("PTZCYXS"):
        raise UnreadableImage(path, f"axis {', '.join(sorted(strange))} has no meaning here")
    return axes, shape, str(first.dtype)


def _channels_last(axes: str, shape: tuple[int, ...], series: Any) -> str:  # Any: tifffile's
    # Samples that no colour space explains are channels: a two-channel picture written Y, X, C.
    if not axes.endswith("S"):
        return axes
    photometric = series.keyframe.photometric
    is_colour = photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
    return axes if is_colour and shape[-1] in (3, 4) else f"{axes[:-1]}C"


def _pixel_size(file: tifffile.TiffFile) -> float | None:
    sides = _ome_sides(file) if file.is_ome else _imagej_sides(file) if file.is_imagej else None
    # A resolution in a plain TIFF is as a rule the 72 dpi of a screen: it says nothing.
    if sides is None or not all(math.isfinite(side) for side in sides):
        return None
    x, y = sides
    return x if abs(x - y) <= SQUARE * max(abs(x), abs(y)) else None


def _ome_sides(file: tifffile.TiffFile) -> tuple[float, float] | None:
    pixels = _ome_pixels(file)
    if pixels is None or "PhysicalSizeX" not in pixels.attrib:
        return None
    unit_x, unit_y = (MICROMETRES.get(pixels.get(f"PhysicalSize{a}Unit", "µm")) for a in "XY")
    if unit_x is None or unit_y is None:
        return None
    x = float(pixels.attrib["PhysicalSizeX"]) * unit_x
    return x, float(pixels.get("PhysicalSizeY", x / unit_y)) * unit_y


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


def _ome_pixels(file: tifffile.TiffFile) -> ElementTree.Element | None:
    root = ElementTree.fromstring(file.ome_metadata or "<OME/>")
    return next((e for e in root.iter() if e.tag.rpartition("}")[2] == "Pixels"), None)


def _names(file: tifffile.TiffFile, axes: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    if "S" in axes:
        return ("red", "green", "blue", "alpha")[: shape[axes.index("S")]]
    count = shape[axes.index("C")] if "C" in axes else 1
    names: list[str] = []
    if file.is_ome and (pixels := _ome_pixels(file)) is not None:
        channels = [e for e in pixels if e.tag.rpartition("}")[2] == "Channel"]
        names = [channel.get("Name", "") for channel in channels]
    elif file.is_imagej:
        labels = (file.imagej_metadata or {}).get("Labels") or []
        names = [str(label) for label in labels[:count]] if count > 1 else []
    return tuple((names + [""] * count)[:count])
