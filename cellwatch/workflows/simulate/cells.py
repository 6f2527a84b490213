"""Render fluorescent nuclei, and expose them as a camera does."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

CAMERA_OFFSET = 100.0  # grey levels
READ_NOISE = 4.0  # grey levels


@dataclass(frozen=True, slots=True)
class Optics:
    """How the pictures look.

    Attributes
    ----------
    diameter : float, px
        Of a typical nucleus.
    density : float
        Part of the field that nuclei cover.
    psf : float, px
        Sigma of the blur.
    photons : float
        Of the brightest pixels.
    shading : float
        How much darker the corners are than the centre, as a fraction.
    """

    diameter: float = 18.0
    density: float = 0.18
    psf: float = 1.2
    photons: float = 900.0
    shading: float = 0.35


def render_cells(
    size: int, optics: Optics, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Render nuclei without noise.

    Returns
    -------
    brightness : (Y, X) float64, 0 to about 1
    labels : (Y, X) int32
    """
    labels = np.zeros((size, size), np.int32)
    bright = np.zeros((size, size))
    area = np.pi * (optics.diameter / 2) ** 2
    wanted = max(1, round(size * size * optics.density / area))
    for _ in range(wanted * 3):
        if labels.max() >= wanted:
            break
        _add_nucleus(labels, bright, optics.diameter, rng)
    return gaussian_filter(bright, optics.psf), labels


def expose(
    brightness: NDArray[np.float64], optics: Optics, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Turn brightness into what a camera reads: shading, haze, shot and read noise."""
    size = brightness.shape[0]
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    centre = rng.uniform(-0.3, 0.3, 2)
    light = 1 - optics.shading * ((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 2
    haze = 0.06 + 0.1 * gaussian_filter(brightness, 12)
    photons = rng.poisson((brightness + haze) * light * optics.photons)
    read = photons + rng.normal(CAMERA_OFFSET, READ_NOISE, photons.shape)
    pixels: NDArray[np.uint16] = np.clip(read, 0, 65535).astype(np.uint16)
    return pixels


def _add_nucleus(
    labels: NDArray[np.int32],
    bright: NDArray[np.float64],
    diameter: float,
    rng: np.random.Generator,
) -> None:
    size = labels.shape[0]
    radius = diameter / 2 * rng.lognormal(0, 0.18)
    stretch, turn = rng.uniform(1, 1.5), rng.uniform(0, np.pi)
    centre = rng.uniform(0, size, 2)
    reach = int(radius * stretch * 1.3) + 2
    y0, x0 = (max(0, int(c) - reach) for c in centre)
    y1, x1 = (min(size, int(c) + reach) for c in centre)
    y, x = np.mgrid[y0:y1, x0:x1]
    dy, dx = y - centre[0], x - centre[1]
    along = (dy * np.sin(turn) + dx * np.cos(turn)) / np.sqrt(stretch)
    across = (dy * np.cos(turn) - dx * np.sin(turn)) * np.sqrt(stretch)
    angle = np.arctan2(across, along)
    lobes = sum(
        a * np.cos(k * angle + p)
        for k, a, p in zip(
            (2, 3, 5), rng.normal(0, 0.05, 3), rng.uniform(0, 2 * np.pi, 3), strict=True
        )
    )
    distance = np.hypot(along, across) / (radius * (1 + lobes))
    inside = distance < 1
    part = labels[y0:y1, x0:x1]
    if inside.sum() < 20 or (part[inside] > 0).mean() > 0.1:
        return
    new = inside & (part == 0)
    part[new] = labels.max() + 1
    texture = gaussian_filter(rng.normal(0, 1, y.shape), 2) * 0.35
    level = rng.uniform(0.35, 0.9)
    bright[y0:y1, x0:x1][new] = level * (1 - 0.35 * distance[new] ** 2 + texture[new])
