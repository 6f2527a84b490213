"""Labelled images ready to train on: normalised planes with their flows and diameters."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cellwatch.core.arrays import Float32, Int32
from cellwatch.core.diameter import median_diameter, roi_areas
from cellwatch.core.flows import flows_of
from cellwatch.errors import BadTrainingData

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
        Of the median ROI, at least `MIN_DIAMETER`; 0 for an image without ROIs.
    n_rois : int
    """

    name: str
    plane: Float32
    labels: Int32
    flows: Float32
    diameter: float
    n_rois: int


def training_image(name: str, normalised: Float32, labels: Int32) -> TrainingImage:
    """Compute the flows and the diameter of one image."""
    diameter = median_diameter(labels)
    return TrainingImage(
        name=name,
        plane=np.ascontiguousarray(normalised, np.float32),
        labels=labels,
        flows=flows_of(labels),
        diameter=max(MIN_DIAMETER, diameter) if diameter else 0.0,
        n_rois=len(roi_areas(labels)),
    )


def enough_rois(
    images: Iterable[TrainingImage], min_rois: int
) -> tuple[list[TrainingImage], list[TrainingImage]]:
    """Part the images with at least `min_rois` ROIs from those with fewer.

    Raises
    ------
    BadTrainingData
        When none has enough.
    """
    kept: list[TrainingImage] = []
    left_out: list[TrainingImage] = []
    for image in images:
        (kept if image.n_rois >= min_rois else left_out).append(image)
    if not kept:
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
