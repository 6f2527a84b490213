"""Kept corrections become images to train on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cellwatch.core.image import normalise
from cellwatch.core.labels import relabel
from cellwatch.errors import BadTrainingData
from cellwatch.records import TrainingItem, TrainJob
from cellwatch.storage.corrections.kept import KeptCorrection, read_kept
from cellwatch.training.dataset import TrainingImage, training_image

CORRECTIONS, REPLAY = "corrections", "replay"  # clusters: a balanced plan draws both alike


def images_of(items: Sequence[TrainingItem], channels: int) -> dict[int, TrainingImage]:
    """Return the images of corrections, by the correction's id.

    Raises
    ------
    BadTrainingData
        When none of them has an ROI.
    """
    images = {
        item.correction_id: lesson(item.name, read_kept(Path(item.folder)), channels)
        for item in items
    }
    if not any(image.n_rois for image in images.values()):
        raise BadTrainingData("no correction holds an ROI; there is nothing to learn from")
    return images


def lesson(name: str, kept: KeptCorrection, channels: int) -> TrainingImage:
    """Return one correction as an image to train on.

    A crop is scaled by the percentiles of its whole plane, as it is when it is segmented.
    """
    limits = [(float(low), float(high)) for low, high in kept.limits][:channels]
    plane = normalise(kept.plane[:channels], limits)
    labels = np.ascontiguousarray(kept.labels, np.int32)
    if kept.checked is not None:
        labels = relabel(labels)
    return training_image(
        name,
        plane,
        labels,
        cluster=CORRECTIONS,
        is_confirmed_empty=kept.is_empty,
        checked=kept.checked,
    )


def replayed(job: TrainJob) -> list[TrainingImage]:
    """Return the images that are shown again so that the base is not forgotten."""
    from cellwatch.daemon.learning import read_images

    return [
        replace(image, plane=image.plane[: job.channels], cluster=REPLAY)
        for folder in job.base_data
        for image in read_images(Path(folder), Path(folder).name)
    ]
