"""The stem rule: what images and their masks are matched by.

A name loses its extension (`.ome` too) and `_img`; its masks add `_masks`.
"""

import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar


class HasPath(Protocol):
    """Something that has a path and a stem, such as an acquisition."""

    @property
    def path(self) -> str:
        """Return the path, as `path_text` writes it."""

    @property
    def stem(self) -> str | None:
        """Return the stem, as `stem_key` gives it."""


Row = TypeVar("Row", bound=HasPath)


def stem_of(name: str) -> str:
    """Return what images and their masks are matched by.

    Examples
    --------
    >>> stem_of("a_img.ome.tif"), stem_of("b.v2.tif")
    ('a', 'b.v2')
    """
    stem = Path(name).stem if Path(name).suffix else name
    if stem.lower().endswith(".ome"):
        stem = stem[:-4]
    return stem.removesuffix("_img")


def stem_key(path: str) -> str:
    """Return what names are looked up by: the stem, whatever its case or its form of Unicode.

    Examples
    --------
    >>> stem_key("day1/A_img.tif")
    'a'
    """
    return name_key(stem_of(PurePosixPath(path).name))


def name_key(name: str) -> str:
    """Return what names of people and folders are compared by, whatever their case or Unicode form.

    Examples
    --------
    >>> name_key("Anna") == name_key("anna"), name_key("Zu\u0308rich") == name_key("Z\u00fcrich")
    (True, True)
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def meant_by(name: str, rows: Sequence[Row]) -> list[Row]:
    """Return which images a person means by a path, the end of one, a file name or a stem.

    The most exact meaning is used; a stem may contain dots.

    Parameters
    ----------
    name : str
        As `path_text` writes it.
    rows : sequence
        Candidates with their `path` and `stem`.

    Examples
    --------
    >>> from types import SimpleNamespace as Image
    >>> rows = [Image(path="/w/a.tif", stem="a"), Image(path="/w/d/a.png", stem="a")]
    >>> [[row.path for row in meant_by(name, rows)] for name in ("a.png", "a")]
    [['/w/d/a.png'], ['/w/a.tif', '/w/d/a.png']]
    """
    text, whole, cut = name.casefold(), stem_key(f"{name}.x"), stem_key(name)
    meanings: tuple[Callable[[Row], bool], ...] = (
        lambda row: row.path == name,
        lambda row: row.path.casefold().endswith(f"/{text}"),
        lambda row: row.stem == whole and "/" not in name,
        lambda row: row.stem == cut and "/" not in name,
    )
    for is_meant in meanings:
        if found := [row for row in rows if is_meant(row)]:
            return found
    return []


def masks_name(name: str, target: str = "") -> str:
    """Return the name of the label image of an image.

    Examples
    --------
    >>> masks_name("a.tif"), masks_name("a_img.tif", "nuclei")
    ('a_masks.tif', 'a__nuclei_masks.tif')
    """
    return f"{stem_of(name)}{f'__{target}' if target else ''}_masks.tif"
