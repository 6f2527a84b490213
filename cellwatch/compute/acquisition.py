"""Segment every plane of an image: what a worker does to an acquisition and `segment` to a file."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellwatch.compute.device import trim_memory
from cellwatch.compute.memory import LABELS_IN_MEMORY
from cellwatch.compute.model_result import ModelResult, facts_of, notes_of_planes
from cellwatch.compute.models import Chooser, Model, channels_for
from cellwatch.core.arrays import Float32, Float64, Int32
from cellwatch.core.channels import Channel, take_channels
from cellwatch.core.image import cleaned, percentiles
from cellwatch.core.labels import count_rois, stitch_planes
from cellwatch.core.parameters import ALGORITHM_VERSION, SegmentationParams
from cellwatch.core.plane_facts import PlaneFacts, digest_of
from cellwatch.core.quality import background, sharpness
from cellwatch.core.segment import segment
from cellwatch.core.styles import novelty_of
from cellwatch.errors import OutputError
from cellwatch.files.publish import why_unwritable
from cellwatch.files.scratch import scratch_zeros
from cellwatch.images import Planes, n_planes, planes_of
from cellwatch.records import CONFIDENCE, ChannelChoice, ModelChoice, TargetResult

if TYPE_CHECKING:
    from cellwatch.compute.former import At, FormerPlanes, Segmented

# px; from here on freed memory is given back before each pass of the network: what was left between
# arrays of other sizes fits nothing, and would add up.
LARGE = 768 * 768


@dataclass(frozen=True, slots=True)
class SegmentedTarget:
    """One target of an acquisition.

    Attributes
    ----------
    labels : (P, T, Z, Y, X) int32
    result : TargetResult
    provenance : mapping
        JSON: what made the label image.
    confidences : tuple of (n,) float64
        Of the ROIs of each plane, in the order of their labels; empty where ROIs were joined over
        planes, and have other labels.
    planes : tuple of PlaneFacts
        Of all planes; empty where there is only one.
    """

    labels: Int32
    result: TargetResult
    provenance: Mapping[str, Any]  # Any: JSON
    confidences: tuple[Float64, ...] = ()
    planes: tuple[PlaneFacts, ...] = ()


def segment_acquisition(  # noqa: PLR0913
    image: Planes,
    model: Model | Chooser,
    params: SegmentationParams,
    choice: ChannelChoice,
    *,
    target: str = "cells",
    pixel_size_um: float | None = None,
    on_plane: Callable[[], None] = lambda: None,
    store: Path | None = None,
) -> SegmentedTarget:
    """Segment all planes of an image with one model, named or chosen by the image's style.

    Parameters
    ----------
    image : Planes
    model : Model or Chooser
    params : SegmentationParams
    choice : ChannelChoice
    target : str
    pixel_size_um : float or None
        What a person declared; None: what the file says.
    on_plane : callable
        Called after each plane.
    store : Path or None
        The mask store that the result goes to. Labels that are too large for memory lie beside it
        meanwhile, and of planes that have not changed the labels that it has are taken. None: none.

    Raises
    ------
    ChannelError
        When the choice does not fit the image.
    CalibrationError
        When a parameter is in µm and the pixel size is missing or nonsensical.
    """
    pixel_size = pixel_size_um if pixel_size_um is not None else image.info.pixel_size_um
    scratch = store.parent if store else None
    former = _former(store, target) if store and n_planes(image) > 1 else None
    task = _Task(image, params, choice, pixel_size, on_plane, scratch, former)
    if isinstance(model, Chooser):
        found, why = _chosen_by(model, task)
    else:
        found, why = task.with_model(model), None
    return _target(task, found, why, target)


def _former(store: Path, target: str) -> "FormerPlanes | None":
    if not store.is_dir():
        return None
    from cellwatch.compute.former import FormerPlanes  # and zarr, which few need here

    return FormerPlanes.of(store, target)


def _target(
    task: "_Task", found: "ModelResult", why: ModelChoice | None, name: str
) -> SegmentedTarget:
    labels, planes, card, params = found.labels, found.planes, found.model.card, task.params
    n_apart = _planes_apart(labels, params)
    notes = [*task.image.info.notes, *found.notes, *([why.why] if why and why.why else [])]
    notes += notes_of_planes([plane.notes for plane in planes])
    if n_apart:
        notes.append(_told_apart(labels, n_apart))
    summary = found.summary
    result = TargetResult(
        name=name,
        rois=count_rois(labels, is_joined=not n_apart),
        diameter=round(float(np.median([plane.diameter for plane in planes])), 3),
        channels=tuple({"index": channel.index, "name": channel.name} for channel in found.chosen),
        notes=tuple(notes),
        model_id=card.id,
        model_sha256=card.sha256,
        novelty=_novelty(found.model, [plane.style for plane in planes]),
        choice=why,
        confidence=found.confidence,
        planes_apart=n_apart,
        precision=params.precision,
        sharpness=found.sharpness,
        background=found.background,
        median_area=summary["median_area"],
        covered=summary["covered"],
        intensity=summary["intensity"],
        pixel_size_um=task.pixel_size_um,
    )
    provenance = {
        "model": {"id": card.id, "sha256": card.sha256},
        "params": params.to_json(),
        "channels": list(result.channels),
        "pixel_size_um": task.pixel_size_um,
        "diameters_px": [round(plane.diameter, 3) for plane in planes],
        "novelty": result.novelty,
        CONFIDENCE: result.confidence,
        "sharpness": result.sharpness,
        "background": result.background,
        **summary,
        "planes_apart": n_apart,
        "planes_unchanged": found.n_unchanged,
        "choice": asdict(why) if why else None,
        "algorithm_version": ALGORITHM_VERSION,
        "notes": notes,
    }
    each = () if params.joins(labels.shape[2]) else tuple(plane.confidences for plane in planes)
    kept = tuple(planes) if len(planes) > 1 else ()
    return SegmentedTarget(labels, result, provenance, each, kept)


@dataclass(frozen=True, slots=True)
class _Task:
    """An image, and all about its segmentation but the model."""

    image: Planes
    params: SegmentationParams
    choice: ChannelChoice
    pixel_size_um: float | None
    on_plane: Callable[[], None]
    scratch: Path | None
    former: "FormerPlanes | None"

    def with_model(self, model: Model) -> ModelResult:
        image, params = self.image, self.params
        chosen, notes = channels_for(image, model.card, self.choice)
        limits = None
        if params.normalisation.over == "acquisition":
            whole = [cleaned(take_channels(plane, chosen))[0] for plane in planes_of(image)]
            limits = percentiles(np.stack(whole, axis=1), params.normalisation)
        work = _Planes(self, model, chosen, limits)
        labels, planes, n_unchanged = self._no_labels(), list[PlaneFacts](), 0
        for ats in self._together():
            known = work.known(ats)
            for at, each in zip(ats, known or map(work.segmented, ats), strict=True):
                labels[at] = each[0]
                planes.append(each[1])
                self.on_plane()
            n_unchanged += len(known)
            if len(ats) > 1 and not known:
                position, t, _ = ats[0]
                volume = stitch_planes(list(labels[position, t]), params.stitch_threshold)
                labels[position, t] = volume
        middle = work.given(list(np.ndindex(*image.shape[:3]))[len(planes) // 2])[0]
        quality = round(sharpness(middle), 4), round(background(middle), 4)
        return ModelResult(model, chosen, notes, labels, planes, *quality, n_unchanged)

    def _together(self) -> "Iterator[Sequence[At]]":
        # Planes whose ROIs are joined, and every other one alone.
        shape = self.image.shape[:3]
        size = shape[2] if self.params.joins(shape[2]) else 1
        ats = list(np.ndindex(*shape))
        yield from (ats[first : first + size] for first in range(0, len(ats), size))

    def _no_labels(self) -> Int32:
        shape = (*self.image.shape[:3], *self.image.shape[-2:])
        if self.scratch is None or 4 * math.prod(shape) <= LABELS_IN_MEMORY:
            return np.zeros(shape, np.int32)
        try:
            self.scratch.mkdir(parents=True, exist_ok=True)
            return scratch_zeros(shape, np.int32, self.scratch)
        except OSError as error:
            raise OutputError(why_unwritable(self.scratch, error)) from error


class _Planes:
    """The planes of a task, as one model is given them and answers."""

    def __init__(
        self,
        task: _Task,
        model: Model,
        chosen: Sequence[Channel],
        limits: Sequence[tuple[float, float]] | None,
    ) -> None:
        self._task, self._model, self._chosen, self._limits = task, model, chosen, limits
        self._is_one = math.prod(task.image.shape[:3]) == 1
        said = [{"index": channel.index, "name": channel.name} for channel in chosen]
        asked = (model.card.sha256, task.params, said, task.pixel_size_um)
        self._former = task.former if task.former and task.former.fits(*asked) else None
        self._last: tuple[At, Float32] | None = None

    def given(self, at: "At") -> Float32:
        """Return what is fed of a plane, as (C, Y, X); that of the last one is kept."""
        if self._last is None or self._last[0] != at:
            self._last = at, take_channels(self._task.image.plane(*at), self._chosen)
        return self._last[1]

    def known(self, ats: "Sequence[At]") -> "list[Segmented]":
        """Return the labels and facts of planes that are as they were; empty: not all are."""
        if self._former is None:
            return []
        return self._former.find([digest_of(self.given(at)) for at in ats])

    def segmented(self, at: "At") -> "Segmented":
        """Segment a plane."""
        given, task = self.given(at), self._task
        found = segment(
            given,
            self._model.network,
            task.params,
            pixel_size_um=task.pixel_size_um,
            limits=self._limits,
            size_model=self._model.styles.size,
            between=_nothing if given[0].size < LARGE else trim_memory,
        )
        digest = "" if self._is_one else digest_of(given)
        return found.labels, facts_of(found, given[0], digest)


def _chosen_by(chooser: Chooser, task: _Task) -> tuple[ModelResult, ModelChoice]:
    # With the model that the style calls for; where that or its result is in doubt also with the
    # general network, and then the better one. Both are recorded.
    diameter = task.params.diameter.in_px(task.pixel_size_um)
    model, why = chooser.choose(task.image, task.choice, diameter, task.params)
    first = task.with_model(model)
    general = chooser.style_model
    doubt = first.doubt or ("" if why.is_usual else "it is unlike most images of that kind")
    if not doubt or model.card.sha256 == general.card.sha256:
        return first, why
    second = task.with_model(general)
    better, other = (second, first) if second.outdoes(first) else (first, second)
    text = f"its style calls for '{model.card.id}', but {doubt}: compared with "
    text += f"'{general.card.id}'; '{better.model.card.id}' is used ({_n_rois(better)} ROIs; "
    text += f"'{other.model.card.id}' found {_n_rois(other)})"
    return better, replace(why, why=text, instead_of="" if better is first else first.model.card.id)


def _n_rois(found: ModelResult) -> int:
    return count_rois(found.labels)


def _planes_apart(labels: Int32, params: SegmentationParams) -> int:
    # P, T, Z, Y, X. Planes of one volume that were joined are no planes apart.
    n_positions, n_t, n_z = labels.shape[:3]
    n_planes = n_positions * n_t * (1 if params.joins(n_z) else n_z)
    return n_planes if n_planes > 1 else 0


def _told_apart(labels: Int32, n_apart: int) -> str:
    is_volume = labels.shape[2] > 1 and n_apart >= labels.shape[2]
    remedy = "; stitch_threshold joins z planes" if is_volume else ""
    return f"counted in {n_apart} planes, not joined: one ROI may be counted several times{remedy}"


def _nothing() -> None:
    pass


def _novelty(model: Model, styles: Sequence[Float32]) -> float | None:
    # The median plane's; planes of nothing but noise have no style.
    known = model.styles.known
    seen = [style for style in styles if style.any()]
    if known is None or not seen:
        return None
    novelties = [novelty_of(style, known) for style in seen]
    told = [novelty for novelty in novelties if novelty is not None]
    return round(float(np.median(told)), 3) if told else None
