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
from cellwatch.storage.corrections.formats.imagejrois import flattened
from cellwatch.storage.corrections.formats.planes import PlaneWanted, of_plane

MAX_FEATURES = 100_000
NO_AREAS = ("Point", "MultiPoint", "LineString", "MultiLineString")


def read(
    path: Path, shape: tuple[int, int], _target: str, plane: PlaneWanted | None = None
) -> tuple[Int32, str, list[str]]:
    """Read polygons into a label image; see `formats.reading.read_labels`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise RejectedCorrection(
            f"it is not JSON: {error}", "export it again as GeoJSON"
        ) from error
    features = list(enumerate(_features(data), start=1))
    if len(features) > MAX_FEATURES:
        raise RejectedCorrection(f"it has {len(features)} features", "split it")
    if not features:
        raise RejectedCorrection(
            "it holds no polygon", "an image without ROIs is named NAME_empty.tif"
        )
    areas = [(number, each) for number, each in features if each.get("type") not in NO_AREAS]
    if not areas:
        number, each = features[0]
        raise RejectedCorrection(
            f"feature {number} is a {each.get('type')}, which has no area",
            "outline each cell with a polygon, brush or wand",
        )
    kept, notes = of_plane([(_position(each), (number, each)) for number, each in areas], plane)
    if n_left := len(features) - len(areas):
        notes.append(f"{n_left} points and lines, which outline nothing, were left out")
    labels, told = flattened([_mask(number, each, shape) for number, each in kept], shape)
    return labels, "GeoJSON", [*notes, *told]


def _features(data: Any) -> Iterator[dict[str, Any]]:  # Any: JSON
    listed = data.get("features", [data]) if isinstance(data, dict) else data
    if not isinstance(listed, list):
        raise RejectedCorrection("it is not GeoJSON", "export it again as GeoJSON")
    for feature in listed:
        if not isinstance(feature, dict):
            raise RejectedCorrection("it is not GeoJSON", "export it again as GeoJSON")
        geometry = feature.get("geometry") or feature
        if not isinstance(geometry, dict) or geometry.get("type") is None:
            raise RejectedCorrection("it is not GeoJSON", "export it again as GeoJSON")
        yield geometry


def _position(geometry: dict[str, Any]) -> tuple[int, int] | None:  # Any: JSON
    # QuPath's `plane`, counted from 0.
    said = geometry.get("plane")
    if not isinstance(said, dict):
        return None
    t, z = said.get("t", 0), said.get("z", 0)
    return (t, z) if isinstance(t, int) and isinstance(z, int) and min(t, z) >= 0 else None


def _mask(number: int, geometry: dict[str, Any], shape: tuple[int, int]) -> RoiMask:  # Any: JSON
    kind = geometry.get("type")
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
