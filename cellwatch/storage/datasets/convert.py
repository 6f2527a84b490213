"""Make folders of images and masks from other data, as the paper prepared its own.

References
----------
Pachitariu & Stringer 2022, Methods "LiveCell dataset" (overlaps), "Training" (subsets of ¼, ½, 1,
2, 4 … images) and Results (quarters of TissueNet's images).
"""

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile

from cellwatch.core.arrays import Int32
from cellwatch.core.overlaps import Flattened, flatten_rois
from cellwatch.errors import BadTrainingData
from cellwatch.files.stems import masks_name, stem_of
from cellwatch.images import Image, load
from cellwatch.storage.datasets.coco import read_coco
from cellwatch.storage.datasets.pairs import (
    EMPTY,
    MASKS,
    Pair,
    find_pairs,
    load_pair,
    read_roi_stack,
)
from cellwatch.storage.masks.label_tiff import LARGEST_UINT16

SUBSETS = "subsets.csv"


@dataclass(frozen=True, slots=True)
class MadePair:
    """One pair that was made, and what became of its ROIs.

    Attributes
    ----------
    name : str
    rois : int
        In the label image.
    removed : int
        Mostly overlapping others.
    lost : int
        Without a pixel of their own.
    overlapping_pixels : int
    crowds : int
        Regions of many objects together, which a COCO file marks; left out.
    """

    name: str
    rois: int
    removed: int = 0
    lost: int = 0
    overlapping_pixels: int = 0
    crowds: int = 0


def pairs_from_coco(annotations: Path, images: Path, out: Path) -> list[MadePair]:
    """Write a pair for every image of a COCO file, overlaps resolved.

    Raises
    ------
    BadTrainingData
        When an image is not there or has another shape; nothing is written then.
    """
    listed = read_coco(annotations)
    found = []
    for image in listed:
        path = images / image.file_name
        path = path if path.is_file() else images / Path(image.file_name).name
        if not path.is_file():
            raise BadTrainingData(
                f"{annotations} names {image.file_name}, which is not in {images}"
            )
        shape = load(path).pixels.shape[-2:]
        if shape != image.shape:
            raise BadTrainingData(f"{path} has shape {shape}, {annotations} says {image.shape}")
        found.append(path)
    made = _refuse_clashes(found, out)
    for image, path in zip(listed, found, strict=True):
        flat = flatten_rois(image.rois, image.shape)
        made.append(replace(_written(path, flat, out), crowds=image.crowds))
    return made


def pairs_from_stacks(folder: Path, out: Path) -> list[MadePair]:
    """Write a pair for every image whose masks are a stack with a plane for each ROI.

    Raises
    ------
    BadTrainingData
        When a stack is none, or has another shape than its image; nothing is written then.
    """
    stacks = []
    for pair in find_pairs(folder):
        shape = load(pair.image).pixels.shape[-2:]
        rois, stack_shape = read_roi_stack(pair.masks)
        if stack_shape != shape:
            raise BadTrainingData(f"{pair.masks} has shape {stack_shape}, its image has {shape}")
        stacks.append((pair.image, flatten_rois(rois, stack_shape)))
    made = _refuse_clashes([path for path, _ in stacks], out)
    return made + [_written(path, flat, out) for path, flat in stacks]


def quarters(folder: Path, out: Path) -> list[MadePair]:
    """Write each pair of a folder as four, NAME_q0 … NAME_q3 in reading order."""
    made: list[MadePair] = []
    for pair in find_pairs(folder):
        image, labels = load_pair(pair)
        for number, window in enumerate(_quarters(labels.shape)):
            made.append(_cut(pair, image, labels, window, f"{pair.name}_q{number}", out))
    return made


def subsets(
    folder: Path, out: Path, sizes: Sequence[float], n_seeds: int
) -> list[tuple[float, int, int]]:
    """Write random subsets of a folder, each a folder `SIZE_images_SEED`, and list them in a table.

    A size below 1 is that part of one image: a random half or quarter that holds an ROI. Subsets
    of one seed are nested: a larger one holds the images of the smaller.

    Returns
    -------
    list of (size, seed, ROIs)
    """
    pairs = find_pairs(folder)
    if out.exists() and any(out.iterdir()):
        raise BadTrainingData(f"{out} is not empty; a subset must not mix with another")
    if too_large := [size for size in sizes if size > len(pairs) or size <= 0]:
        raise BadTrainingData(
            f"{folder} has {len(pairs)} images, so there is no subset of {too_large[0]:g}"
        )
    if odd := [size for size in sizes if size not in (0.25, 0.5) and size != int(size)]:
        raise BadTrainingData(f"a subset of {odd[0]:g} images is neither ¼, ½ nor whole images")
    made = []
    for seed in range(n_seeds):
        order = np.random.default_rng(seed).permutation(len(pairs))
        for size in sizes:
            place = out / f"{size:g}_images_{seed}"
            chosen = [pairs[i] for i in order[: max(1, int(size))]]
            rois = _part(chosen[0], size, place, seed) if size < 1 else _copied(chosen, place)
            made.append((size, seed, rois))
    with (out / SUBSETS).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["images", "seed", "rois"])
        writer.writerows(made)
    return made


Window = tuple[slice, slice]


def _quarters(shape: tuple[int, ...]) -> list[Window]:
    rows, columns = shape[0] // 2, shape[1] // 2
    return [
        (slice(top, bottom), slice(left, right))
        for top, bottom in ((0, rows), (rows, shape[0]))
        for left, right in ((0, columns), (columns, shape[1]))
    ]


def _halves(rows: int, columns: int) -> list[Window]:
    # Across the longer side.
    if rows >= columns:
        cuts = [slice(0, rows // 2), slice(rows // 2, rows)]
        return [(cut, slice(0, columns)) for cut in cuts]
    cuts = [slice(0, columns // 2), slice(columns // 2, columns)]
    return [(slice(0, rows), cut) for cut in cuts]


def _part(pair: Pair, size: float, place: Path, seed: int) -> int:
    image, labels = load_pair(pair)
    rows, columns = labels.shape
    windows = _quarters(labels.shape) if size == 0.25 else _halves(rows, columns)
    held = [window for window in windows if labels[window].any()]
    if not held:
        raise BadTrainingData(f"{pair.masks} has no ROI, so no part of it has one")
    window = held[int(np.random.default_rng([seed, int(size * 4)]).integers(len(held)))]
    return _cut(pair, image, labels, window, f"{pair.name}_part", place).rois


def _copied(pairs: Sequence[Pair], place: Path) -> int:
    place.mkdir(parents=True, exist_ok=True)
    rois = 0
    for pair in pairs:
        _, labels = load_pair(pair)
        shutil.copyfile(pair.image, place / pair.image.name)
        shutil.copyfile(pair.masks, place / pair.masks.name)
        rois += len(np.unique(labels[labels > 0]))
    return rois


def _cut(pair: Pair, image: Image, labels: Int32, window: Window, name: str, out: Path) -> MadePair:
    out.mkdir(parents=True, exist_ok=True)
    part = labels[window]
    numbers = np.unique(part[part > 0])
    renumbered = np.zeros(part.shape, np.int32)
    renumbered[part > 0] = np.searchsorted(numbers, part[part > 0]) + 1
    pixels = image.pixels[0, 0, 0][(slice(None), *window)]  # (C, y, x)
    path = out / f"{name}_img.tif"
    if path.exists():
        raise BadTrainingData(f"{path} exists; write into an empty folder")
    write_plane(path, pixels, image)
    write_masks(out / f"{name}{EMPTY if pair.is_empty else MASKS}.tif", renumbered)
    return MadePair(name, len(numbers))


def write_plane(path: Path, pixels: np.ndarray, like: Image) -> None:
    """Write one plane as OME-TIFF, with the channel names and the pixel size of another image.

    Parameters
    ----------
    path : Path
    pixels : (C, Y, X), the dtype of the image
    like : Image
    """
    if like.is_rgb:
        tifffile.imwrite(path, np.moveaxis(pixels, 0, -1), photometric="rgb", compression="zlib")
        return
    metadata: dict[str, object] = {"axes": "CYX"}
    if any(like.info.channels):
        metadata["Channel"] = {"Name": list(like.info.channels)}
    if like.info.pixel_size_um:
        metadata |= {
            "PhysicalSizeX": like.info.pixel_size_um,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": like.info.pixel_size_um,
            "PhysicalSizeYUnit": "µm",
        }
    tifffile.imwrite(
        path,
        pixels,
        ome=True,
        photometric="minisblack",
        compression="zlib",
        metadata=metadata,
    )


def _refuse_clashes(images: Sequence[Path], out: Path) -> list[MadePair]:
    taken: dict[str, Path] = {}
    for path in images:
        stem = stem_of(path.name)
        if stem in taken:
            raise BadTrainingData(f"{taken[stem]} and {path} would both become {stem} in {out}")
        taken[stem] = path
        if (out / path.name).exists():
            raise BadTrainingData(f"{out / path.name} exists; write into an empty folder")
    out.mkdir(parents=True, exist_ok=True)
    return []


def _written(image: Path, flat: Flattened, out: Path) -> MadePair:
    shutil.copyfile(image, out / image.name)
    write_masks(out / masks_name(image.name), flat.labels)
    return MadePair(
        name=stem_of(image.name),
        rois=int(flat.labels.max(initial=0)),
        removed=len(flat.removed),
        lost=len(flat.lost),
        overlapping_pixels=flat.overlapping_pixels,
    )


def write_masks(path: Path, labels: Int32) -> None:
    """Write a label image as a TIFF of 16 bits, or of 32 where it has more ROIs than fit."""
    dtype = np.uint16 if labels.max(initial=0) <= LARGEST_UINT16 else np.uint32
    tifffile.imwrite(path, labels.astype(dtype), photometric="minisblack", compression="zlib")
