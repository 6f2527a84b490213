"""Segment one plane: the steps of Cellpose in order.

prepare -> network, tile by tile -> follow the flows -> label image -> flow-error check -> clean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from cellwatch.core.arrays import Bool, Float32, Int32
from cellwatch.core.diameter import SMALLEST_DIAMETER, SizeModel, median_diameter
from cellwatch.core.dynamics import STEPS, follow_flows, follow_flows_on
from cellwatch.core.folded import folded
from cellwatch.core.image import (
    cleaned,
    contrast,
    is_blank,
    is_flat,
    normalise,
    percentiles,
    resize,
    scaled_shape,
    with_channels,
)
from cellwatch.core.labels import drop_bad_flows, drop_small, fill_holes, labels_from_endpoints
from cellwatch.core.network import FLOW_SCALE, CPNet
from cellwatch.core.parameters import SegmentationParams
from cellwatch.core.styles import style_windows
from cellwatch.core.tiling import Blend, TileGrid, pad, plan_tiles

SAME_SIZE = 1.15  # two diameters nearer than this factor segment alike: training varies by 1.25
# On a CPU the network gets no more pixels at once than this: larger batches are no faster, and the
# maps of a layer then stay below the size that glibc maps and clears for each of them (32 MiB).
CPU_PIXELS = 416 * 416
LONGER = 2**0.5  # sides of fitted tiles in 16 bits, of which as much memory holds twice the pixels


@dataclass(frozen=True, slots=True)
class Maps:
    """What the network says of one plane, at the network's resolution.

    Attributes
    ----------
    flows : (2, y, x) float32
        Unit vectors in y and x.
    cellprob : (y, x) float32
        Logits.
    style : (256,) float32
        Unit vector; the sum of the tiles' styles, scaled.
    """

    flows: Float32
    cellprob: Float32
    style: Float32


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The label image of one plane and how it came about.

    Attributes
    ----------
    labels : (Y, X) int32
        0 = background, 1..n without gaps.
    style : (256,) float32
        Zeros when the network was not asked.
    diameter : float, px
        To which the plane was scaled.
    cellprob : (Y, X) float32
    flows : (2, Y, X) float32
        As predicted.
    notes : tuple of str
        What a person should know: why there are no ROIs, for example.
    """

    labels: Int32
    style: Float32
    diameter: float
    cellprob: Float32
    flows: Float32
    notes: tuple[str, ...] = ()

    @property
    def n_rois(self) -> int:
        """Return the number of ROIs."""
        return int(self.labels.max(initial=0))


def segment(
    plane: Float32,
    network: CPNet,
    params: SegmentationParams,
    *,
    pixel_size_um: float | None = None,
    limits: Sequence[tuple[float, float]] | None = None,
    size_model: SizeModel | None = None,
    between: Callable[[], None] = lambda: None,
) -> Segmentation:
    """Find the ROIs of one plane.

    Parameters
    ----------
    plane : (C, Y, X), any real dtype
        C is at most the network's number of channels; missing channels are zeros.
    network : CPNet
        In evaluation mode; the work is done on the device it lies on.
    params : SegmentationParams
    pixel_size_um : float or None
        Needed when a parameter is in µm; None: not known.
    limits : sequence of (float, float), or None
        The intensities of each channel that become 0 and 1; None: this plane's percentiles.
    size_model : SizeModel or None
        Gives `diameter: auto` its first estimate; None: the network's mean training diameter.
    between : callable
        Called before and after each time that the network sees the plane: what it needed is free.

    Returns
    -------
    Segmentation

    Raises
    ------
    CalibrationError
        When a parameter is in µm and the pixel size is missing or nonsensical.

    Notes
    -----
    Deterministic for one device. With `normalisation.over == "acquisition"` the caller passes the
    limits, since one plane does not know them.
    """
    plane, notes = cleaned(np.asarray(plane, np.float32))
    known = (pixel_size_um, limits, size_model)
    found = _segmented(plane, network, params, known, between)
    return replace(found, notes=(*notes, *found.notes)) if notes else found


def _segmented(
    plane: Float32,
    network: CPNet,
    params: SegmentationParams,
    known: tuple[float | None, Sequence[tuple[float, float]] | None, SizeModel | None],
    between: Callable[[], None],
) -> Segmentation:
    pixel_size_um, limits, size_model = known
    fixed = params.diameter.in_px(pixel_size_um)
    min_size = params.min_size.in_px(pixel_size_um)
    limits = limits if limits is not None else percentiles(plane, params.normalisation)
    first = fixed if fixed is not None else network.config.diam_labels
    if nothing := _why_empty(plane, limits, params):
        return _empty(plane, network, first, nothing)
    prepared = with_channels(normalise(plane, limits), network.config.channels)
    between()
    if params.diameter.rule != "auto":
        return _segment_at(prepared, network, params, first, min_size, between)
    if size_model:
        first = size_model.estimate(style_of_plane(prepared, network, params))
    rough = _segment_at(prepared, network, params, first, min_size, between)
    found = max(SMALLEST_DIAMETER, median_diameter(rough.labels))
    if not rough.n_rois:
        where = "estimated" if size_model else "model's"
        note = f"no ROI at the {where} diameter of {first:.1f} px, so none was measured"
        return replace(rough, notes=(note,))
    if max(found / first, first / found) < SAME_SIZE:
        return rough
    return _segment_at(prepared, network, params, found, min_size, between)


def style_of_plane(prepared: Float32, network: CPNet, params: SegmentationParams) -> Float32:
    """Return the style of a plane at its own scale.

    Parameters
    ----------
    prepared : (C, Y, X) float32
        Normalised, with the network's number of channels.
    network : CPNet
    params : SegmentationParams
        Tiling and precision.

    Returns
    -------
    (W,) float32, unit vector, over the windows that `style_windows` names.
    """
    total = np.zeros(network.config.widths[-1], np.float32)
    for rows, columns in style_windows((prepared.shape[1], prepared.shape[2])):
        total += predict(prepared[:, rows, columns], network, params).style
    return total / np.linalg.norm(total)


def predict(prepared: Float32, network: CPNet, params: SegmentationParams) -> Maps:
    """Run the network over a prepared plane, tile by tile.

    Parameters
    ----------
    prepared : (C, y, x) float32
        Normalised, with the network's number of channels, at the network's resolution.
    network : CPNet
    params : SegmentationParams
    """
    shape = (prepared.shape[1], prepared.shape[2])
    side, overlap = params.tile, params.tile_overlap
    if params.tiling == "fitted" and params.precision != "float32":
        side, overlap = int(side * LONGER), overlap / LONGER
    grid = plan_tiles(shape, params.tiling, side, overlap, network.config.multiple)
    padded = pad(prepared, grid)
    blend = Blend(3, grid)
    style = np.zeros(network.config.widths[-1], np.float32)
    places = list(grid)
    size = _batch_size(grid, network, params)
    for start in range(0, len(places), size):
        batch = places[start : start + size]
        tiles = np.stack([padded[(slice(None), *place)] for place in batch])
        maps, styles = _run(network, tiles, params.precision)
        for place, tile_maps in zip(batch, maps, strict=True):
            blend.add(place, tile_maps)
        style += styles.sum(axis=0)
    blended = blend.result(shape)
    return Maps(blended[:2] / np.float32(FLOW_SCALE), blended[2], style / np.linalg.norm(style))


def labels_from_maps(
    flows: Float32, cellprob: Float32, params: SegmentationParams, steps: int, device: torch.device
) -> Int32:
    """Turn predicted maps into a checked label image, holes and small ROIs left as they are.

    Parameters
    ----------
    flows : (2, Y, X) float32
        Unit vectors.
    cellprob : (Y, X) float32
    params : SegmentationParams
    steps : int
        Euler steps along the flows.
    device : torch.device
        Where the flows are followed.
    """
    foreground: Bool = cellprob > params.cellprob_threshold
    if not foreground.any():
        return np.zeros(cellprob.shape, np.int32)
    if device.type == "cpu":
        endpoints = follow_flows(flows, foreground, steps)
    else:
        endpoints = follow_flows_on(device, flows, foreground, steps)
    labels = labels_from_endpoints(endpoints, foreground)
    if params.flow_threshold > 0:
        labels = drop_bad_flows(labels, flows, params.flow_threshold)
    return labels


def _segment_at(
    prepared: Float32,
    network: CPNet,
    params: SegmentationParams,
    diameter: float,
    min_size: int,
    between: Callable[[], None],
) -> Segmentation:
    between()
    shape = (prepared.shape[1], prepared.shape[2])
    zoom = network.config.diam_mean / diameter
    maps = predict(resize(prepared, scaled_shape(shape, zoom)), network, params)
    between()
    flows = resize(maps.flows, shape)
    cellprob = resize(maps.cellprob[None], shape)[0]
    device = network.diam_mean.device
    labels = labels_from_maps(flows, cellprob, params, max(1, int(STEPS / zoom)), device)
    cleaned = drop_small(fill_holes(drop_small(labels, min_size)), min_size)
    return Segmentation(cleaned, maps.style, diameter, cellprob, flows)


def _batch_size(grid: TileGrid, network: CPNet, params: SegmentationParams) -> int:
    if network.diam_mean.device.type != "cpu":
        return params.batch_size
    pixels = CPU_PIXELS if params.precision == "float32" else 2 * CPU_PIXELS
    return max(1, min(params.batch_size, pixels // (grid.tile[0] * grid.tile[1])))


def _run(network: CPNet, tiles: Float32, precision: str) -> tuple[Float32, Float32]:
    batch = torch.from_numpy(tiles).to(network.diam_mean.device)
    with torch.inference_mode():
        maps, styles = folded(network, getattr(torch, precision))(batch)
    return maps.cpu().numpy(), styles.cpu().numpy()


def _why_empty(
    plane: Float32, limits: Sequence[tuple[float, float]], params: SegmentationParams
) -> str:
    distance = contrast(limits)
    if is_flat(*limits[0]):
        return "the image is constant"
    if distance < params.min_contrast:
        return f"contrast {distance:.4g} is below min_contrast {params.min_contrast:g}"
    return "nothing but noise" if is_blank(plane[0]) else ""


def _empty(plane: Float32, network: CPNet, diameter: float, note: str) -> Segmentation:
    shape = plane.shape[1:]
    return Segmentation(
        labels=np.zeros(shape, np.int32),
        style=np.zeros(network.config.widths[-1], np.float32),
        diameter=diameter,
        cellprob=np.full(shape, -np.inf, np.float32),
        flows=np.zeros((2, *shape), np.float32),
        notes=(note,),
    )
