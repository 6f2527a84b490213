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

    One is not among them where weightier ones speak of its every pixel.

    Raises
    ------
    BadTrainingData
        When none of them has an ROI where it counts.
    """
    images = {
        item.correction_id: lesson(item.name, kept, channels)
        for item in items
        if is_speaking(kept := kept_of(item, items))
    }
    if not any(image.n_rois for image in images.values()):
        raise BadTrainingData("no correction holds an ROI; there is nothing to learn from")
    return images


def kept_of(item: TrainingItem, items: Sequence[TrainingItem]) -> KeptCorrection:
    """Return the arrays of a correction, checked only where no weightier one of its plane speaks.

    A crop and its whole plane may say different things of one cell. A cell of which less than half
    is left counts no more: what remains of it has no shape to be learned or found.
    """
    kept = read_kept(Path(item.folder))
    for other in weightier(item, items):
        kept = replace(kept, checked=_left_by(other, item, kept))
    return kept


def weightier(item: TrainingItem, items: Sequence[TrainingItem]) -> list[TrainingItem]:
    """Return the corrections that count where they share pixels with another one."""
    return [
        other
        for other in items[items.index(item) + 1 :]
        if item.plane_key
        and other.plane_key == item.plane_key
        and (item.crop is None or other.crop is None or not item.crop.is_apart_from(other.crop))
    ]


def is_speaking(kept: KeptCorrection) -> bool:
    """Say whether a correction says anything of some pixel."""
    return kept.checked is None or bool(kept.checked.any())


def _left_by(other: TrainingItem, item: TrainingItem, kept: KeptCorrection) -> Bool:
    theirs, ours = _checked(read_kept(Path(other.folder))), _checked(kept)
    there = other.crop or Crop(0, 0, *theirs.shape)
    here = item.crop or Crop(0, 0, *ours.shape)
    said = np.zeros([max(there.window[n].stop, here.window[n].stop) for n in (0, 1)], np.bool_)
    said[there.window] = theirs
    left = ours & ~said[here.window]
    areas, areas_left = (
        np.bincount(kept.labels[part], minlength=int(kept.labels.max(initial=0)) + 1)
        for part in (ours, left)
    )
    is_lost = 2 * areas_left < areas
    is_lost[0] = False
    return left & ~is_lost[kept.labels]


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
