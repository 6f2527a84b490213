"""Make a label image again from what its mask store says of itself, and compare."""

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cellwatch.compute.acquisition import segment_acquisition
from cellwatch.compute.models import ready_model
from cellwatch.compute.opening import open_or_load
from cellwatch.core.labels import count_rois, relabel
from cellwatch.core.matching import match
from cellwatch.core.parameters import ALGORITHM_VERSION, SegmentationParams
from cellwatch.errors import UnknownModel, UsageError
from cellwatch.images import describe
from cellwatch.images.identity import content_sha256
from cellwatch.records import ChannelChoice
from cellwatch.storage.ledger.path_text import text_path
from cellwatch.storage.masks.store import read_labels, read_provenance
from cellwatch.zoo.cards import ModelPlace, find_model


@dataclass(frozen=True, slots=True)
class Reproduced:
    """One target of a mask store, made again.

    Attributes
    ----------
    target, model : str
    is_equal : bool
        Whether every pixel has the same label.
    rois_before, rois_now : int
    ap50 : float
        Mean over the planes; 1 where neither has an ROI.
    doubts : tuple of str
        What is not as it was: another version of the algorithm.
    """

    target: str
    model: str
    is_equal: bool
    rois_before: int
    rois_now: int
    ap50: float
    doubts: tuple[str, ...] = ()


def reproduce(
    store: Path,
    zoo: Path | None,
    device: torch.device,
    image: Path | None = None,
    others: Sequence[str] = (),
    on_plane: Callable[[], None] = lambda: None,
) -> list[Reproduced]:
    """Segment a mask store's image again, as its provenance says, and compare the labels.

    Parameters
    ----------
    store : Path
    zoo : Path or None
        In which the models are looked for, beside the built-in ones.
    device : torch.device
    image : Path or None
        Where the image lies now; None: where it lay then.
    others : sequence of str
        Further models, by id or path, one of which may be the one.
    on_plane : callable
        Called after each plane.

    Raises
    ------
    MaskStoreError
        When there is no mask store of cellwatch.
    UsageError
        When the image holds something else now.
    UnknownModel
        When the model is not there.
    """
    said = read_provenance(store)
    path = image or Path(text_path(said["source"]["path"]))
    if content_sha256(path) != said["source"]["sha256"]:
        raise UsageError(f"{path} is not the image that {store} was made from: its content differs")
    declared = said["declared"]
    info = describe(path, declared["axes"])
    found = []
    with closing(open_or_load(path, info, declared["axes"])) as planes:
        for name, facts in said["targets"].items():
            place = _model_of(facts["model"], zoo, others)
            made = segment_acquisition(
                planes,
                ready_model(place, device),
                SegmentationParams.from_json(facts["params"]),
                _channels(facts["channels"]),
                target=name,
                pixel_size_um=declared["pixel_size_um"],
                on_plane=on_plane,
                store=store.with_name(f".{store.name}.again"),  # not this one: all is made again
            )
            found.append(_compared(name, facts, read_labels(store, name), made.labels))
    return found


def _model_of(said: dict[str, str], zoo: Path | None, others: Sequence[str]) -> ModelPlace:
    here = []
    for name in (said["id"], *others):
        with suppress(UnknownModel):
            place = find_model(name, zoo)
            if place.card.sha256 == said["sha256"]:
                return place
            here.append(f"{name} ({place.card.sha256[:12]})")
    found = f"; here are {', '.join(here)}" if here else ""
    raise UnknownModel(
        f"the model '{said['id']}' ({said['sha256'][:12]}), which made these masks, is not "
        f"here{found}"
    )


def _channels(fed: list[dict[str, Any]]) -> ChannelChoice:  # Any: JSON
    # A negative index is the grey of a colour picture, which is what no choice means.
    indices = [channel["index"] for channel in fed]
    cell = indices[0] if indices and indices[0] >= 0 else None
    return ChannelChoice(cell, indices[1] if len(indices) > 1 else None)


def _compared(
    name: str,
    facts: dict[str, Any],  # Any: JSON
    before: np.ndarray,
    now: np.ndarray,
) -> Reproduced:
    each = (volume.reshape(-1, *volume.shape[-2:]) for volume in (before, now))
    scores = [_ap50(old, new) for old, new in zip(*each, strict=True)]
    doubts, is_joined = [], not facts.get("planes_apart")
    if facts["algorithm_version"] != ALGORITHM_VERSION:
        version = f"algorithm version {facts['algorithm_version']}, here is {ALGORITHM_VERSION}"
        doubts.append(f"it was made by {version}")
    return Reproduced(
        name,
        facts["model"]["id"],
        bool(np.array_equal(before, now)),
        count_rois(before, is_joined=is_joined),
        count_rois(now, is_joined=is_joined),
        round(float(np.mean(scores)), 4),
        tuple(doubts),
    )


def _ap50(old: np.ndarray, new: np.ndarray) -> float:
    if not (old.any() or new.any()):
        return 1.0
    return match(relabel(old), relabel(new), (0.5,))[0].average_precision
