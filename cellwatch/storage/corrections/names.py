"""What the name of a dropped file says: whose correction it is, and of which part.

STEM[__pNNN_tNNN_zNN][__TARGET][__yNxNhNwN][~ID][.ANNOTATOR]ENDING.SUFFIX

What was taken out has the short id of its checkout in its name, which alone says what it is of.
"""

import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches

from cellwatch.files.stems import stem_of
from cellwatch.records import CorrectionKind, Crop, PlaneIndex

ENDINGS = ("_cp_masks", "_masks", "_seg", "_labels", "_rois", "_roiset", "-roiset", "roiset")
REGION = "_region"
EMPTY = "_empty"
SUFFIXES = (".tif", ".tiff", ".png", ".npy", ".zip", ".roi", ".geojson", ".json", ".zarr")
PICTURES = (".jpg", ".jpeg", ".gif", ".bmp")  # people save masks as these; none keeps all numbers
DESKTOP_FILES = (".ds_store", "thumbs.db", "desktop.ini")
ENDING_NEEDED = (".tif", ".tiff", ".png", ".npy", ".zarr", ".json")  # else it could be anything

TABLE = """\
  a~k7f3_masks.tif               what was taken out (cellwatch checkout), under its own name
  a_masks.tif                    label image (TIFF; PNG of 8 or 16 bits) for the image a.tif
  a_cp_masks.png, a_seg.npy      what Cellpose saves
  a_rois.zip, aRoiSet.zip, a.roi what Fiji saves
  a.geojson, a_rois.geojson      what QuPath exports
  a_labels.zarr                  an OME-Zarr label image
  a_empty.tif                    a label image without ROIs, vouched for
  a_region.tif, a_region.roi     the part that was checked; nothing outside is used
  a__p000_t012_z05_masks.tif     plane: position, time point, z, from 0 (any of the three)
  a__nuclei_masks.tif            target, where an image has several
  a__y1024x2048h512w512_masks.tif  crop: first row, first column, height, width
  a.anna_masks.tif               annotator (or a sub-folder of corrections/)"""

# Neither vowels, so that no word comes about, nor what is taken for something else: 0 O, 1 l I.
_ID_LETTERS = "23456789bcdfghjkmnpqrstvwxz"
_ID_LENGTH = 4

_SHORT_ID = re.compile(r"~([0-9a-z]{4})(?![0-9a-z])", re.IGNORECASE)
_CROP = re.compile(r"__y(\d{1,6})x(\d{1,6})h(\d{1,6})w(\d{1,6})$")
_PLANE = re.compile(r"__(?=[ptz]\d)(?:p(\d{1,6}))?_?(?:t(\d{1,6}))?_?(?:z(\d{1,6}))?$")
_TARGET = re.compile(r"__((?!_)(?:(?!__)[\w-])+)$")
_ANNOTATOR = re.compile(r"\.([^\W\d][\w-]{0,63})$")


@dataclass(frozen=True, slots=True)
class CorrectionName:
    """One way to read the name of a dropped file.

    Attributes
    ----------
    stem : str
        Of the acquisition.
    plane : PlaneIndex or None
        None: the name says none.
    target, annotator : str
        "": the name says none.
    crop : Crop or None
    """

    stem: str
    plane: PlaneIndex | None = None
    target: str = ""
    crop: Crop | None = None
    annotator: str = ""


@dataclass(frozen=True, slots=True)
class DroppedName:
    """What a file name holds.

    Attributes
    ----------
    readings : tuple of CorrectionName
        Those that take the longest stem first: an image may be called `cells__nuclei`.
    kind : CorrectionKind
        Labels or a region
    is_empty : bool
        Whether it says that nothing is there.
    short_id, annotator : str
        What may be the id of a checkout, and who is named at the end; "": the name holds none.
    without_id : tuple of CorrectionName
        Of the name as it is without the id.
    """

    readings: tuple[CorrectionName, ...]
    kind: CorrectionKind
    is_empty: bool
    short_id: str = ""
    annotator: str = ""
    without_id: tuple[CorrectionName, ...] = ()


def new_short_id(taken: Collection[str]) -> str:
    """Return a short id for a checkout that none of `taken` has.

    Examples
    --------
    >>> len(new_short_id({"k7f3"}))
    4
    """
    while True:
        found = "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
        if found not in taken and not found.isdigit():  # scan~2345.tif is some image's own name
            return found


def is_hidden_companion(entry: str) -> bool:
    """Say whether a name within a zip or a folder is one that a desktop put there by itself.

    Examples
    --------
    >>> is_hidden_companion("__MACOSX/._a.roi"), is_hidden_companion("RoiSet/a.roi")
    (True, False)
    """
    parts = entry.replace("\\", "/").split("/")
    last = parts[-1].lower()
    return "__MACOSX" in parts or last.startswith("._") or last in DESKTOP_FILES


def read_name(name: str) -> DroppedName | None:
    """Read the name of a dropped file; None: it has no ending that says what it is.

    Examples
    --------
    >>> read_name("a__nuclei__y0x8h16w16.anna_masks.tif").readings[-1]
    ... # doctest: +NORMALIZE_WHITESPACE
    CorrectionName(stem='a', plane=None, target='nuclei',
                   crop=Crop(y=0, x=8, height=16, width=16), annotator='anna')
    """
    bare, dot, suffix = name.rpartition(".")
    suffix = f"{dot}{suffix}".lower()
    if suffix not in SUFFIXES:
        return None
    core, kind, is_empty, has_ending = _without_ending(_without_image_suffix(bare))
    if not core or (not has_ending and suffix in ENDING_NEEDED):
        return None
    # Cellpose's GUI and Fiji may keep the image's own name: a_img_seg.npy.
    core = _without_image_suffix(core)
    readings = tuple(_readings(core))
    *_, match = (None, *_SHORT_ID.finditer(core))
    if match is None or not match.start():
        return DroppedName(readings, kind, is_empty)
    without = core[: match.start()] + core[match.end() :]
    annotator = _ANNOTATOR.search(core)
    return DroppedName(
        readings,
        kind,
        is_empty,
        match[1].lower(),
        annotator[1] if annotator else "",
        tuple(_readings(without)),
    )


def has_short_id(name: str) -> bool:
    """Say whether a name ends as that of an image which was taken out does.

    Examples
    --------
    >>> has_short_id("a~k7f3.tif"), has_short_id("a~k7f3_mask.tif"), has_short_id("a.tif")
    (True, False, False)
    """
    match = _SHORT_ID.search(name.rpartition(".")[0])
    return match is not None and match.end() == len(match.string)


def meant_ending(name: str) -> str:
    """Return the ending that a misspelt one was probably meant to be; "": none comes near.

    Examples
    --------
    >>> meant_ending("a_mask.tif"), meant_ending("a_regoin.tif"), meant_ending("a.tif")
    ('_masks', '_region', '')
    """
    core, _, last = name.rpartition(".")[0].lower().rpartition("_")
    near = get_close_matches(f"_{last}", [*ENDINGS, REGION, EMPTY], 1) if core else []
    return near[0] if near else ""


def correction_name(name: CorrectionName, ending: str, short_id: str = "") -> str:
    """Write a name that `read_name` reads; `ending` with its suffix, as in `_masks.tif`."""
    text = name.stem
    if name.plane is not None:
        text += f"__p{name.plane.position:03d}_t{name.plane.t:03d}_z{name.plane.z:02d}"
    if name.target:
        text += f"__{name.target}"
    if name.crop is not None:
        crop = name.crop
        text += f"__y{crop.y}x{crop.x}h{crop.height}w{crop.width}"
    if short_id:
        text += f"~{short_id}"
    if name.annotator:
        text += f".{name.annotator}"
    return text + ending


def _without_ending(bare: str) -> tuple[str, CorrectionKind, bool, bool]:
    lowered = bare.lower()
    for ending, kind, is_empty in (
        (REGION, CorrectionKind.REGION, False),
        (EMPTY, CorrectionKind.LABELS, True),
        *((ending, CorrectionKind.LABELS, False) for ending in ENDINGS),
    ):
        if lowered.endswith(ending):
            return bare[: -len(ending)], kind, is_empty, True
    return bare, CorrectionKind.LABELS, False, False


def _without_image_suffix(text: str) -> str:
    # "a.tif" of a.tif.geojson; a dot that is no known suffix belongs to the name.
    lowered = text.lower()
    for suffix in (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".png"):
        if lowered.endswith(suffix):
            return stem_of(text)
    return text.removesuffix("_img")


def _readings(core: str) -> list[CorrectionName]:
    found = [CorrectionName(core)]
    rest, parts = core, {}
    for key, pattern in (
        ("annotator", _ANNOTATOR),
        ("crop", _CROP),
        ("target", _TARGET),
        ("plane", _PLANE),
    ):
        match = pattern.search(rest)
        if match is None or not rest[: match.start()]:
            continue
        if key == "target" and (_PLANE.search(rest) or _CROP.search(rest)):
            continue
        rest = rest[: match.start()].removesuffix("_img")
        parts[key] = match.groups()
        found.append(_reading(rest, parts))
    return found


def _reading(stem: str, parts: dict[str, tuple[str | None, ...]]) -> CorrectionName:
    plane = parts.get("plane")
    crop = parts.get("crop")
    return CorrectionName(
        stem=stem,
        plane=PlaneIndex(*(int(number or 0) for number in plane)) if plane else None,
        target=(parts.get("target") or ("",))[0] or "",
        crop=Crop(*(int(number or 0) for number in crop)) if crop else None,
        annotator=(parts.get("annotator") or ("",))[0] or "",
    )
