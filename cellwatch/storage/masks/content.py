"""What a mask store is made of, before it is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellwatch.images import Planes

NGFF_VERSION = "0.5"


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
    """

    labels: Mapping[str, NDArray[np.int32]]
    axes: str
    provenance: Json
    image: Planes | None = None
    channels: tuple[str, ...] = ()
    pixel_size_um: float | None = None
