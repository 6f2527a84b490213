"""Read the ROIs of a COCO annotation file: polygons, and run lengths plain or packed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellwatch.core.overlaps import RoiMask, roi_stack
from cellwatch.core.polygons import fill
from cellwatch.errors import BadTrainingData


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """What an annotation file says of one image.

    Attributes
    ----------
    file_name : str
        As the file has it; may hold folders.
    shape : (int, int), px
        Y and X.
    rois : tuple of RoiMask
    crowds : int
        Regions that hold many objects together (`iscrowd`); they are no ROIs.
    """

    file_name: str
    shape: tuple[int, int]
    rois: tuple[RoiMask, ...]
    crowds: int = 0


def read_coco(path: Path) -> list[AnnotatedImage]:
    """Read every image of a COCO file with its ROIs, in the order of the images.

    Raises
    ------
    BadTrainingData
        When the file is not a COCO file, or an annotation cannot be a region of its image.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        images = {image["id"]: image for image in data["images"]}
        shapes = {key: _shape(image) for key, image in images.items()}
        names = {key: str(image["file_name"]) for key, image in images.items()}
        listed = data["annotations"]
        # LIVECell keeps its annotations in a mapping, all others in a list.
        annotations = list(listed.values()) if isinstance(listed, dict) else listed
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        why = str(error.strerror) if isinstance(error, OSError) else why
        raise BadTrainingData(f"{path} is not a COCO annotation file: {why}") from error
    regions: dict[Any, list[RoiMask]] = {key: [] for key in images}  # Any: ids are theirs
    crowds = dict.fromkeys(images, 0)
    for annotation in annotations:
        key = annotation.get("image_id")
        if key not in images:
            raise BadTrainingData(f"{path}: an annotation names image {key!r}, which is not listed")
        if annotation.get("iscrowd"):
            crowds[key] += 1
        else:
            regions[key].append(_region(annotation, shapes[key], path))
    return [
        AnnotatedImage(names[key], shapes[key], tuple(regions[key]), crowds[key]) for key in images
    ]


def polygon_mask(polygons: Sequence[Sequence[float]], shape: tuple[int, int]) -> RoiMask:
    """Fill polygons: a pixel belongs to them when its centre does, by the even-odd rule.

    Parameters
    ----------
    polygons : sequence of sequence of float
        Each x0, y0, x1, y1, …; the pixel in the corner reaches from 0 to 1. Several are the parts
        of one ROI, which holds what any of them holds.
    shape : (int, int), px

    Returns
    -------
    RoiMask
        Cut at the image's border.
    """
    filled = np.zeros(shape, np.bool_)
    for flat in polygons:
        part = fill([np.asarray(flat, np.float64).reshape(-1, 2)], shape)
        height, width = part.pixels.shape
        filled[part.top : part.top + height, part.left : part.left + width] |= part.pixels
    return roi_stack(filled[None])[0]


def run_length_mask(counts: Sequence[int] | str, shape: tuple[int, int]) -> RoiMask:
    """Expand run lengths: background first, down the columns.

    Raises
    ------
    ValueError
        When they do not add up to the image.
    """
    runs = _unpacked(counts) if isinstance(counts, str) else [int(n) for n in counts]
    if sum(runs) != shape[0] * shape[1] or min(runs, default=0) < 0:
        raise ValueError(f"run lengths add up to {sum(runs)} px, the image has {shape}")
    values = np.arange(len(runs)) % 2 == 1
    return roi_stack(np.repeat(values, runs).reshape(shape[1], shape[0]).T[None])[0]


def _shape(image: dict[str, Any]) -> tuple[int, int]:  # Any: JSON
    return int(image["height"]), int(image["width"])


def _region(annotation: dict[str, Any], shape: tuple[int, int], path: Path) -> RoiMask:
    region = annotation.get("segmentation")
    try:
        if isinstance(region, dict):
            return run_length_mask(region["counts"], _same_size(region["size"], shape))
        return polygon_mask(_polygons(region), shape)
    except (ValueError, KeyError, TypeError) as error:
        raise BadTrainingData(
            f"{path}: annotation {annotation.get('id')} is not a region: {error}"
        ) from error


def _same_size(size: Sequence[int], shape: tuple[int, int]) -> tuple[int, int]:
    if tuple(size) != shape:
        raise ValueError(f"of size {list(size)} in an image of {list(shape)}")
    return shape


def _polygons(region: Any) -> Sequence[Sequence[float]]:  # Any: JSON
    if not region or any(len(polygon) < 6 or len(polygon) % 2 for polygon in region):
        raise ValueError("a polygon has at least three points, x and y of each")
    return [[float(value) for value in polygon] for polygon in region]


def _unpacked(text: str) -> list[int]:
    # COCO's packing: six bits a character from '0' on, the fifth says that more follow, the sign
    # is extended; from the third run on each is the difference to the one two before.
    runs: list[int] = []
    position = 0
    while position < len(text):
        value = shift = 0
        more = True
        while more:
            if position >= len(text):
                raise ValueError("packed run lengths end in the midst of a number")
            bits = ord(text[position]) - 48
            if not 0 <= bits < 64:
                raise ValueError(f"packed run lengths hold {text[position]!r}")
            value |= (bits & 0x1F) << shift
            more = bool(bits & 0x20)
            position += 1
            shift += 5
            if not more and bits & 0x10:
                value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
