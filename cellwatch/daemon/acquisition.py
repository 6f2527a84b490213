"""Segment every plane of an image: what a worker does to an acquisition and `segment` to a file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellwatch.core.arrays import Int32
from cellwatch.core.channels import Channel, choose_channels, take_channels
from cellwatch.core.image import percentiles
from cellwatch.core.labels import stitch_planes
from cellwatch.core.network import CPNet
from cellwatch.core.parameters import ALGORITHM_VERSION, SegmentationParams
from cellwatch.core.segment import segment
from cellwatch.records import ChannelChoice, ModelCard, TargetResult
from cellwatch.storage.images import Image
from cellwatch.storage.maskstore import count_rois


@dataclass(frozen=True, slots=True)
class Model:
    """A network ready to run, and its card."""

    network: CPNet
    card: ModelCard


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
    model: Model,
    params: SegmentationParams,
    choice: ChannelChoice,
    *,
    target: str = "cells",
    pixel_size_um: float | None = None,
    on_plane: Callable[[], None] = lambda: None,
) -> SegmentedTarget:
    """Segment all planes of an image with one model.

    Parameters
    ----------
    image : Image
    model : Model
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
    chosen, notes = channels_for(image, model.card, choice)
    pixel_size = pixel_size_um if pixel_size_um is not None else image.info.pixel_size_um
    planes = image.pixels.reshape(-1, *image.pixels.shape[3:])  # (P * T * Z, C, Y, X)
    limits = None
    if params.normalisation.over == "acquisition":
        whole = np.stack([take_channels(plane, chosen) for plane in planes], axis=1)
        limits = percentiles(whole, params.normalisation)
    labels = np.zeros((len(planes), *image.pixels.shape[-2:]), np.int32)
    diameters = []
    for index, plane in enumerate(planes):
        found = segment(
            take_channels(plane, chosen),
            model.network,
            params,
            pixel_size_um=pixel_size,
            limits=limits,
        )
        labels[index] = found.labels
        diameters.append(found.diameter)
        where = f"plane {index}: " if len(planes) > 1 else ""
        notes += [where + note for note in found.notes]
        on_plane()
    shape = (*image.pixels.shape[:3], *image.pixels.shape[-2:])
    stitched = _stitched(labels.reshape(shape), params.stitch_threshold)
    channels = tuple({"index": channel.index, "name": channel.name} for channel in chosen)
    provenance = {
        "model": {"id": model.card.id, "sha256": model.card.sha256},
        "params": params.to_json(),
        "channels": list(channels),
        "pixel_size_um": pixel_size,
        "diameters_px": [round(d, 3) for d in diameters],
        "algorithm_version": ALGORITHM_VERSION,
        "notes": notes,
    }
    diameter = round(float(np.median(diameters)), 3)
    result = TargetResult(target, count_rois(stitched), diameter, channels, tuple(notes))
    return SegmentedTarget(stitched, result, provenance)


def channels_for(
    image: Image, card: ModelCard, choice: ChannelChoice
) -> tuple[tuple[Channel, ...], list[str]]:
    """Return the channels to feed and what to tell about them.

    A model trained without a nuclear channel is never fed one: its first normalisation would
    amplify it beyond all measure.
    """
    names = image.info.channels or ("",) * image.pixels.shape[3]
    chosen = choose_channels(choice.cell, choice.nucleus, names, is_rgb=image.is_rgb)
    if len(chosen) > 1 and not card.has_nucleus:
        left_out = chosen[1].name or f"channel {chosen[1].index}"
        note = f"model '{card.id}' was trained without a nucleus channel; {left_out} is not used"
        return chosen[:1], [note]
    return chosen, []


def _stitched(labels: Int32, threshold: float) -> Int32:
    if threshold <= 0 or labels.shape[2] == 1:
        return labels
    joined = np.empty_like(labels)
    for position in range(labels.shape[0]):
        for time in range(labels.shape[1]):
            joined[position, time] = stitch_planes(list(labels[position, time]), threshold)
    return joined
