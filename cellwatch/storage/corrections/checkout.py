"""Take images out to be corrected: image and labels in a tool's own format, rightly named."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cellwatch.core.arrays import Float64, Int32
from cellwatch.core.labels import labels_digest, relabel
from cellwatch.errors import RequestRefused, UnreadableImage
from cellwatch.files.members import image_name
from cellwatch.files.stems import stem_of
from cellwatch.images import n_planes, open_image, plane_digest
from cellwatch.images.identity import content_sha256
from cellwatch.records import Crop, ListedAcquisition, PlaneIndex
from cellwatch.storage.corrections.export import ENDINGS, write_image, write_labels, write_tiff
from cellwatch.storage.corrections.names import CorrectionName, correction_name
from cellwatch.storage.ledger.path_text import text_path
from cellwatch.storage.masks.store import read_plane

HOW = {
    "napari": """\
Open both files in napari: the image {image} and the labels {labels}
(Layer > Convert to labels, if napari opened them as an image).
Fix them with the brush (2), the fill bucket (4) and the eraser (1); M takes a new number.
Then select the labels layer and File > Save Selected Layer(s), under the same name.""",
    "cellpose": """\
Open the image {image} in Cellpose's GUI; it loads {labels} by itself.
Right-click draws an ROI, Ctrl+click deletes one. Ctrl+S saves, under the same name.""",
    "fiji": """\
Open the image {image} in Fiji, then drag {labels} onto it: the ROI Manager opens.
Draw with the polygon or freehand tool and press T; delete wrong ones in the manager.
Then in the manager More > Save..., under the same name.""",
    "qupath": """\
Open the image {image} in QuPath, then drag {labels} onto it.
Draw with the brush, the wand or the polygon; delete wrong ones.
Then File > Export objects as GeoJSON, all objects, under the same name.""",
}
RULES = """
Draw every cell that you want to be found{found}: what is left unlabelled is
learned as background. If you have time for a part alone, mark the part that you checked in
{region} (1 inside, 0 outside); nothing outside of it is used.
If nothing at all is there, save an empty label image as {empty}.

To return it: copy {labels}
into {corrections}
Keep ~{short_id} in its name: it tells which image, and which part of it, this is.
Within seconds an answer lies beside it: .accepted.json, or .rejected.txt with what to mend.
"""
BEFORE = """\
The labels here are the network's, not those. To continue from what was done, open that file
instead, if it still lies in {corrections},
and save it under its own name."""
AGAIN = """
This is a second look at an image that was corrected before, turned by 180° and under another
name. Its labels are blank: please draw every cell again, without looking back. It is not
trained on; it measures how well anybody could agree with you.
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be taken out.

    Attributes
    ----------
    row : ListedAcquisition
    target, axes : str
    tool : str
    short_id : str
        Of this checkout: it stands in the names of its files, and no other has it.
    plane : PlaneIndex
    crop : int, px
        Side of the part to take; 0: the whole plane.
    is_again : bool
        Whether it is a second look: mirrored, under a neutral name, without labels.
    part : Crop or None
        Just this part, whatever `crop` says: a second look is of what was looked at first.
    before : tuple of str
        The files in which this plane was corrected before, each with its number of ROIs.
    """

    row: ListedAcquisition
    target: str
    axes: str
    tool: str
    short_id: str
    plane: PlaneIndex = field(default_factory=PlaneIndex)
    crop: int = 0
    is_again: bool = False
    part: Crop | None = None
    before: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Given:
    """Labels to hand out that are not those of the mask store: a session's network made them.

    Attributes
    ----------
    labels : (Y, X) int32
    keep : Path
        The folder that remembers them, so that a correction is compared with what was given.
    """

    labels: Int32
    keep: Path


def _unchanged(row: ListedAcquisition) -> Path:
    path, made_of = Path(text_path(row.path)), row.content_sha256
    try:
        is_changed = made_of and content_sha256(path) != made_of
    except UnreadableImage as error:
        raise RequestRefused(str(error)) from error
    if is_changed:
        raise RequestRefused(
            f"{row.path} was changed after its masks were made; take it out once it is segmented "
            "again (cellwatch status)"
        )
    return path


def take_out(
    wanted: Wanted, to: Path, corrections: Path, given: Given | None = None
) -> dict[str, Any]:
    """Write a folder with image, labels and a note; return what the ledger keeps of it.

    Parameters
    ----------
    wanted : Wanted
    to : Path
        The folder in which the new one is made.
    corrections : Path
        Where the corrected file goes back to.
    given : Given or None
        What to hand out instead of the labels in the mask store.

    Raises
    ------
    RequestRefused
        When the plane or the folder is not there, or something is in the way.
    """
    row = wanted.row
    plane_at = (wanted.plane.position, wanted.plane.t, wanted.plane.z)
    with open_image(_unchanged(row), wanted.axes) as image:
        if any(i >= n for i, n in zip(plane_at, image.shape[:3], strict=True)):
            raise RequestRefused(f"{row.path} has no plane {plane_at}")
        pixels = image.plane(*plane_at)
    digest = plane_digest(pixels)
    labels = given.labels if given else read_plane(Path(row.store or ""), wanted.target, plane_at)
    crop = wanted.part
    if crop is None and wanted.crop:
        crop = crop_around(labels, wanted.crop)
    if crop is not None:
        pixels, labels = pixels[(slice(None), *crop.window)], labels[crop.window]
    labels = relabel(np.ascontiguousarray(labels, np.int32))
    has_planes = n_planes(image) > 1
    target = wanted.target if row.n_targets > 1 else ""
    plane = wanted.plane if has_planes else None
    said = CorrectionName(stem_of(image_name(text_path(row.relative_path))), plane, target, crop)
    if wanted.is_again:
        said = CorrectionName("again")
        pixels, labels = pixels[:, ::-1, ::-1], np.zeros_like(labels)
    name = correction_name(said, "", wanted.short_id)
    folder = _new_folder(to / name)
    picture, masks = folder / f"{name}.tif", folder / f"{name}{ENDINGS[wanted.tool]}"
    write_image(picture, np.ascontiguousarray(pixels), is_rgb=image.is_rgb)
    write_labels(masks, labels, wanted.tool, picture)
    note = _note(wanted, name, picture, masks, corrections, is_blank=not labels.any())
    (folder / "README.txt").write_text(note, encoding="utf-8")
    return {
        "handed_out": _remembered(given.keep, name, labels) if given else None,
        "acquisition_id": row.id,
        "target": wanted.target,
        "name": name,
        "stem": correction_name(said, ""),
        "short_id": wanted.short_id,
        **asdict(wanted.plane),
        "crop": json.dumps(asdict(crop)) if crop else None,
        "is_mirrored": int(wanted.is_again),
        "format": wanted.tool,
        "folder": str(folder),
        "plane_sha256": digest,
        # Blank ones of a second look are nobody's.
        "labels_sha256": labels_digest(labels) if labels.any() else None,
    }


def _new_folder(folder: Path) -> Path:
    if folder.exists():
        raise RequestRefused(f"{folder} exists; move it away, or take out to another --to")
    folder.mkdir(parents=True)
    return folder


def _remembered(keep: Path, name: str, labels: Int32) -> str:
    keep.mkdir(parents=True, exist_ok=True)
    path = keep / f"{name}.tif"
    write_tiff(path, labels)
    return str(path)


def crop_around(labels: Int32, side: int) -> Crop | None:
    """Return the square part in which most ROIs have their centre; None: the plane is not larger.

    Examples
    --------
    >>> crop_around(np.eye(8, dtype=np.int32), 16) is None
    True
    """
    height, width = (min(side, n) for n in labels.shape)
    if (height, width) == labels.shape:
        return None
    best, most = Crop(0, 0, height, width), -1
    step = max(1, side // 4)
    centres = _centres(labels)
    starts = np.array(_starts(labels.shape[1], width, step))
    for y in _starts(labels.shape[0], height, step):
        within = (centres[:, 0] >= y) & (centres[:, 0] < y + height)
        columns = np.sort(centres[within, 1])
        counts = np.searchsorted(columns, starts + width) - np.searchsorted(columns, starts)
        if counts.max() > most:
            best, most = Crop(y, int(starts[counts.argmax()]), height, width), int(counts.max())
    return best


def _centres(labels: Int32) -> Float64:
    # Mean row and column of each ROI, (n, 2).
    rows, columns = np.nonzero(labels)
    _, which, sizes = np.unique(labels[rows, columns], return_inverse=True, return_counts=True)
    sums = [np.bincount(which, weights=at, minlength=len(sizes)) for at in (rows, columns)]
    return np.stack(sums, axis=1) / sizes[:, None]


def _starts(length: int, side: int, step: int) -> list[int]:
    return sorted({*range(0, length - side, step), length - side})


def _note(
    wanted: Wanted, name: str, picture: Path, masks: Path, corrections: Path, *, is_blank: bool
) -> str:
    named = {
        "found": "" if is_blank else ", also those it found",
        "image": picture.name,
        "labels": masks.name,
        "region": f"{name}_region.tif",
        "empty": f"{name}_empty.tif",
        "corrections": corrections,
        "short_id": wanted.short_id,
    }
    title = f"{name}: {wanted.target} of {wanted.row.path}" if not wanted.is_again else name
    if wanted.row.flagged_why and not wanted.is_again:
        title += f"\nFlagged: {wanted.row.flagged_why}"
    if wanted.before:
        title += f"\nCorrected before: {', '.join(wanted.before)}.\n{BEFORE.format(**named)}"
    how = HOW[wanted.tool].format(**named)
    if is_blank and not masks.exists():
        how = f"(There are no ROIs yet, and so no {masks.name}: saving makes it.)\n{how}"
    text = f"{title}\n\n{how}\n{RULES.format(**named)}"
    return text + (AGAIN if wanted.is_again else "")
