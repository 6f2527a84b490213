"""What a mask store keeps of each plane, beside its labels; see `cellwatch.core.plane_facts`.

It lies in `planes` below the label image, for images of several planes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.errors import BaseZarrError

from cellwatch.core.plane_facts import PlaneFacts

GROUP = "planes"
SCALARS = ("diameter", "confidence", "total", "size", "digest")


def write_planes(label: zarr.Group, planes: Sequence[PlaneFacts]) -> None:
    """Write the facts of the planes of one position into the group of their label image."""
    group = label.create_group(GROUP)
    each = [np.stack([p.probabilities, p.confidences, p.areas], axis=1) for p in planes]
    group.create_array("rois", data=np.concatenate(each).astype(np.float64))
    group.create_array("styles", data=np.stack([p.style for p in planes]).astype(np.float32))
    said: list[Any] = [  # Any: JSON
        {
            **{name: getattr(plane, name) for name in SCALARS},
            "notes": list(plane.notes),
            "rois": len(plane.areas),
        }
        for plane in planes
    ]
    group.attrs.update({"planes": said})


def read_planes(label: Path) -> list[PlaneFacts]:
    """Read what `write_planes` wrote; empty where there is nothing, or nothing that can be read."""
    try:
        group = zarr.open_group(label / GROUP, mode="r")
        said: Any = group.attrs["planes"]  # Any: JSON
        rois, styles = np.asarray(group["rois"]), np.asarray(group["styles"])
        ends = np.cumsum([each["rois"] for each in said])[:-1]
        parts = np.split(rois, ends)
        return [
            PlaneFacts(
                **{name: each[name] for name in SCALARS},
                style=style,
                notes=tuple(each["notes"]),
                probabilities=part[:, 0],
                confidences=part[:, 1],
                areas=part[:, 2].astype(np.int64),
            )
            for each, style, part in zip(said, styles, parts, strict=True)
        ]
    except (BaseZarrError, OSError, ValueError, KeyError, IndexError, TypeError):
        return []
