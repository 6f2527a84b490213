"""Kept corrections become images to train on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cellwatch.core.arrays import Bool
from cellwatch.core.image import normalise
from cellwatch.core.labels import relabel
from cellwatch.errors import BadTrainingData
from cellwatch.records import Crop, TrainingItem, TrainJob
from cellwatch.storage.corrections.kept import KeptCorrection, read_kept
from cellwatch.training.dataset import TrainingImage, training_image

CORRECTIONS, REPLAY = "corrections", "replay"  # clusters: a balanced plan draws both alike


def images_of(items: Sequence[TrainingItem], channels: int) -> dict[int, TrainingImage]:
    """Return the images of corrections, by the correction's id.

    One whose every pixel a later correction speaks of is not among them.

    Raises
    ------
    BadTrainingData
        When none of them has an ROI.
    """
    images = {
        item.correction_id: lesson(item.name, kept, channels)
        for item in items
        if speaks(kept := kept_of(item, items))
    }
    if not any(image.n_rois for image in images.values()):
        raise BadTrainingData("no correction holds an ROI; there is nothing to learn from")
    return images


def kept_of(item: TrainingItem, items: Sequence[TrainingItem]) -> KeptCorrection:
    """Return the arrays of a correction, checked only where no later one of its plane speaks.

    A crop and its whole plane may say different things of one cell; what was said last counts.
    """
    kept = read_kept(Path(item.folder))
    for later in items[items.index(item) + 1 :]:
        if item.plane and later.plane == item.plane:
            kept = replace(kept, checked=_left_by(later, item, kept))
    return kept


def speaks(kept: KeptCorrection) -> bool:
    """Say whether a correction says anything of some pixel."""
    return kept.checked is None or bool(kept.checked.any())


def _left_by(later: TrainingItem, item: TrainingItem, kept: KeptCorrection) -> Bool | None:
    theirs, ours = _checked(read_kept(Path(later.folder))), _checked(kept)
    there = later.crop or Crop(0, 0, *theirs.shape)
    here = item.crop or Crop(0, 0, *ours.shape)
    plane = np.zeros([max(there.window[n].stop, here.window[n].stop) for n in (0, 1)], np.bool_)
    plane[there.window] = theirs
    both = ours & plane[here.window]
    return ours & ~both if both.any() else kept.checked


def _checked(kept: KeptCorrection) -> Bool:
    return np.ones(kept.labels.shape, np.bool_) if kept.checked is None else kept.checked


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
