"""Read OME-Zarr 0.1 to 0.5: images, plates, and several images in one store, as they are stored.

References
----------
OME-NGFF 0.4 and 0.5: `multiscales`, `omero`, `plate` and `well`; the transitional layout
`bioformats2raw.layout`; RFC 9 for stores in a zip file.
"""

import contextlib
import math
import os
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from cellwatch.errors import UnreadableImage
from cellwatch.files.digests import status_of
from cellwatch.images.calibration import pixel_side
from cellwatch.images.planes import Array, CalledPages, Pages, Span
from cellwatch.images.zarr_chunks import METADATA, chunks_of
from cellwatch.records import ImageInfo

MICROMETRES = {
    "micrometer": 1.0, "micron": 1.0, "um": 1.0, "µm": 1.0, "nanometer": 1e-3, "nm": 1e-3,
    "millimeter": 1e3, "mm": 1e3, "centimeter": 1e4, "meter": 1e6, "angstrom": 1e-4,
}  # fmt: skip
FIRST_AXES = "TCZYX"  # of versions that do not name them
SLABS = 512 << 20  # bytes of decoded chunks that are kept; beyond it a plane is decoded alone
OURS = "a mask store of cellwatch, and no image"

Json = Mapping[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One image of a store.

    Attributes
    ----------
    name : str
        Its group below the store; "": the store itself.
    pixels : zarr.Array
        Its largest level.
    axes : str
        One letter for each axis of `pixels`, of "TCZYX".
    scale : tuple of float
        Of each axis.
    units : tuple of str
        Of each axis; "": none is told.
    channels : tuple of str
        "": a channel without a name.
    """

    name: str
    pixels: Any  # zarr.Array, whose type parameters say nothing here
    axes: str
    scale: tuple[float, ...]
    units: tuple[str, ...]
    channels: tuple[str, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """Return the lengths of its axes that are longer than one, and of Y and X."""
        each = zip(self.axes, self.pixels.shape, strict=True)
        return {axis: int(n) for axis, n in each if n != 1 or axis in "YX"}


def describe(path: Path) -> ImageInfo:
    """Tell what a store holds; several images of one shape are its positions."""
    with opened(path) as images:
        first = images[0]
        sizes = {"P": len(images), **first.sizes} if len(images) > 1 else first.sizes
        size, notes = _pixel_size(first)
        absent = sum(chunks_of(path, each.pixels).absent for each in images)
        if absent:
            notes += (f"{absent} of its chunks are not there: their pixels are 0",)
        if len(images) > 1:
            named = ", ".join(each.name for each in images[:4]) + (", …" if images[4:] else "")
            notes += (f"its {len(images)} images are its positions: {named}",)
        dtype = str(np.dtype(first.pixels.dtype).newbyteorder("="))
        shape, axes = tuple(sizes.values()), "".join(sizes)
        return ImageInfo(
            str(path), "ome-zarr", axes, shape, dtype, size, first.channels, notes=notes
        )


def spans(file: Path, member: str) -> list[Span]:
    """Return the files of a store that hold its images: what lies beside them is not read."""
    del member
    found = [file / name for name in METADATA if (file / name).is_file()]
    with opened(file) as images:
        for image in images:
            inside = os.walk(file / image.pixels.path)
            found += sorted(Path(folder, name) for folder, _, names in inside for name in names)
    named = [(path.relative_to(file).as_posix(), path) for path in found]
    return [Span(name, path, 0, status_of(path).st_size) for name, path in named]


def open_pages(path: Path, *, is_labels: bool = False) -> Pages:
    """Open a store, a page for each plane of each channel."""
    del is_labels
    with contextlib.ExitStack() as stack:
        images = stack.enter_context(opened(path))
        ahead = [n for axis, n in images[0].sizes.items() if axis not in "YX"]
        # What was decoded last of each channel, since a chunk may hold several planes.
        slabs = _Slabs(images, keep=max(1, images[0].sizes.get("C", 1)))

        def page(index: int) -> Array:
            image, *at = np.unravel_index(index, (len(images), *ahead))
            try:
                return slabs.plane(int(image), tuple(int(n) for n in at))
            except Exception as error:
                if isinstance(error, OSError) and error.errno:
                    raise  # the disk or the share failed, not the store
                raise UnreadableImage(path, f"a chunk cannot be decoded: {error}") from error

        dtype = np.dtype(images[0].pixels.dtype).newbyteorder("=")
        count = len(images) * math.prod(ahead)
        return CalledPages(count, dtype, page, stack.pop_all().close)


def why_not_whole(path: Path) -> str:
    """Say why an OME-Zarr store is not complete; "" when it is, or is none."""
    try:
        with opened(path) as images:
            for image in images:
                chunks = chunks_of(path, image.pixels)
                where = f" of {image.name}" if image.name else ""
                if not chunks.found:
                    return f"none of the {chunks.expected} chunks{where} is there"
                if not chunks.has_last:
                    return (
                        f"{chunks.found} of {chunks.expected} chunks{where} are there, and not the "
                        "last one: it is still written, or was cut (who writes it should also "
                        "write empty chunks)"
                    )
    except UnreadableImage as error:
        is_begun = _has_metadata(path) if path.is_dir() else zipfile.is_zipfile(path)
        return "" if is_begun else error.reason
    return ""


class _Slabs:
    """The planes of a store's images, of which those of the chunks read last are kept."""

    def __init__(self, images: Sequence[StoredImage], keep: int) -> None:
        self._images = images
        self._keep = keep
        self._held: OrderedDict[tuple[int, ...], Array] = OrderedDict()

    def plane(self, which: int, at: tuple[int, ...]) -> Array:
        """Return a plane, (Y, X): `at` counts along the axes ahead that are longer than one."""
        pixels, axes = self._images[which].pixels, self._images[which].axes
        places = iter(at)
        index = [
            next(places) if n != 1 else 0
            for axis, n in zip(axes, pixels.shape, strict=True)
            if axis not in "YX"
        ]
        along = next((n for n in reversed(range(len(index))) if pixels.shape[n] != 1), None)
        if along is None:
            return np.asarray(pixels[tuple(index)])
        deep = int(pixels.chunks[along])
        if deep * math.prod(pixels.shape[-2:]) * pixels.dtype.itemsize * self._keep > SLABS:
            deep = 1
        start = index[along] // deep * deep
        key = (which, *index[:along], start, *index[along + 1 :])
        if key not in self._held:
            slab = [slice(start, start + deep) if n == along else i for n, i in enumerate(index)]
            while len(self._held) >= self._keep:
                self._held.popitem(last=False)
            self._held[key] = np.asarray(pixels[tuple(slab)])
        plane: Array = self._held[key][index[along] - start]
        return plane


@contextlib.contextmanager
def opened(path: Path) -> Iterator[list[StoredImage]]:
    """Open a store, and give its images: those of a plate, of a collection, or the one.

    Raises
    ------
    UnreadableImage
        When there is none, or they differ in shape.
    """
    with contextlib.ExitStack() as stack:
        try:
            store: Any = path  # Any: a folder or a store of zarr
            if not path.is_dir():
                zipfile.ZipFile(path).close()  # it says more of a broken one than zarr does
                store = stack.enter_context(zarr.storage.ZipStore(path, mode="r"))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what other programs write a little wrong
                root = zarr.open_group(store, mode="r", use_consolidated=False)
                images = [_stored(path, name, group) for name, group in _groups(path, root)]
        except (UnreadableImage, MemoryError):
            raise
        except Exception as error:
            # A damaged store may make the library raise anything.
            raise UnreadableImage(path, f"cannot be read as OME-Zarr: {error}") from error
        kinds = {(each.axes, each.pixels.shape, str(each.pixels.dtype)) for each in images}
        if len(kinds) > 1:
            sides = sorted({" x ".join(map(str, shape)) for _, shape, _ in kinds})
            told = f"its {len(images)} images differ in shape or type ({'; '.join(sides)})"
            raise UnreadableImage(path, f"{told}; give each image a store of its own")
        yield images


def _groups(path: Path, root: zarr.Group) -> Iterator[tuple[str, zarr.Group]]:
    # The images of a store, by the names of their groups.
    said = root.attrs.asdict()
    if "cellwatch" in said:
        raise UnreadableImage(path, OURS)
    ome = _ome(said)
    if "image-label" in ome:
        raise UnreadableImage(path, "a label image, and no image")
    if "plate" in ome:
        for well in ome["plate"]["wells"]:
            inside = _ome(_group(root, well["path"]).attrs.asdict())
            for field in inside["well"]["images"]:
                name = f"{well['path']}/{field['path']}"
                yield name, _group(root, name)
    elif "multiscales" in ome:
        yield "", root
    elif "bioformats2raw.layout" in ome or "bioformats2raw.layout" in said:
        for name in sorted((n for n in root.group_keys() if n.isdecimal()), key=int):
            yield name, _group(root, name)
    else:
        raise UnreadableImage(path, "it has no multiscales: it is no OME-Zarr image")


def _group(root: zarr.Group, name: str) -> zarr.Group:
    found = root[name]
    if not isinstance(found, zarr.Group):
        raise TypeError(f"{name} is an array")
    return found


def _ome(said: Json) -> Json:
    # From 0.5 on all of it stands under one key.
    ome = said.get("ome")
    return ome if isinstance(ome, Mapping) else said


def _stored(path: Path, name: str, group: zarr.Group) -> StoredImage:
    ome = _ome(group.attrs.asdict())
    multiscale = ome["multiscales"][0]
    dataset = multiscale["datasets"][0]
    pixels = group[dataset["path"]]
    if not isinstance(pixels, zarr.Array):
        raise UnreadableImage(path, f"{name}/{dataset['path']} is no array")
    told = multiscale.get("axes") or list(FIRST_AXES.lower()[-pixels.ndim :])
    axes = "".join(_letter(axis) for axis in told)
    if len(axes) != pixels.ndim or not axes.endswith("YX") or len(set(axes)) != len(axes):
        raise UnreadableImage(path, f"axes '{axes}' do not fit an array of shape {pixels.shape}")
    units = tuple(str(a.get("unit") or "") if isinstance(a, Mapping) else "" for a in told)
    count = pixels.shape[axes.index("C")] if "C" in axes else 1
    names = [str(c.get("label", "")) for c in (ome.get("omero") or {}).get("channels", ())]
    channels = tuple(names) if len(names) == count else ("",) * count
    scale = _scale(len(axes), dataset, multiscale)
    return StoredImage(name, pixels, axes, scale, units, channels)


def _letter(axis: Any) -> str:  # Any: JSON, of several versions
    kind = axis.get("type", "") if isinstance(axis, Mapping) else ""
    name = str(axis.get("name", "") if isinstance(axis, Mapping) else axis)
    return {"channel": "C", "time": "T"}.get(kind, name.upper())


def _scale(n_axes: int, *places: Json) -> tuple[float, ...]:
    # Of the level, and of the whole pyramid.
    scale = np.ones(n_axes)
    for place in places:
        for step in place.get("coordinateTransformations") or ():
            if step.get("type") == "scale" and len(step.get("scale", ())) == n_axes:
                scale *= np.asarray(step["scale"], float)
    return tuple(float(n) for n in scale)


def _pixel_size(image: StoredImage) -> tuple[float | None, tuple[str, ...]]:
    units = [MICROMETRES.get(unit.lower()) for unit in image.units[-2:]]
    y, x = (side * (unit or 0) for side, unit in zip(image.scale[-2:], units, strict=True))
    return pixel_side(x, y)


def _has_metadata(path: Path) -> bool:
    return any((path / name).exists() for name in METADATA)
