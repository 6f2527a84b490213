"""The stem rule: what images and their masks are matched by.

A name loses its extension (`.ome` too) and `_img`; its masks add `_masks`.
"""

import unicodedata
from pathlib import Path, PurePosixPath


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
    stem = stem_of(PurePosixPath(path).name)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", stem).casefold())


def masks_name(name: str, target: str = "") -> str:
    """Return the name of the label image of an image.

    Examples
    --------
    >>> masks_name("a.tif"), masks_name("a_img.tif", "nuclei")
    ('a_masks.tif', 'a__nuclei_masks.tif')
    """
    return f"{stem_of(name)}{f'__{target}' if target else ''}_masks.tif"
