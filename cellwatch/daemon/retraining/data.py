"""Kept corrections become images to train on."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cellwatch.core.arrays import Bool
from cellwatch.core.image import normalise
from cellwatch.core.labels import relabel
from cellwatch.errors import BadTrainingData, TrainingError
from cellwatch.images import open_image, pixels_digest, planes_of
from cellwatch.records import Crop, Side, TrainingItem, TrainJob
from cellwatch.storage.corrections.kept import KeptCorrection, read_kept
from cellwatch.storage.datasets.pairs import find_pairs
from cellwatch.training.dataset import TrainingImage, training_image

CORRECTIONS, REPLAY = "corrections", "replay"  # clusters: a balanced plan draws both alike


def images_of(items: Sequence[TrainingItem], channels: int) -> dict[int, TrainingImage]:
    """Return the images of corrections, by the correction's id.

    A correction that is completely covered by others is left out.

    Raises
    ------
    BadTrainingData
        When none of them has an ROI in the part that is used.
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
    is left is not used: what remains of it has no shape to be learned or found.
    """
    kept = read_kept(Path(item.folder))
    for other in weightier(item, items):
        kept = replace(kept, checked=_left_by(other, item, kept))
    return kept


def weightier(item: TrainingItem, items: Sequence[TrainingItem]) -> list[TrainingItem]:
    """Return the corrections that are used where they share pixels with another one."""
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


def without_damaged(job: TrainJob) -> tuple[TrainJob, dict[str, str]]:
    """Return a job without the corrections whose kept arrays are damaged; by their id, why.

    One file that a disk has spoilt is no reason to learn nothing from the others.

    Raises
    ------
    TrainingError
        When it is the disk that cannot be read.
    """
    whole, damaged = [], {}
    for item in job.items:
        try:
            read_kept(Path(item.folder))
        except BadTrainingData as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
                raise TrainingError(f"{error}; see to the disk, then: retrain --now") from error
            damaged[str(item.correction_id)] = str(error)
        else:
            whole.append(item)
    if not whole:
        raise TrainingError(
            f"none of the stored corrections can be read: {next(iter(damaged.values()))}"
        )
    return replace(job, items=tuple(whole)), damaged


@dataclass(frozen=True, slots=True)
class Replayed:
    """An image that is shown again so that the base is not forgotten.

    Attributes
    ----------
    lesson : TrainingImage
    content : str
        Content key of the correction that has just these pixels, or of whose part these are all;
        "": there is none.
    """

    lesson: TrainingImage
    content: str


def replayed(job: TrainJob) -> list[Replayed]:
    """Return the images that are shown again, each with the correction that it is a copy of.

    What is replayed may be an export of the corrections, or the station's own images: a network
    that judges by one of them must not have seen it here.
    """
    from cellwatch.workflows.train import read_images

    known = _known_pixels(job.items) if job.base_data else {}
    found = []
    for folder in map(Path, job.base_data):
        lessons = read_images(folder, folder.name)
        for pair, image in zip(find_pairs(folder), lessons, strict=True):
            lesson = replace(image, plane=image.plane[: job.channels], cluster=REPLAY)
            found.append(Replayed(lesson, _content_of(pair.image, known)))
    return found


def held_out_of(job: TrainJob) -> set[str]:
    """Return the content keys that no network of a run may be trained on."""
    return {item.content_key for item in job.items if item.side == Side.HELD_OUT}


def _known_pixels(items: Sequence[TrainingItem]) -> dict[str, str]:
    # Content keys by digest: of the first channel of what was corrected, and of whole acquisitions.
    parts = {
        _plane_digest(read_kept(Path(item.folder)).plane[0]): item.content_key for item in items
    }
    return parts | {item.content_key: item.content_key for item in items}


def _content_of(path: Path, known: Mapping[str, str]) -> str:
    with open_image(path) as image:
        if content := known.get(pixels_digest(image)):
            return content
        for channels in planes_of(image):
            for plane in channels:
                if content := known.get(_plane_digest(plane)):
                    return content
    return ""


def _plane_digest(plane: np.ndarray) -> str:
    exact = np.ascontiguousarray(plane, np.float32)
    return hashlib.sha256(str(exact.shape).encode() + exact.tobytes()).hexdigest()
