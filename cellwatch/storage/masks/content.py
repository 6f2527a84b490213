"""What a mask store is made of, before it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellwatch.core.plane_facts import PlaneFacts
from cellwatch.images import Planes

Array = NDArray[np.generic]


Json = dict[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True)
class StoreContent:
    """What goes into a mask store.

    Attributes
    ----------
    labels : mapping of str to (P, T, Z, Y, X) int32
        One label image per target.
    axes : str
        Those of "TZ" that the file really has.
    provenance : mapping
        JSON; goes under `cellwatch` in the root's attributes.
    image : Planes or None
        None: the image is not stored.
    channels : tuple of str
        Names of the image's channels.
    pixel_size_um : float or None
    version : str
        Of OME-Zarr: 0.5 or 0.4.
    confidences : mapping of str to sequence of float
        By target, of the ROIs of its only plane, in the order of their labels; what has several
        planes has none.
    planes : mapping of str to sequence of PlaneFacts
        By target, of all of its planes; a target of one plane has none.
    """

    labels: Mapping[str, NDArray[np.int32]]
    axes: str
    provenance: Json
    image: Planes | None = None
    channels: tuple[str, ...] = ()
    pixel_size_um: float | None = None
    version: Literal["0.5", "0.4"] = "0.5"
    confidences: Mapping[str, Sequence[float]] = field(default_factory=dict)
    planes: Mapping[str, Sequence[PlaneFacts]] = field(default_factory=dict)
