"""Write label images in the formats of the tools that people correct them in, exactly.

Outlines run along the edges of the pixels, so that a label image is the same after a round trip.
"""

import json
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from roifile import ImagejRoi, roiwrite

from cellwatch.core.arrays import Bool, Int32
from cellwatch.core.diameter import median_diameter
from cellwatch.core.flows import bounding_boxes
from cellwatch.core.labels import outlines_of
from cellwatch.core.polygons import joined, trace

FORMATS = ("napari", "cellpose", "fiji", "qupath")
ENDINGS = {
    "napari": "_masks.tif",
    "cellpose": "_seg.npy",
    "fiji": "_rois.zip",
    "qupath": "_rois.geojson",  # without an ending, a_region.geojson would be another's region
}
LARGEST_UINT16 = 65_535
CELLPOSE_DIAMETER = 30.0  # px: what its GUI begins with


def write_labels(path: Path, labels: Int32, tool: str, image: Path) -> None:
    """Write a label image for a tool.

    Parameters
    ----------
    path : Path
        Ends in the tool's entry of `ENDINGS`.
    labels : (Y, X) int32
    tool : str
        One of `FORMATS`.
    image : Path
        The image that lies beside it.
    """
    if tool == "napari":
        write_tiff(path, labels)
    elif tool == "cellpose":
        write_seg(path, labels, image)
    elif tool == "fiji":
        write_rois(path, labels)
    else:
        write_geojson(path, labels)


def write_tiff(path: Path, labels: Int32) -> None:
    """Write a label TIFF: uint16, or uint32 above 65,535 ROIs."""
    kind = np.uint16 if labels.max(initial=0) <= LARGEST_UINT16 else np.uint32
    tifffile.imwrite(path, labels.astype(kind), photometric="minisblack", compression="zlib")


def read_tiff(path: Path) -> Int32:
    """Read what `write_tiff` wrote, (Y, X) int32."""
    return np.asarray(tifffile.imread(path), np.int32)


def write_seg(path: Path | BinaryIO, labels: Int32, image: Path) -> None:
    """Write a `_seg.npy` that Cellpose's GUI opens: masks and outlines; the flows are blank."""
    shape = labels.shape
    kind = np.uint16 if labels.max(initial=0) < LARGEST_UINT16 else np.uint32
    masks = labels.astype(kind)
    n = int(labels.max(initial=0))
    held = {
        "masks": masks,
        "outlines": np.where(outlines_of(labels), masks, kind(0)),
        "colors": _colours(n),
        "chan_choose": [0, 0],
        "ismanual": np.zeros(n, bool),
        "filename": str(image),
        "flows": [
            np.zeros((1, *shape, 3), np.uint8),
            np.zeros((1, *shape), np.uint8),
            np.zeros((1, *shape, 3), np.uint8),
            [],
            np.zeros((3, *shape), np.float32),
        ],
        "diameter": float(median_diameter(labels) or CELLPOSE_DIAMETER),
    }
    whole = np.empty((), object)
    whole[()] = held
    np.save(path, whole)


def write_rois(path: Path, labels: Int32) -> None:
    """Write a zip of ImageJ ROIs, one for each label, named by it."""
    rois = []
    for number, (top, left, mask) in _windows(labels):
        corners = joined(trace(mask)) + np.array((left, top))
        rois.append(ImagejRoi.frompoints(corners.astype(np.int32), name=f"{number:05d}"))
    path.unlink(missing_ok=True)  # the library adds to a zip that is there
    if rois:
        roiwrite(path, rois)


def write_geojson(path: Path, labels: Int32) -> None:
    """Write polygons with their holes, as QuPath imports them."""
    features = []
    for number, (top, left, mask) in _windows(labels):
        rings = [loop + np.array((left, top)) for loop in trace(mask)]
        # Rings of several pieces and of holes are told apart by their direction.
        outer = [ring for ring in rings if _area(ring) > 0]
        holes = [ring for ring in rings if _area(ring) <= 0]
        polygons = [[_closed(ring)] for ring in outer]
        for hole in holes:
            owner = next(i for i, ring in enumerate(outer) if _holds(ring, hole))
            polygons[owner].append(_closed(hole))
        kind = "Polygon" if len(polygons) == 1 else "MultiPolygon"
        geometry = {"type": kind, "coordinates": polygons[0] if len(polygons) == 1 else polygons}
        properties = {"objectType": "annotation", "name": f"{number}"}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    text = json.dumps({"type": "FeatureCollection", "features": features})
    path.write_text(text + "\n", encoding="utf-8")


def write_image(path: Path, plane: NDArray[np.generic], *, is_rgb: bool) -> None:
    """Write a plane as TIFF that every tool opens.

    Parameters
    ----------
    path : Path
    plane : (C, Y, X), any real dtype
    is_rgb : bool
        Whether C holds the samples of a colour picture.
    """
    if is_rgb and plane.dtype in (np.uint8, np.uint16) and plane.shape[0] >= 3:
        colours = np.ascontiguousarray(np.moveaxis(plane[:3], 0, -1))
        tifffile.imwrite(path, colours, photometric="rgb")
        return
    if plane.shape[0] == 1:
        tifffile.imwrite(path, plane[0], photometric="minisblack")
        return
    fits = plane.dtype in (np.uint8, np.uint16, np.float32)
    pixels = plane if fits else plane.astype(np.float32)
    tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "CYX"})


def _windows(labels: Int32) -> list[tuple[int, tuple[int, int, Bool]]]:
    found = []
    for number, (y0, y1, x0, x1) in enumerate(bounding_boxes(labels), start=1):
        if y1:
            mask = labels[y0:y1, x0:x1] == number
            found.append((number, (int(y0), int(x0), mask)))
    return found


def _area(ring: NDArray[np.int64]) -> float:
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _closed(ring: NDArray[np.int64]) -> list[list[int]]:
    return [*ring.tolist(), ring[0].tolist()]


def _holds(ring: NDArray[np.int64], hole: NDArray[np.int64]) -> bool:
    # A point half a pixel inside the hole's first corner, seen from the outer ring.
    x, y = hole[0] + 0.25
    following = np.roll(ring, -1, 0)
    crosses = (ring[:, 1] > y) != (following[:, 1] > y)
    edges = ring[crosses], following[crosses]
    return bool((edges[0][:, 0] > x).sum() % 2)


def _colours(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(60, 255, (n, 3), dtype=np.uint8)
