"""Planes that have not changed since an image was segmented last: a time-lapse that has grown.

Their labels are taken from the mask store of the image as it was, where the same network would be
asked the same of the same pixels. The result is the one that segmenting them again would give.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cellwatch.core.arrays import Int32
from cellwatch.core.parameters import ALGORITHM_VERSION, SegmentationParams
from cellwatch.core.plane_facts import PlaneFacts
from cellwatch.errors import MaskStoreError
from cellwatch.records import CONFIDENCE
from cellwatch.storage.masks.store import check_store, read_plane, read_plane_facts

At = tuple[int, int, int]
Segmented = tuple[Int32, PlaneFacts]


@dataclass(frozen=True, slots=True)
class FormerPlanes:
    """The planes of a mask store, by their pixels.

    Attributes
    ----------
    store : Path
    inode : int
        Of the store when it was opened: one that takes its place holds other planes.
    target : str
    said : mapping
        JSON: what made the label image.
    facts : mapping of (int, int, int) to PlaneFacts
        By position, time point and z.
    places : mapping of tuple of str to tuple of (int, int, int)
        The planes, or where z planes were joined the volumes, by the digests of their pixels.
    """

    store: Path
    inode: int
    target: str
    said: Mapping[str, Any]  # Any: JSON
    facts: Mapping[At, PlaneFacts] = field(default_factory=dict)
    places: Mapping[tuple[str, ...], tuple[At, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Path, target: str) -> "FormerPlanes | None":
        """Open those of a target; None: there are none, or none that could be used.

        Labels that are not those that were written were edited or damaged: none of them is used.
        """
        try:
            inode = store.stat().st_ino
            report = check_store(store)
            found = read_plane_facts(store, target)
            said = report.provenance["targets"][target]
        except (OSError, MaskStoreError, KeyError):
            return None
        is_ours = said["algorithm_version"] == ALGORITHM_VERSION and CONFIDENCE in said
        if report.problems or not is_ours:
            return None
        shape = said["shape"][:3]
        if len(found) != np.prod(shape):
            return None
        ats: list[At] = [(p, t, z) for p, t, z in np.ndindex(*shape)]
        facts = dict(zip(ats, found, strict=True))
        size = shape[2] if SegmentationParams.from_json(said["params"]).joins(shape[2]) else 1
        runs = [tuple(ats[i : i + size]) for i in range(0, len(ats), size)]
        places = {tuple(facts[at].digest for at in run): run for run in runs}
        return cls(store, inode, target, said, facts, places)

    def fits(
        self,
        model_sha256: str,
        params: SegmentationParams,
        channels: Sequence[Mapping[str, Any]],  # Any: JSON
        pixel_size_um: float | None,
    ) -> bool:
        """Say whether the same was asked of the same network, plane by plane."""
        asked, before = ({**p, "batch_size": 0} for p in (params.to_json(), self.said["params"]))
        return (
            params.normalisation.over == "image"
            and asked == before
            and self.said["model"]["sha256"] == model_sha256
            and self.said["channels"] == list(channels)
            and self.said["pixel_size_um"] == pixel_size_um
        )

    def find(self, digests: Sequence[str]) -> list[Segmented]:
        """Return what is known of planes that go together; empty: they are not all there."""
        places = self.places.get(tuple(digests), ())
        try:
            labels = [read_plane(self.store, self.target, at) for at in places]
            is_replaced = self.store.stat().st_ino != self.inode
        except (OSError, MaskStoreError, IndexError):
            return []
        if is_replaced:
            return []
        return [(each, self.facts[at]) for each, at in zip(labels, places, strict=True)]
