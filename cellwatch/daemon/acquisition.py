"""Segment every plane of an image: what a worker does to an acquisition and `segment` to a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from cellwatch.core.arrays import Float32, Float64, Int32
from cellwatch.core.channels import Channel, take_channels
from cellwatch.core.confidence import roi_confidences
from cellwatch.core.image import cleaned, percentiles
from cellwatch.core.labels import stitch_planes
from cellwatch.core.parameters import ALGORITHM_VERSION, SegmentationParams
from cellwatch.core.segment import segment
from cellwatch.core.styles import novelty_of
from cellwatch.daemon.choosing import Chooser, Model, channels_for
from cellwatch.daemon.device import trim_memory
from cellwatch.records import ChannelChoice, ModelChoice, TargetResult
from cellwatch.storage.images import Image
from cellwatch.storage.maskstore import count_rois

# px; from here on freed memory is given back before each pass of the network: what was left between
# arrays of other sizes fits nothing, and would add up.
LARGE = 512 * 512


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
    chooser = model if isinstance(model, Chooser) else None
    if isinstance(model, Chooser):
        diameter = params.diameter.in_px(pixel_size)
        model, why = model.choose(image, choice, diameter, params)
    chosen, notes = channels_for(image, model.card, choice)
    labels, planes = _segment_planes(image, model, params, chosen, pixel_size, on_plane)
    if chooser is not None and why is not None:
        rival = chooser.rival_of(model, why, is_in_vain=_is_in_vain(labels, planes))
        if rival is not None:
            other = _segment_planes(image, rival, params, chosen, pixel_size, on_plane)
            is_better = _weight(other[1]) > _weight(planes)
            why = _compared(why, (model, labels), (rival, other[0]), is_better=is_better)
            if is_better:
                model, (labels, planes) = rival, other
                chosen, notes = channels_for(image, model.card, choice)
    notes = [*image.info.notes, *notes, *([why.why] if why and why.why else [])]
    for index, plane in enumerate(planes):
        where = f"plane {index}: " if len(planes) > 1 else ""
        notes += [where + note for note in plane.notes]
    n_apart = _planes_apart(labels, params)
    if n_apart:
        notes.append(_told_apart(labels, n_apart))
    result = TargetResult(
        name=target,
        rois=count_rois(labels, is_joined=not n_apart),
        diameter=round(float(np.median([plane.diameter for plane in planes])), 3),
        channels=tuple({"index": channel.index, "name": channel.name} for channel in chosen),
        notes=tuple(notes),
        model_id=model.card.id,
        model_sha256=model.card.sha256,
        novelty=_novelty(model, [plane.style for plane in planes]),
        choice=why,
        confidence=_confidence([plane.confidences for plane in planes]),
        planes_apart=n_apart,
        precision=params.precision,
    )
    provenance = {
        "model": {"id": model.card.id, "sha256": model.card.sha256},
        "params": params.to_json(),
        "channels": list(result.channels),
        "pixel_size_um": pixel_size,
        "diameters_px": [round(plane.diameter, 3) for plane in planes],
        "novelty": result.novelty,
        "confidence": result.confidence,
        "planes_apart": n_apart,
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
        whole = [cleaned(take_channels(plane, chosen))[0] for plane in pixels]
        limits = percentiles(np.stack(whole, axis=1), params.normalisation)
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
            between=_nothing if plane[0].size < LARGE else trim_memory,
        )
        labels[index] = found.labels
        confidences = roi_confidences(found.labels, found.cellprob)
        planes.append(_PlaneFacts(found.diameter, found.style, found.notes, confidences))
        on_plane()
    shape = (*image.pixels.shape[:3], *image.pixels.shape[-2:])
    return _stitched(labels.reshape(shape), params.stitch_threshold), planes


def _is_in_vain(labels: Int32, planes: Sequence[_PlaneFacts]) -> bool:
    # Nothing was found, and not because the image is constant or nothing but noise.
    return not labels.any() and any(plane.style.any() for plane in planes)


def _weight(planes: Sequence[_PlaneFacts]) -> float:
    # The ROIs of an image, each by how sure the network is of it.
    return float(sum(plane.confidences.sum() for plane in planes))


def _compared(
    why: ModelChoice,
    first: tuple[Model, Int32],
    second: tuple[Model, Int32],
    *,
    is_better: bool,
) -> ModelChoice:
    # Both are recorded: what the style called for, and what it was compared with.
    name, other = first[0].card.id, second[0].card.id
    found, more = count_rois(first[1]), count_rois(second[1])
    reason = "it found nothing"
    if found:
        reason = f"the image is unlike those that '{why.cluster}' knows (novelty {why.novelty:.1f})"
    text = f"its style calls for '{name}', but {reason}: compared with '{other}'"
    used = f"'{other if is_better else name}' is used ({more if is_better else found} ROIs"
    text += f"; {used}, the other found {found if is_better else more})"
    return replace(why, why=text, instead_of=name if is_better else "")


def _planes_apart(labels: Int32, params: SegmentationParams) -> int:
    # P, T, Z, Y, X. Planes of one volume that were joined are no planes apart.
    n_positions, n_t, n_z = labels.shape[:3]
    is_joined = params.stitch_threshold > 0 and n_z > 1
    n_planes = n_positions * n_t * (1 if is_joined else n_z)
    return n_planes if n_planes > 1 else 0


def _told_apart(labels: Int32, n_apart: int) -> str:
    is_volume = labels.shape[2] > 1 and n_apart >= labels.shape[2]
    remedy = "; stitch_threshold joins z planes" if is_volume else ""
    return f"counted in {n_apart} planes, not joined: one ROI may be counted several times{remedy}"


def _nothing() -> None:
    pass


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
