"""Read OIB, the files of Olympus's FluoView, with the library `oiffile`."""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import oiffile

from cellwatch.errors import UnreadableImage
from cellwatch.images.calibration import pixel_side
from cellwatch.images.libraries import decoding, opening
from cellwatch.images.planes import Array, CalledPages, Pages
from cellwatch.records import ImageInfo

READ = "TZC"  # axes that planes are read along; of all others the first plane is
PLANE = re.compile(r"s_((?:[A-Z]\d{3,})+)\.tif", re.IGNORECASE)  # a plane of the image in the file
PART = re.compile(r"([A-Z])(\d+)")
UNITS = {"um": 1.0, "nm": 1e-3, "mm": 1e3}
AXES = 8  # that a file lists


def describe(path: Path) -> ImageInfo:
    """Tell what an OIB file holds: its axes are time, z, channels and the plane."""
    with _opened(path) as file:
        return _described(path, file)


def open_pages(path: Path, *, is_labels: bool = False) -> Pages:
    """Open an OIB file, a page for each plane of each channel."""
    del is_labels
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_opened(path))
        info = _described(path, file)
        sizes = _sizes(file)
        axes = [axis for axis in READ if sizes.get(axis, 1) > 1]
        counts = [sizes[axis] for axis in axes]
        planes = _planes(file)

        def page(index: int) -> Array:
            at = np.unravel_index(index, counts) if counts else ()
            place = {axis: int(n) + 1 for axis, n in zip(axes, at, strict=True)}
            name = planes.get(_key(place))
            if name is None:
                raise UnreadableImage(path, f"the OIB file lacks its plane {place}")
            with decoding(path, "OIB file"):
                return np.asarray(file.asarray(name))

        close = stack.pop_all().close
        return CalledPages(math.prod(counts), np.dtype(info.dtype), page, close)


def _described(path: Path, file: Any) -> ImageInfo:  # Any: oiffile's
    sizes = _sizes(file)
    if sizes.get("X", 0) < 1 or sizes.get("Y", 0) < 1:
        raise UnreadableImage(path, f"its planes do not lie along X and Y: axes {file.axes}")
    kept = [axis for axis in READ if sizes.get(axis, 1) > 1]
    shape = (*(sizes[axis] for axis in kept), sizes["Y"], sizes["X"])
    lacking = math.prod(sizes[axis] for axis in kept) - len(_planes(file))
    if lacking > 0:
        raise UnreadableImage(path, f"the OIB file lacks {lacking} of its planes")
    more = [axis for axis in sizes if axis not in {*READ, *"YX"} and sizes[axis] > 1]
    notes = tuple(f"of its {sizes[axis]} planes along '{axis}' the first is read" for axis in more)
    size, why = _pixel_size(file.mainfile.get("Reference Image Parameter", {}))
    channels = _names(file.mainfile, sizes.get("C", 1))
    dtype = str(np.dtype(file.dtype).newbyteorder("="))
    axes = "".join(kept) + "YX"
    return ImageInfo(str(path), "oib", axes, shape, dtype, size, channels, notes=(*notes, *why))


def _sizes(file: Any) -> dict[str, int]:  # Any: oiffile's
    listed = [file.mainfile.get(f"Axis {n} Parameters Common", {}) for n in range(AXES)]
    lengths = {str(each.get("AxisCode")): int(each.get("MaxSize") or 0) for each in listed}
    return {axis: lengths.get(axis, 0) for axis in file.axes}


def _planes(file: Any) -> dict[tuple[tuple[str, int], ...], str]:  # Any: oiffile's
    # Where along its axes each plane lies; of axes that are not read the first place.
    found = {}
    for name in file.glob("*.tif"):
        if match := PLANE.fullmatch(name.rpartition("/")[2]):
            place = {axis.upper(): int(n) for axis, n in PART.findall(match[1].upper())}
            if all(n <= 1 for axis, n in place.items() if axis not in READ):
                found[_key(place)] = name
    return found


def _key(place: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    # An axis of length one may or may not be a part of a name.
    return tuple(sorted((axis, n) for axis, n in place.items() if axis in READ and n > 1))


def _pixel_size(facts: Mapping[str, Any]) -> tuple[float | None, tuple[str, ...]]:  # Any: settings
    units = [UNITS.get(str(facts.get(f"{side}Unit")).lower()) for side in ("Width", "Height")]
    sides = [float(facts.get(f"{side}ConvertValue") or 0) for side in ("Width", "Height")]
    x, y = (side * (unit or 0) for side, unit in zip(sides, units, strict=True))
    return pixel_side(x, y)


def _names(settings: Mapping[str, Any], count: int) -> tuple[str, ...]:  # Any: settings
    facts = [settings.get(f"Channel {n + 1} Parameters", {}) for n in range(count)]
    return tuple(str(each.get("CH Name") or each.get("DyeName") or "") for each in facts)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:  # Any: oiffile's OifFile
    with opening(path, "OIB file"), oiffile.OifFile(path) as file:
        yield file
