"""Draw the crops that a network is shown; the same epoch of the same plan draws the same.

Chance comes from the plan's seed and the number of the epoch alone, so a run that continues from a
checkpoint draws what it would have drawn.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from cellwatch.core.arrays import Float32, Float64, Int64
from cellwatch.core.augment import (
    SCALE_RANGE,
    draw_warp,
    vary_intensities,
    warp_checked,
    warp_plane,
    warp_targets,
)
from cellwatch.core.image import normalise, percentiles, with_channels
from cellwatch.core.network import NetworkConfig
from cellwatch.core.parameters import Normalisation
from cellwatch.errors import BadTrainingData
from cellwatch.training.dataset import TrainingImage, training_image
from cellwatch.training.plans import FitPlan
from cellwatch.training.specimens.draw import draw_diameter, draw_specimen

VALIDATION_EPOCH = 2**31  # a number that no epoch has
ROOM = 1.3  # times the side of a crop: for its rotation, and a larger scale
SPECIMEN_SIZES = (96, 448)  # px
EMPTY_SHARE = 0.2  # of all crops, the most that images without ROIs get


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of crops.

    Attributes
    ----------
    tiles : (B, C, S, S) float32
    targets : (B, 3, S, S) float32
        Flow in y, flow in x, 1 inside ROIs.
    checked : (B, S, S) float32, or None
        1 where the targets are used; None: everywhere.
    """

    tiles: Float32
    targets: Float32
    checked: Float32 | None = None


def draw_batches(
    images: Sequence[TrainingImage], plan: FitPlan, config: NetworkConfig, epoch: int
) -> Iterator[Batch]:
    """Draw the batches of one epoch.

    Parameters
    ----------
    images : sequence of TrainingImage
    plan : FitPlan
    config : NetworkConfig
        Each image's median ROI is scaled to its `diam_mean`; an image without ROIs is scaled as if
        they had `diam_labels`, the mean training diameter.
    epoch : int
    """
    rng = np.random.default_rng([plan.seed, epoch])
    order = draw_order(images, plan, rng)
    # Nothing is drawn for a plan without specimens: it draws what it always drew.
    is_simulated = rng.random(len(order)) < plan.simulated if plan.simulated else order < 0
    for start in range(0, len(order), plan.batch_size):
        places = slice(start, start + plan.batch_size)
        chosen = [
            specimen_image(plan, config, rng) if simulated else images[i]
            for i, simulated in zip(order[places], is_simulated[places], strict=True)
        ]
        yield _batch(chosen, plan, config, rng, SCALE_RANGE)


def specimen_image(plan: FitPlan, config: NetworkConfig, rng: np.random.Generator) -> TrainingImage:
    """Draw a simulated specimen, large enough for one crop of it at the network's diameter."""
    kind = str(rng.choice(plan.kinds)) if plan.kinds else ""
    diameter = draw_diameter(rng)
    size = int(np.clip(ROOM * plan.crop * diameter / config.diam_mean, *SPECIMEN_SIZES))
    specimen = draw_specimen(rng, size, kind, diameter)
    plane = specimen.plane[: config.channels]
    normalised = normalise(plane, percentiles(plane, Normalisation()))
    return training_image(specimen.kind, normalised, specimen.labels, cluster=specimen.kind)


def draw_order(images: Sequence[TrainingImage], plan: FitPlan, rng: np.random.Generator) -> Int64:
    """Draw which images an epoch shows, in order.

    A balanced plan draws with replacement, each cluster with the same probability (Pachitariu &
    Stringer 2022, Methods: the generalist model). Otherwise each image comes once when the epoch
    is as long as the set, and is drawn with replacement when it is not. Where images without ROIs
    would take more than `EMPTY_SHARE` of the crops, on average they take just that, or the network
    learns to find nothing.
    """
    n = plan.images_per_epoch
    is_empty = np.array([image.n_rois == 0 for image in images])
    weights = (
        balanced_weights(images) if plan.is_balanced else np.full(len(images), 1 / len(images))
    )
    if weights[is_empty].sum() > EMPTY_SHARE and not is_empty.all():
        n_empty = int(n * EMPTY_SHARE + rng.random())
        parts = (np.flatnonzero(~is_empty), n - n_empty), (np.flatnonzero(is_empty), n_empty)
        drawn = [_drawn(part, size, weights, plan, rng) for part, size in parts]
        return rng.permutation(np.concatenate(drawn))
    if plan.is_balanced:
        return rng.choice(len(images), size=n, p=weights)
    if n == len(images):
        return rng.permutation(n)
    return rng.integers(len(images), size=n)


def _drawn(
    part: Int64, size: int, weights: Float64, plan: FitPlan, rng: np.random.Generator
) -> Int64:
    if plan.is_balanced:
        return rng.choice(part, size=size, p=weights[part] / weights[part].sum())
    rounds = [rng.permutation(part) for _ in range(math.ceil(size / len(part)))]
    return np.concatenate([part[:0], *rounds])[:size]


def balanced_weights(images: Sequence[TrainingImage]) -> Float64:
    """Return the probability of each image when each cluster has the same.

    Returns
    -------
    (n,) float64, sums to one.
    """
    names, cluster_of, sizes = np.unique(
        [image.cluster for image in images], return_inverse=True, return_counts=True
    )
    return np.asarray(1 / (len(names) * sizes[cluster_of]), np.float64)


def validation_batches(
    images: Sequence[TrainingImage], plan: FitPlan, config: NetworkConfig
) -> Iterator[Batch]:
    """Draw the batches that an epoch is judged by: each image once, the same crops every time."""
    rng = np.random.default_rng([plan.seed, VALIDATION_EPOCH])
    for start in range(0, len(images), plan.batch_size):
        chosen = images[start : start + plan.batch_size]
        yield _batch(chosen, replace(plan, intensity=False), config, rng, 0.0)


def batches_ahead(
    pool: ThreadPoolExecutor,
    images: Sequence[TrainingImage],
    plan: FitPlan,
    config: NetworkConfig,
    epoch: int,
    step: int,
) -> Iterator[Batch]:
    """Yield the batches of a run from a step of an epoch on, each drawn before it is asked for.

    One batch is always being drawn in `pool` while the network works on the one before.
    """
    batches = (
        batch
        for n in range(epoch, plan.epochs)
        for batch in islice(draw_batches(images, plan, config, n), step if n == epoch else 0, None)
    )
    pending: Future[Batch | None] = pool.submit(next, batches, None)
    while (batch := pending.result()) is not None:
        pending = pool.submit(next, batches, None)
        yield batch


def _batch(
    images: Sequence[TrainingImage],
    plan: FitPlan,
    config: NetworkConfig,
    rng: np.random.Generator,
    scale_range: float,
) -> Batch:
    # Specimens have what the network is fed; images beside them get channels of zeros, as in use.
    channels, crop = images[0].plane.shape[0], plan.crop
    if plan.simulated:
        channels = config.channels
    elif any(image.plane.shape[0] != channels for image in images):
        raise BadTrainingData("some images have one channel and some two; choose with --channels")
    tiles = np.empty((len(images), channels, crop, crop), np.float32)
    targets = np.empty((len(images), 3, crop, crop), np.float32)
    is_partly = any(image.checked is not None for image in images)
    checked = np.ones((len(images), crop, crop), np.float32) if is_partly else None
    for index, image in enumerate(images):
        zoom = config.diam_mean / (image.diameter or config.diam_labels)
        warp = draw_warp(image.labels.shape, crop, zoom, rng, scale_range)
        warp_plane(with_channels(image.plane, channels), warp, tiles[index])
        if plan.intensity:
            vary_intensities(tiles[index], rng)
        warp_targets(image.labels, image.flows, warp, targets[index])
        if checked is not None:
            warp_checked(image.checked, image.labels.shape, warp, checked[index])
    return Batch(tiles, targets, checked)
