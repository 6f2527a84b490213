"""Where the masks of an image lie: `<watch>/<path with its extension>.zarr`, or a safe likeness.

Those of a plate's fields lie within the plate, as OME-Zarr has it.
"""

import re
import unicodedata
from pathlib import Path, PurePosixPath

from cellwatch.files.stems import masks_name, stem_of
from cellwatch.storage.masks.plates import place_in_plate

SUPERSEDED = ".superseded"  # the folder below the output for stores that were replaced
MAX_NAME_BYTES = 200  # of a path below the output folder; the rest is left to temporary names
RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
ILLEGAL = re.compile(r'[<>:"|?*\\\x00-\x1f\x7f\ud800-\udfff]')


def store_path(watch: str, relative: str, content: str, *, is_free: bool) -> str:
    """Return where the masks of an image lie, below the output folder.

    Parameters
    ----------
    watch : str
    relative : str
        Path of the image below its watched folder.
    content : str
        Hex digits that name the content; eight of them tell apart names that would collide.
    is_free : bool
        Whether no other image's masks lie at the plain place.

    Examples
    --------
    >>> store_path("scope", "day1/a.tif", "0123456789", is_free=True)
    'scope/day1/a.tif.zarr'
    >>> store_path("scope", "p1/9987.HTD/B02/3", "0123456789", is_free=True)
    'scope/p1/9987.HTD.zarr/B/02/3'
    """
    inside = place_in_plate(relative)
    plain = f"{watch}/{inside or relative}"
    is_legal = not ILLEGAL.search(plain) and not any(
        RESERVED.match(part) or part != part.rstrip(". ") for part in plain.split("/")
    )
    if is_legal and is_free and len(plain.encode(errors="surrogateescape")) <= MAX_NAME_BYTES:
        return plain if inside else f"{plain}.zarr"
    path = PurePosixPath(unicodedata.normalize("NFC", ILLEGAL.sub("_", relative)))
    stem = path.stem.encode(errors="replace")[:80].decode(errors="ignore").rstrip(". ")
    suffix = path.suffix[:10]
    folder = "/".join(_legal(part) for part in path.parent.parts) or "."
    is_short = len(f"{watch}/{folder}/{stem}".encode()) <= MAX_NAME_BYTES - 20
    kept = f"{folder}/" if is_short and folder != "." else ""
    return f"{watch}/{kept}{stem}~{content[:8]}{suffix}.zarr"


def _legal(part: str) -> str:
    # Of a folder: as Windows takes it. Names that become equal keep apart by the image's content.
    if RESERVED.match(part):
        return f"_{part.rstrip('. ')}"
    kept = part.rstrip(". ")
    return f"{kept}_" if kept != part else part


def label_tiffs_of(store: Path) -> list[Path]:
    """Return the label TIFFs that lie beside a mask store, by the names of its targets."""
    labels = store / "labels"
    targets = [part.name for part in labels.iterdir()] if labels.is_dir() else []
    name = store.name.removesuffix(".zarr")
    places = [store.with_name(masks_name(name, target)) for target in ("", *targets)]
    return [place for place in places if place.exists()]


def place_key(store: str) -> str:
    """Return what two mask stores have in common when they, or the TIFFs beside them, collide.

    Examples
    --------
    >>> place_key("/out/A.tif.zarr") == place_key("/out/a.png.zarr")
    True
    """
    folder, _, name = store.rpartition("/")
    plain = f"{folder}/{stem_of(name.removesuffix('.zarr'))}"
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", plain).casefold())
