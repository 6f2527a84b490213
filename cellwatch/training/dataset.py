"""Labelled images ready to train on: normalised planes with their flows and diameters."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellwatch.core.arrays import Bool, Float32, Int32
from cellwatch.core.diameter import median_diameter, roi_areas
from cellwatch.core.flows import flows_of
from cellwatch.errors import BadTrainingData

FLOWS_VERSION = 1  # raised when `flows_of` would give other flows
MIN_DIAMETER = 5.0  # px; smaller medians are taken for this (Cellpose, train_seg)


@dataclass(frozen=True, slots=True)
class TrainingImage:
    """A labelled image with what training needs of it.

    Attributes
    ----------
    plane : (C, Y, X) float32
        Normalised.
    labels : (Y, X) int32
    flows : (2, Y, X) float32
    diameter : float, px
        Of the median ROI that was checked, at least `MIN_DIAMETER`; 0 where there is none.
    n_rois : int
        Where it was checked.
    cluster : str
        The kind of image it is; a balanced plan draws each kind with the same probability.
    is_confirmed_empty : bool
        Whether a person said that nothing is there: then it trains as background.
    checked : (Y, X) bool, or None
        The part that a person vouches for; nothing outside is used. None: all of it.
    """

    name: str
    plane: Float32
    labels: Int32
    flows: Float32
    diameter: float
    n_rois: int
    cluster: str = ""
    is_confirmed_empty: bool = False
    checked: Bool | None = None


def training_image(
    name: str,
    normalised: Float32,
    labels: Int32,
    *,
    cluster: str = "",
    is_confirmed_empty: bool = False,
    flow_cache: Path | None = None,
    checked: Bool | None = None,
) -> TrainingImage:
    """Compute the flows and the diameter of one image.

    Parameters
    ----------
    name : str
    normalised : (C, Y, X) float32
    labels : (Y, X) int32
    cluster : str
    is_confirmed_empty : bool
    flow_cache : Path or None
        A folder that keeps flows by the content of the label image; None: they are not kept.
    checked : (Y, X) bool, or None
    """
    counted = labels if checked is None else np.where(checked, labels, np.int32(0))
    diameter = median_diameter(counted)
    return TrainingImage(
        name=name,
        plane=np.ascontiguousarray(normalised, np.float32),
        labels=labels,
        flows=cached_flows(labels, flow_cache) if flow_cache else flows_of(labels),
        diameter=max(MIN_DIAMETER, diameter) if diameter else 0.0,
        n_rois=len(roi_areas(counted)),
        cluster=cluster,
        is_confirmed_empty=is_confirmed_empty,
        checked=checked,
    )


def cached_flows(labels: Int32, folder: Path) -> Float32:
    """Return the flows of a label image, computed once for each content.

    Parameters
    ----------
    labels : (Y, X) int32
    folder : Path
        Made when it is not there; a file in it that cannot be read is made again.

    Returns
    -------
    (2, Y, X) float32, equal to `flows_of(labels)`.
    """
    shape = "x".join(str(n) for n in labels.shape)
    digest = hashlib.sha256(labels.tobytes()).hexdigest()
    path = folder / f"{digest[:32]}_{shape}_v{FLOWS_VERSION}.npy"
    try:
        flows = np.load(path, allow_pickle=False)
        if flows.shape == (2, *labels.shape) and flows.dtype == np.float32:
            return np.asarray(flows, np.float32)
    except (OSError, ValueError, EOFError):
        pass  # not there, or cut short
    flows = flows_of(labels)
    folder.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")  # what is lost is computed again
    with aside.open("wb") as file:
        np.save(file, flows)
    aside.replace(path)
    return flows


def enough_rois(
    images: Iterable[TrainingImage], min_rois: int
) -> tuple[list[TrainingImage], list[TrainingImage]]:
    """Part the images with at least `min_rois` ROIs from those with fewer.

    An image that a person confirmed to be empty is kept where `min_rois` is 1 or less.

    Raises
    ------
    BadTrainingData
        When none has enough.
    """
    kept: list[TrainingImage] = []
    left_out: list[TrainingImage] = []
    for image in images:
        is_background = image.is_confirmed_empty and min_rois <= 1
        is_kept = image.n_rois >= min_rois or is_background
        (kept if is_kept else left_out).append(image)
    if not any(image.n_rois for image in kept):
        raise BadTrainingData(
            f"none of the {len(left_out)} images has {min_rois} ROIs or more; "
            "annotate more ROIs or lower the minimum"
        )
    return kept, left_out


def mean_diameter(images: Sequence[TrainingImage]) -> float:
    """Return the mean of the images' diameters, in px, over the images that have ROIs."""
    diameters = [image.diameter for image in images if image.diameter > 0]
    if not diameters:
        raise BadTrainingData("no image has an ROI, so there is no diameter to train for")
    return float(np.mean(diameters))
