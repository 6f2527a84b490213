"""Score models on folders of images and masks, and label images of any tool against the truth."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cellwatch.compute.acquisition import segment_acquisition
from cellwatch.compute.models import Chooser, Model, channels_for
from cellwatch.core.diameter import median_diameter
from cellwatch.core.matching import IOU_STEPS, IOU_THRESHOLDS
from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.errors import BadTrainingData
from cellwatch.files.digests import file_sha256
from cellwatch.images import Image
from cellwatch.records import ChannelChoice, ModelCard
from cellwatch.storage.datasets.pairs import (
    Pair,
    find_pairs,
    label_files,
    load_pair,
    read_any_labels,
    set_names,
)
from cellwatch.training.evaluate import ImageScore, score_image, summarise


@dataclass(frozen=True, slots=True)
class ScoredImage:
    """One image's score and the model that found its ROIs.

    Attributes
    ----------
    score : ImageScore
    model_id : str
    diameter : float, px
    """

    score: ImageScore
    model_id: str
    diameter: float


def evaluate_folder(
    folder: Path,
    model: Model | Chooser,
    params: SegmentationParams,
    choice: ChannelChoice,
    *,
    is_true_diameter: bool,
    on_image: Callable[[], None] = lambda: None,
) -> list[ScoredImage]:
    """Segment every image of a folder of pairs and score it against its masks.

    Parameters
    ----------
    folder : Path
    model : Model or Chooser
    params : SegmentationParams
    choice : ChannelChoice
    is_true_diameter : bool
        Whether each image is segmented with the diameter of its own true ROIs.
    on_image : callable
        Called after each image.
    """
    scored = []
    for pair in find_pairs(folder):
        scored.append(_scored(pair, model, params, choice, is_true_diameter=is_true_diameter))
        on_image()
    return scored


def scores_on(
    folders: Sequence[Path], model: Model, choice: ChannelChoice
) -> dict[str, Any]:  # Any: JSON
    """Score a model on test folders at the true and at its own diameter, for its card."""
    found: dict[str, Any] = {}
    for folder, name in set_names(folders).items():
        params = SegmentationParams(diameter=Diameter("model"))
        for rule, is_true in (("truth", True), ("model", False)):
            scored = evaluate_folder(folder, model, params, choice, is_true_diameter=is_true)
            summary = summarise([one.score for one in scored])
            ap = {f"{t:g}": round(summary.average_precision[t], 4) for t in IOU_THRESHOLDS}
            found.setdefault(name, {"images": summary.images})[rule] = ap
    return found


def folder_digest(folder: Path) -> str:
    """Return a sha256 over the names and contents of a folder's pairs."""
    digest = hashlib.sha256()
    for pair in find_pairs(folder):
        for path in (pair.image, pair.masks):
            digest.update(path.name.encode())
            digest.update(file_sha256(path).encode())
    return digest.hexdigest()


def check_tests(data: Sequence[Path], tests: Sequence[Path], choice: ChannelChoice) -> None:
    """See that test folders can be scored on, before hours of training.

    Raises
    ------
    BadTrainingData
        When a pair cannot be read, or an image is among the training images too.
    ChannelError
        When an image lacks the channels.
    """
    set_names(data)
    set_names(tests)
    if not tests:
        return
    trained = {_pixels_sha256(load_pair(p)[0]): p.image for f in data for p in find_pairs(f)}
    for pair in (pair for folder in tests for pair in find_pairs(folder)):
        image, _ = load_pair(pair)
        channels_for(image, ModelCard("", "", 0.0, 0.0, channels=("cell", "nucleus")), choice)
        is_blank = image.pixels.min() == image.pixels.max()  # one blank field is like another
        if not is_blank and (same := trained.get(_pixels_sha256(image))):
            raise BadTrainingData(
                f"{pair.image} is to be scored on, and {same} to be trained on: the same image"
            )


def _pixels_sha256(image: Image) -> str:
    # Of the pixels: the same image may come in another format, or compressed otherwise.
    digest = hashlib.sha256(f"{image.pixels.shape} {image.pixels.dtype}".encode())
    digest.update(np.ascontiguousarray(image.pixels).tobytes())
    return digest.hexdigest()


def compare_folders(predicted: Path, truth: Path) -> list[ImageScore]:
    """Score the label images of one folder against those of another, matched by name.

    What the truth lacks is left out; `without_truth` names it.

    Stacks of overlapping ROIs are brought to one label image first.

    Raises
    ------
    BadTrainingData
        When label images are missing or do not fit.
    """
    wanted, given = label_files(truth), label_files(predicted)
    if lacking := sorted(set(wanted) - set(given)):
        raise BadTrainingData(f"{predicted} has no label image for {', '.join(lacking[:5])}")
    scores = []
    for stem, path in sorted(wanted.items()):
        true_labels, labels = read_any_labels(path), read_any_labels(given[stem])
        if true_labels.shape != labels.shape:
            raise BadTrainingData(
                f"{given[stem]} has shape {labels.shape}, {path} has {true_labels.shape}"
            )
        scores.append(score_image(stem, true_labels, labels, IOU_STEPS))
    return scores


def without_truth(predicted: Path, truth: Path) -> list[str]:
    """Return the stems that `compare_folders` leaves out: the truth has no label image for them."""
    return sorted(set(label_files(predicted)) - set(label_files(truth)))


def _scored(
    pair: Pair,
    model: Model | Chooser,
    params: SegmentationParams,
    choice: ChannelChoice,
    *,
    is_true_diameter: bool,
) -> ScoredImage:
    image, labels = load_pair(pair)
    true_diameter = median_diameter(labels)
    if is_true_diameter and true_diameter:
        params = replace(params, diameter=Diameter("fixed", true_diameter))
    plane = replace(image, pixels=image.pixels[:1, :1, :1])
    found = segment_acquisition(plane, model, params, choice)  # as a station does
    score = score_image(pair.name, labels, found.labels[0, 0, 0], IOU_STEPS)
    return ScoredImage(score, found.result.model_id, found.result.diameter)
