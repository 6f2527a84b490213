"""GeoJSON of QuPath: polygons and multi-polygons with holes, in px."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cellwatch.core.arrays import Float64, Int32
from cellwatch.core.overlaps import RoiMask
from cellwatch.core.polygons import fill
from cellwatch.errors import RejectedCorrection
from cellwatch.storage.corrections.imagejrois import flattened

MAX_FEATURES = 100_000


def read(path: Path, shape: tuple[int, int], _target: str) -> tuple[Int32, str, list[str]]:
    """Read polygons into a label image; see `cellwatch.storage.corrections.reading.read_labels`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise RejectedCorrection(f"it is no JSON: {error}", "export it again as GeoJSON") from error
    features = list(_features(data))
    if len(features) > MAX_FEATURES:
        raise RejectedCorrection(f"it has {len(features)} features", "split it")
    rois = [_mask(number, feature, shape) for number, feature in enumerate(features, start=1)]
    if not rois:
        raise RejectedCorrection(
            "it holds no polygon", "an image without ROIs is named NAME_empty.tif"
        )
    labels, notes = flattened(rois, shape)
    return labels, "GeoJSON", notes


def _features(data: Any) -> Iterator[dict[str, Any]]:  # Any: JSON
    listed = data.get("features", [data]) if isinstance(data, dict) else data
    if not isinstance(listed, list):
        raise RejectedCorrection("it is no GeoJSON", "export it again as GeoJSON")
    for feature in listed:
        if not isinstance(feature, dict):
            raise RejectedCorrection("it is no GeoJSON", "export it again as GeoJSON")
        yield feature.get("geometry") or feature


def _mask(number: int, geometry: dict[str, Any], shape: tuple[int, int]) -> RoiMask:  # Any: JSON
    kind = geometry.get("type")
    if kind is None:
        raise RejectedCorrection("it is no GeoJSON", "export it again as GeoJSON")
    try:
        rings = geometry["coordinates"]
        polygons = {"Polygon": [rings], "MultiPolygon": rings}[str(kind)]
        loops = [_ring(ring) for polygon in polygons for ring in polygon]
    except KeyError as error:
        raise RejectedCorrection(
            f"feature {number} is a {kind}, which has no area",
            "outline each cell with a polygon, brush or wand",
        ) from error
    except (TypeError, ValueError) as error:
        raise RejectedCorrection(
            f"the outline of feature {number} cannot be read: {error}", "draw it again"
        ) from error
    if not loops:
        raise RejectedCorrection(f"feature {number} has no outline", "draw it again")
    return fill(loops, shape)


def _ring(points: Any) -> Float64:  # Any: JSON
    ring = np.asarray(points, np.float64)
    if ring.ndim != 2 or ring.shape[1] < 2 or len(ring) < 3 or not np.isfinite(ring).all():
        raise ValueError("a ring has at least three points, x and y of each")
    return ring[:, :2]
