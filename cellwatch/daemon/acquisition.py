"""Segment every plane of an image: what a worker does to an acquisition and `segment` to a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cellwatch.core.arrays import Float32, Float64, Int32
from cellwatch.core.channels import Channel, take_channels
from cellwatch.core.confidence import roi_confidences
from cellwatch.core.image import percentiles
from cellwatch.core.labels import stitch_planes
from cellwatch.core.parameters import ALGORITHM_VERSION, SegmentationParams
from cellwatch.core.segment import segment
from cellwatch.core.styles import novelty_of
from cellwatch.daemon.choosing import Chooser, Model, channels_for
from cellwatch.records import ChannelChoice, TargetResult
from cellwatch.storage.images import Image
from cellwatch.storage.maskstore import count_rois


@dataclass(frozen=True, slots=True)
class SegmentedTarget:
    """One target of an acquisition.

    Attributes
    ----------
    labels : (P, T, Z, Y, X) int32
    result : TargetResult
    provenance : mapping
        JSON: what made the label image.
    """

    labels: Int32
    result: TargetResult
    provenance: Mapping[str, Any]  # Any: JSON


def segment_acquisition(
    image: Image,
    model: Model | Chooser,
    params: SegmentationParams,
    choice: ChannelChoice,
    *,
    target: str = "cells",
    pixel_size_um: float | None = None,
    on_plane: Callable[[], None] = lambda: None,
) -> SegmentedTarget:
    """Segment all planes of an image with one model, named or chosen by the image's style.

    Parameters
    ----------
    image : Image
    model : Model or Chooser
    params : SegmentationParams
    choice : ChannelChoice
    target : str
    pixel_size_um : float or None
        What a person declared; None: what the file says.
    on_plane : callable
        Called after each plane.

    Raises
    ------
    ChannelError
        When the choice does not fit the image.
    CalibrationError
        When a parameter is in µm and the pixel size is missing or nonsensical.
    """
    pixel_size = pixel_size_um if pixel_size_um is not None else image.info.pixel_size_um
    why = None
    if isinstance(model, Chooser):
        diameter = params.diameter.in_px(pixel_size)
        model, why = model.choose(image, choice, diameter, params.batch_size)
    chosen, notes = channels_for(image, model.card, choice)
    labels, planes = _segment_planes(image, model, params, chosen, pixel_size, on_plane)
    for index, plane in enumerate(planes):
        where = f"plane {index}: " if len(planes) > 1 else ""
        notes += [where + note for note in plane.notes]
    result = TargetResult(
        name=target,
        rois=count_rois(labels),
        diameter=round(float(np.median([plane.diameter for plane in planes])), 3),
        channels=tuple({"index": channel.index, "name": channel.name} for channel in chosen),
        notes=tuple(notes),
        model_id=model.card.id,
        model_sha256=model.card.sha256,
        novelty=_novelty(model, [plane.style for plane in planes]),
        choice=why,
        confidence=_confidence([plane.confidences for plane in planes]),
    )
    provenance = {
        "model": {"id": model.card.id, "sha256": model.card.sha256},
        "params": params.to_json(),
        "channels": list(result.channels),
        "pixel_size_um": pixel_size,
        "diameters_px": [round(plane.diameter, 3) for plane in planes],
        "novelty": result.novelty,
        "confidence": result.confidence,
        "choice": asdict(why) if why else None,
        "algorithm_version": ALGORITHM_VERSION,
        "notes": notes,
    }
    return SegmentedTarget(labels, result, provenance)


@dataclass(frozen=True, slots=True)
class _PlaneFacts:
    """What is kept of a plane's segmentation beside its labels."""

    diameter: float
    style: Float32
    notes: tuple[str, ...]
    confidences: Float64  # of its ROIs


def _segment_planes(
    image: Image,
    model: Model,
    params: SegmentationParams,
    chosen: Sequence[Channel],
    pixel_size_um: float | None,
    on_plane: Callable[[], None],
) -> tuple[Int32, list[_PlaneFacts]]:
    pixels = image.pixels.reshape(-1, *image.pixels.shape[3:])  # (P * T * Z, C, Y, X)
    limits = None
    if params.normalisation.over == "acquisition":
        whole = np.stack([take_channels(plane, chosen) for plane in pixels], axis=1)
        limits = percentiles(whole, params.normalisation)
    labels = np.zeros((len(pixels), *image.pixels.shape[-2:]), np.int32)
    planes = []
    for index, plane in enumerate(pixels):
        found = segment(
            take_channels(plane, chosen),
            model.network,
            params,
            pixel_size_um=pixel_size_um,
            limits=limits,
            size_model=model.styles.size,
        )
        labels[index] = found.labels
        confidences = roi_confidences(found.labels, found.cellprob)
        planes.append(_PlaneFacts(found.diameter, found.style, found.notes, confidences))
        on_plane()
    shape = (*image.pixels.shape[:3], *image.pixels.shape[-2:])
    return _stitched(labels.reshape(shape), params.stitch_threshold), planes


def _confidence(each: Sequence[Float64]) -> float | None:
    all_rois = np.concatenate(each)
    return round(float(all_rois.mean()), 4) if all_rois.size else None


def _novelty(model: Model, styles: Sequence[Float32]) -> float | None:
    # The median plane's; planes of nothing but noise have no style.
    known = model.styles.known
    seen = [style for style in styles if style.any()]
    if known is None or not seen:
        return None
    novelties = [novelty_of(style, known) for style in seen]
    told = [novelty for novelty in novelties if novelty is not None]
    return round(float(np.median(told)), 3) if told else None


def _stitched(labels: Int32, threshold: float) -> Int32:
    if threshold <= 0 or labels.shape[2] == 1:
        return labels
    joined = np.empty_like(labels)
    for position in range(labels.shape[0]):
        for time in range(labels.shape[1]):
            joined[position, time] = stitch_planes(list(labels[position, time]), threshold)
    return joined
