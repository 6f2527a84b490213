"""Pictures of bright discs, and a tiny network trained to find them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from cellwatch.core.image import normalise, percentiles
from cellwatch.core.network import CPNet, NetworkConfig, fresh_network
from cellwatch.core.parameters import Normalisation
from cellwatch.training.dataset import TrainingImage, training_image
from cellwatch.training.fit import fit
from cellwatch.training.plans import FitPlan

RADIUS = 9


def disc_picture(seed: int, size: int = 128, n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return a (Y, X) uint16 picture of n separate discs with noise, and its labels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((size, size), np.int32)
    y, x = np.mgrid[:size, :size]
    centres: list[np.ndarray] = []
    for _ in range(2000):
        centre = rng.integers(RADIUS + 2, size - RADIUS - 2, 2)
        if all(np.hypot(*(centre - other)) > 2 * RADIUS + 4 for other in centres):
            centres.append(centre)
            labels[np.hypot(y - centre[0], x - centre[1]) <= RADIUS] = len(centres)
        if len(centres) == n:
            break
    bright = np.where(labels > 0, 800.0, 100.0)
    return rng.poisson(bright).astype(np.uint16), labels


def disc_images(n: int) -> list[TrainingImage]:
    images = []
    for seed in range(n):
        picture, labels = disc_picture(seed)
        plane = picture[None].astype(np.float32)
        scaled = normalise(plane, percentiles(plane, Normalisation()))
        images.append(training_image(f"disc{seed}", scaled, labels))
    return images


@contextmanager
def plain_convolutions() -> Iterator[None]:
    """Train without oneDNN, which is slow on a few channels: a tiny network takes half the time."""
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(True)


@cache
def trained_on_discs() -> CPNet:
    config = NetworkConfig(widths=(8, 8, 16, 16), diam_mean=18.0, diam_labels=18.0)
    network = fresh_network(config, 1)
    plan = FitPlan("offline", epochs=60, images_per_epoch=4, batch_size=4, crop=96)
    with TemporaryDirectory() as folder, plain_convolutions():
        for _ in fit(network, disc_images(4), plan, Path(folder), device=torch.device("cpu")):
            pass
    return network
