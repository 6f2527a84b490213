"""Folders of images and their masks: `NAME_img.tif` or `NAME.tif` with `NAME_masks.tif|png`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellwatch.core.arrays import Int32
from cellwatch.core.overlaps import RoiMask, flatten_rois, roi_stack
from cellwatch.errors import BadTrainingData, RejectedCorrection, UnreadableImage
from cellwatch.files.stems import stem_of
from cellwatch.images import Image, describe, is_image, load, n_planes
from cellwatch.images.suffixes import JPEGS, ZARRS, suffix_of
from cellwatch.records import ImageInfo
from cellwatch.storage.corrections.formats.instances import refuse_binary

MASKS = "_masks"
CELLPOSE_MASKS = "_cp_masks"
EMPTY = "_empty"  # a label image without ROIs that a person vouches for
OURS = ("_flows", "_seg", "_cp_masks", "_cp_output")
LARGEST_LABEL = 2**31 - 1
PIECES = 4  # of one number, each larger than a speck: a mask that is black and white
SET_PARTS = 3  # of its path, that a set of images is called by where they tell it apart


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its label image on disk.

    Attributes
    ----------
    name : str
        The stem that they share.
    image, masks : Path
    """

    name: str
    image: Path
    masks: Path

    @property
    def is_empty(self) -> bool:
        """Say whether a person confirmed, by the ending `_empty`, that nothing is there."""
        return stem_of(self.masks.name).endswith(EMPTY)


def find_pairs(folder: Path) -> list[Pair]:
    """List the pairs of a folder, by name.

    Raises
    ------
    BadTrainingData
        When there is no folder or no pair in it, or images have no masks; all are named.
    """
    if not folder.is_dir():
        raise BadTrainingData(f"there is no folder {folder}")
    masks = mask_files(folder)
    images = _by_stem(p for p in _files(folder) if not _is_masks(p) and not _is_ours(p))
    lacking = [path.name for stem, path in images.items() if stem not in masks]
    if lacking:
        listed = ", ".join(lacking[:5]) + (", …" if len(lacking) > 5 else "")
        others = [p for p in sorted(folder.iterdir()) if p.stem.endswith((CELLPOSE_MASKS, "_seg"))]
        hint = f" ({others[0].name} is treated as a prediction until it is)" if others else ""
        raise BadTrainingData(
            f"{folder}: {len(lacking)} image{'s have' if len(lacking) > 1 else ' has'} no masks: "
            f"{listed}; masks are named NAME_masks.tif or NAME_masks.png{hint}"
        )
    if not images:
        below = next((f"; is {p} meant?" for p in sorted(folder.iterdir()) if p.is_dir()), "")
        raise BadTrainingData(f"{folder} holds no image with a NAME_masks.tif beside it{below}")
    return [Pair(stem, path, masks[stem]) for stem, path in sorted(images.items())]


def set_names(folders: Sequence[Path]) -> dict[Path, str]:
    """Return what the sets of images in folders are called: the ends of their paths, told apart.

    Raises
    ------
    BadTrainingData
        When a folder is named twice.

    Examples
    --------
    >>> list(set_names([Path("/a/x/cells/train"), Path("/b/x/cells/train")]).values())
    ['a/x/cells/train', 'b/x/cells/train']
    """
    parts = {folder: folder.absolute().parts for folder in folders}
    if len(set(parts.values())) < len(folders):
        twice = Counter(folders).most_common(1)[0][0]
        raise BadTrainingData(f"{twice} is named twice; its images would be used twice")
    for length in range(SET_PARTS, max(map(len, parts.values()), default=0) + 1):
        names = {folder: "/".join(each[-length:]) for folder, each in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return {folder: str(folder.absolute()) for folder in folders}


def mask_files(folder: Path) -> dict[str, Path]:
    """Return the label images of a folder by the stem of the image they belong to."""
    found = _by_stem(p for p in _files(folder) if _is_masks(p))
    by_image: dict[str, Path] = {}
    for stem, path in found.items():
        image = stem.removesuffix(MASKS).removesuffix(EMPTY)
        if image in by_image:
            raise BadTrainingData(f"{by_image[image]} and {path} are masks of one image, '{image}'")
        by_image[image] = path
    return by_image


def label_files(folder: Path) -> dict[str, Path]:
    """Return the label images of a folder, there being some, by the stem of their image.

    Raises
    ------
    BadTrainingData
        When there is no folder, or no label image in it.
    """
    if folder.is_file():
        raise BadTrainingData(f"{folder} is a file; name the folders that hold the label images")
    if not folder.is_dir():
        raise BadTrainingData(f"there is no folder {folder}")
    found = mask_files(folder)
    cellpose = _by_stem(p for p in _files(folder) if stem_of(p.name).endswith(CELLPOSE_MASKS))
    for stem, path in cellpose.items():
        found.setdefault(stem.removesuffix(CELLPOSE_MASKS), path)
    if not found:
        raise BadTrainingData(
            f"{folder} holds no label image named NAME_masks.tif or .png (or NAME_cp_masks)"
        )
    return found


def load_pair(pair: Pair) -> tuple[Image, Int32]:
    """Read an image of one plane and its label image.

    Raises
    ------
    BadTrainingData
        When they cannot be read or do not fit each other.
    """
    try:
        image = load(pair.image)
    except UnreadableImage as error:
        raise BadTrainingData(str(error)) from error
    if n_planes(image) != 1:
        raise BadTrainingData(f"{pair.image} has {n_planes(image)} planes; give one file per plane")
    labels = read_label_file(pair.masks)
    if pair.is_empty and labels.any():
        raise BadTrainingData(f"{pair.masks} says by its name that nothing is there, but has ROIs")
    expected = image.pixels.shape[-2:]
    if labels.shape != expected:
        raise BadTrainingData(
            f"{pair.masks} has shape {labels.shape}, its image has {tuple(expected)}; save masks "
            "at the size of their image"
        )
    return image, labels


def read_label_file(path: Path) -> Int32:
    """Read a label image of one plane.

    Raises
    ------
    BadTrainingData
        When it is not a label image: of several planes or channels, of floats, negative.
    """
    try:
        pixels = load(path, is_labels=True).pixels
    except UnreadableImage as error:
        raise BadTrainingData(str(error)) from error
    if int(np.prod(pixels.shape[:4])) != 1:
        raise BadTrainingData(f"{path} has shape {np.squeeze(pixels).shape}: no plain label image")
    labels = pixels.reshape(pixels.shape[-2:])
    if labels.dtype.kind == "f":
        raise BadTrainingData(
            f"{path} holds floats ({labels.dtype}); save a label image as 16-bit or 32-bit integers"
        )
    if labels.dtype.kind == "b":
        raise BadTrainingData(f"{path} is black and white; give every ROI a number of its own")
    if labels.size and (labels.min() < 0 or labels.max() > LARGEST_LABEL):
        raise BadTrainingData(
            f"{path} has labels from {labels.min()} to {labels.max()}; give the background 0 and "
            "each ROI a number from 1 on"
        )
    if labels.max(initial=0) > labels.size:  # few ROIs with huge numbers
        _, numbers = np.unique(np.append(labels.ravel(), 0), return_inverse=True)
        labels = numbers[:-1].reshape(labels.shape)
    numbered: Int32 = labels.astype(np.int32)
    if (numbered[numbered > 0] == numbered.max(initial=0)).all():  # one number alone
        try:
            refuse_binary((numbered > 0).astype(np.int32), PIECES)
        except RejectedCorrection as error:
            raise BadTrainingData(f"{path}: {error}") from error
    return numbered


def read_any_labels(path: Path) -> Int32:
    """Read a label image, or a stack with a plane for each of its ROIs, which may overlap.

    Raises
    ------
    BadTrainingData
        When it is neither.
    """
    if _n_planes(path) == 1:
        return read_label_file(path)
    rois, shape = read_roi_stack(path)
    return flatten_rois(rois, shape).labels


def read_roi_stack(path: Path) -> tuple[list[RoiMask], tuple[int, int]]:
    """Read a stack with a plane for each ROI, and the shape of its planes.

    Raises
    ------
    BadTrainingData
        When a plane holds several ROIs.
    """
    try:
        pixels = load(path, is_labels=True).pixels
    except UnreadableImage as error:
        raise BadTrainingData(str(error)) from error
    stack = pixels.reshape(-1, *pixels.shape[-2:])
    several = (i for i, plane in enumerate(stack) if len(np.unique(plane[plane != 0])) > 1)
    mixed = next(several, None)
    if mixed is not None:
        raise BadTrainingData(
            f"{path} has {len(stack)} planes, and plane {mixed} holds several ROIs; a stack of "
            "overlapping ROIs has one in each plane, a label image has one plane"
        )
    return roi_stack(stack), (stack.shape[1], stack.shape[2])


def _n_planes(path: Path) -> int:
    try:
        info = describe(path)
    except UnreadableImage as error:
        raise BadTrainingData(str(error)) from error
    return int(np.prod(info.shape)) // max(1, _area(info))


def _area(info: ImageInfo) -> int:
    return int(np.prod([n for axis, n in zip(info.axes, info.shape, strict=True) if axis in "YX"]))


def _files(folder: Path) -> Iterator[Path]:
    # JPEGs are as a rule previews, and folders no images to train on.
    return (
        p
        for p in sorted(folder.iterdir())
        if is_image(p) and suffix_of(p.name) not in (*JPEGS, *ZARRS) and not p.name.startswith(".")
    )


def _by_stem(paths: Iterator[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        stem = stem_of(path.name)
        if stem in found:
            raise BadTrainingData(f"{found[stem]} and {path} share the name '{stem}'")
        found[stem] = path
    return found


def _is_masks(path: Path) -> bool:
    return stem_of(path.name).endswith((MASKS, EMPTY)) and not _is_ours(path)


def _is_ours(path: Path) -> bool:
    return stem_of(path.name).endswith(OURS)
