"""Networks that judge: what each finds on a correction, computed once."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cellwatch.compute.device import optimised, precision_on
from cellwatch.core.arrays import Bool, Int32
from cellwatch.core.diameter import SizeModel
from cellwatch.core.labels import relabel
from cellwatch.core.matching import hits, match
from cellwatch.core.network import CPNet
from cellwatch.core.parameters import SegmentationParams
from cellwatch.core.segment import segment
from cellwatch.daemon.retraining.data import kept_of
from cellwatch.records import Evidence, TrainingItem, TrainJob, UsedModel
from cellwatch.storage.corrections.kept import KeptCorrection
from cellwatch.training.findings import Found
from cellwatch.zoo.cards import ModelPlace, read_card
from cellwatch.zoo.catalog import load_model, style_facts_of


@dataclass(frozen=True, slots=True)
class Seen:
    """What one network makes of one correction.

    Attributes
    ----------
    found : Found
    score : Evidence
    n_rois : int
        Found.
    seconds : float
    """

    found: Found
    score: Evidence
    n_rois: int
    seconds: float


class Judge:
    """Segment corrections with networks, each once.

    Parameters
    ----------
    job : TrainJob
    device : torch.device
    on_image : callable
        Called after each image, so that scoring gives way as training does.
    """

    def __init__(
        self, job: TrainJob, device: torch.device, on_image: Callable[[], None] = lambda: None
    ) -> None:
        self._on_image = on_image
        # While images wait, the process is stopped: on the CPU its own time is measured.
        self._clock = time.process_time if device.type == "cpu" else time.monotonic
        self._params = SegmentationParams.from_json(on_device(job, device).params)
        self._channels = job.channels
        self._items = job.items
        self._device = device
        self._networks: dict[str, tuple[str, CPNet, SizeModel | None, int]] = {}
        self._kept: dict[int, KeptCorrection] = {}
        self._known: dict[tuple[str, int], Seen] = {}

    def add(self, model: UsedModel) -> None:
        """Take a model folder in."""
        if model.sha256 not in self._networks:
            place = ModelPlace(Path(model.folder), read_card(Path(model.folder)))
            size = style_facts_of(place).size
            channels = len(place.card.channels)
            self.add_network(model.id, model.sha256, load_model(place), size, channels)

    def add_network(
        self,
        name: str,
        sha256: str,
        network: CPNet,
        size: SizeModel | None = None,
        channels: int | None = None,
    ) -> None:
        """Take a network in; it is fed as many channels as its card allows, as in service."""
        optimised(network, self._device)
        self._networks[sha256] = (name, network, size, channels or self._channels)

    def look(self, sha256: str, item: TrainingItem, kind: str) -> Seen:
        """Segment a correction's plane with a network and compare it with the correction."""
        key = (sha256, item.correction_id)
        if key not in self._known:
            self._known[key] = self._look(sha256, item, kind)
        return self._known[key]

    def kept(self, item: TrainingItem) -> KeptCorrection:
        """Return the arrays of a correction, checked where no weightier one speaks."""
        if item.correction_id not in self._kept:
            self._kept[item.correction_id] = kept_of(item, self._items)
        return self._kept[item.correction_id]

    def rois(self, item: TrainingItem) -> int:
        """Return how many ROIs a correction has in the part that is used."""
        kept = self.kept(item)
        return int(within(kept.labels, kept.checked).max(initial=0))

    def is_finite(self, sha256: str) -> bool:
        """Say whether all weights of a network are numbers."""
        _, network, _, _ = self._networks[sha256]
        return all(bool(torch.isfinite(t).all()) for t in network.state_dict().values())

    def _look(self, sha256: str, item: TrainingItem, kind: str) -> Seen:
        name, network, size, fed = self._networks[sha256]
        kept = self.kept(item)
        began = self._clock()
        made = segment(
            kept.plane[:fed],
            network,
            self._params,
            pixel_size_um=item.pixel_size_um,
            limits=[(float(low), float(high)) for low, high in kept.limits][:fed],
            size_model=size,
        )
        seconds = self._clock() - began
        truth, labels = (within(each, kept.checked) for each in (kept.labels, made.labels))
        found, false_positives = hits(truth, labels)
        at_75 = match(truth, labels, (0.75,))[0].average_precision
        entry = Found(found, false_positives)
        score = Evidence(
            kind=kind,
            model_id=name,
            model_sha256=sha256,
            correction_id=item.correction_id,
            content_key=item.content_key,
            average_precision=entry.average_precision,
            average_precision_75=round(at_75, 6),
            true_positives=int(found.sum()),
            false_positives=false_positives,
            false_negatives=int(found.size - found.sum()),
            found="".join("1" if hit else "0" for hit in found),
        )
        self._on_image()
        return Seen(entry, score, int(labels.max(initial=0)), seconds)


def within(labels: Int32, checked: Bool | None) -> Int32:
    """Return the ROIs within the part that a person vouches for."""
    plain = np.ascontiguousarray(labels, np.int32)
    return plain if checked is None else relabel(np.where(checked, plain, np.int32(0)))


def on_device(job: TrainJob, device: torch.device) -> TrainJob:
    """Return a job whose precision is one that the device computes in."""
    plan, params = (
        {**said, "precision": precision_on(device, said.get("precision", "float32"))}
        for said in (job.plan, job.params)
    )
    return replace(job, plan=plan, params=params)
