"""OME-TIFF files that are one part of a set: the planes that a file holds itself, and no others.

The metadata of such a file lists the planes of the whole set, and which file holds each. What lies
in another file, beside it or not, is not read here: no plane is invented, a file means the same
whatever lies beside it, and no path in the metadata is followed.

References
----------
OME model 2016-06, `TiffData`: IFD, FirstC, FirstT, FirstZ, PlaneCount, UUID with FileName, and
`BinaryOnly` with its MetadataFile.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import tifffile

MAX_COMPANION = 64 << 20  # bytes
TIFF = (".tif", ".tiff")  # a set's metadata may lie in one of its own files
NAMED = 3  # other files that a note names

Place = tuple[int, int, int, int]  # image, t, c, z


@dataclass(frozen=True, slots=True)
class OwnPlanes:
    """The planes that one file of a set holds.

    Attributes
    ----------
    axes : str
        Of the planes, in front of what a page has: some of P, T, C, Z.
    shape : tuple of int
        As long as `axes`.
    pages : tuple of int
        The page of each plane, in C order over `shape`.
    channels : tuple of str
        Names of the channels that are here.
    pixels : ElementTree.Element or None
        The metadata of the first image that is here; None: there is none.
    notes : tuple of str
    lacks : str
        Path of the file that holds its metadata and is not there; "": none is missing.
    """

    axes: str
    shape: tuple[int, ...]
    pages: tuple[int, ...]
    channels: tuple[str, ...]
    pixels: ElementTree.Element | None
    notes: tuple[str, ...]
    lacks: str = ""


def companion_of(path: Path, xml: str) -> Path | None:
    """Return where the metadata of a file lie that refers to another one; None: it holds its own.

    A name that leads into another folder is cut to its last part: nothing outside the file's own
    folder is opened.
    """
    root = _parsed(xml)
    parts = root.iter() if root is not None else ()
    binary = next((e for e in parts if tag_of(e) == "BinaryOnly"), None)
    if binary is None:
        return None
    return path.with_name(_base_name(binary.get("MetadataFile", "")) or f"{path.name}.missing")


def own_planes(path: Path, xml: str, n_pages: int) -> OwnPlanes | None:
    """Return which planes of a set a file holds; None: it is no part of a set.

    Parameters
    ----------
    path : Path
    xml : str
        The OME-XML in the file.
    n_pages : int
        How many pages it has.
    """
    root = _parsed(xml)
    if root is None:
        return None
    own_id = root.get("UUID", "")
    companion = companion_of(path, xml)
    if companion is not None:
        root = _read_companion(companion)
        if root is None:
            note = f"its metadata lie in {companion.name}, which is not here: axes are not known"
            return replace(_as_pages(n_pages, None, (note,)), lacks=str(companion))
    images = [e for e in root.iter() if tag_of(e) == "Pixels"]
    listed = [entry for index, each in enumerate(images) for entry in entries(index, each)]
    others = {file for file, uuid, *_ in listed if not _is_own(file, uuid, path.name, own_id)}
    if not others and companion is None:
        return None
    places = {
        ifd: place
        for file, uuid, ifd, place in listed
        if _is_own(file, uuid, path.name, own_id) and 0 <= ifd < n_pages
    }
    pixels = images[next(iter(places.values()))[0]] if places else next(iter(images), None)
    note = (
        f"a part of a set of {len(others) + 1} files ({_listed(others)}): read are its own planes"
    )
    if not places:
        return _as_pages(n_pages, pixels, (f"{note}, whose places in the set are not told",))
    return _arranged(places, n_pages, pixels, note)


def pixels_of(xml: str) -> ElementTree.Element | None:
    """Return the first image's `Pixels` in OME-XML; None: there is none, or it is not XML."""
    root = _parsed(xml)
    return (
        next((e for e in root.iter() if tag_of(e) == "Pixels"), None) if root is not None else None
    )


def channel_names(pixels: ElementTree.Element | None) -> list[str]:
    """Return the names of an image's channels, "" where one has none."""
    listed = pixels if pixels is not None else ()
    return [channel.get("Name", "") for channel in listed if tag_of(channel) == "Channel"]


def _arranged(
    places: dict[int, Place], n_pages: int, pixels: ElementTree.Element | None, note: str
) -> OwnPlanes:
    values = [sorted({place[i] for place in places.values()}) for i in range(4)]
    pages = {place: ifd for ifd, place in places.items()}
    grid = [(p, t, c, z) for p, t, c, z in product(*values)]
    if len(places) != n_pages or any(place not in pages for place in grid):
        return _as_pages(n_pages, pixels, (f"{note}, which fill no block of it",))
    names = channel_names(pixels)
    here = values[2]
    kept = [(axis, len(v)) for axis, v in zip("PTCZ", values, strict=True) if len(v) > 1]
    return OwnPlanes(
        "".join(axis for axis, _ in kept),
        tuple(n for _, n in kept),
        tuple(pages[place] for place in grid),
        tuple(names[c] if c < len(names) else "" for c in here),
        pixels,
        (note,),
    )


def _as_pages(
    n_pages: int, pixels: ElementTree.Element | None, notes: tuple[str, ...]
) -> OwnPlanes:
    # Q: an axis without a name, as in a plain stack.
    axes, shape = ("Q", (n_pages,)) if n_pages > 1 else ("", ())
    return OwnPlanes(axes, shape, tuple(range(n_pages)), ("",), pixels, notes)


def entries(index: int, pixels: ElementTree.Element) -> Iterator[tuple[str, str, int, Place]]:
    """Yield file, UUID, page and place of each plane that an image's metadata list."""
    order = [axis for axis in pixels.get("DimensionOrder", "XYCZT") if axis in "CZT"]
    sizes = {axis: _int(pixels.get(f"Size{axis}"), 1) for axis in "CZT"}
    for data in (e for e in pixels if tag_of(e) == "TiffData"):
        uuid = next((e for e in data if tag_of(e) == "UUID"), None)
        file = "" if uuid is None else uuid.get("FileName", "")
        named = "" if uuid is None else (uuid.text or "").strip()
        first = _int(data.get("IFD"), 0)
        count = _int(data.get("PlaneCount"), 1 if "IFD" in data.attrib or uuid is not None else 0)
        count = count or sizes["C"] * sizes["Z"] * sizes["T"]
        at = {axis: _int(data.get(f"First{axis}"), 0) for axis in "CZT"}
        for n in range(min(count, 1_000_000)):
            yield file, named, first + n, (index, at["T"], at["C"], at["Z"])
            for axis in order:
                at[axis] += 1
                if at[axis] < sizes[axis]:
                    break
                at[axis] = 0


def _is_own(file: str, uuid: str, name: str, own_id: str) -> bool:
    # A file that was renamed is known by its UUID, one that has none by its name.
    return (bool(uuid) and uuid == own_id) or not file or _base_name(file) == name


def _read_companion(path: Path) -> ElementTree.Element | None:
    try:
        is_small = path.stat().st_size <= MAX_COMPANION or path.suffix.lower() in TIFF
        if path.is_symlink() or not path.is_file() or not is_small:
            return None
        if path.suffix.lower() in TIFF:
            with tifffile.TiffFile(path, _multifile=False) as file:
                return _parsed(file.ome_metadata or "")
        return _parsed(path.read_text(encoding="utf-8-sig", errors="replace"))
    except (OSError, ValueError, tifffile.TiffFileError):
        return None


def _parsed(xml: str) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(xml.rstrip("\0 \n"))
    except (ElementTree.ParseError, ValueError):
        return None


def _base_name(file: str) -> str:
    return file.replace("\\", "/").rpartition("/")[2]


def _listed(files: set[str]) -> str:
    names = sorted(_base_name(file) or "another" for file in files)
    return ", ".join(names[:NAMED]) + (" and others" if len(names) > NAMED else "")


def _int(text: str | None, default: int) -> int:
    try:
        return int(text) if text is not None else default
    except ValueError:
        return default


def tag_of(element: ElementTree.Element) -> str:
    """Return the name of an element without its namespace."""
    return element.tag.rpartition("}")[2]
