"""Between the specimen and the file: blur, uneven light, what lies about, the camera."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from cellwatch.core.arrays import Float32
from cellwatch.training.specimens.noise import rings, smooth, spots

Rng = np.random.Generator


def photographed(light: Float32, diameter: float, rng: Rng, *, is_clean: bool = False) -> Float32:
    """Return what a camera reads of a field of light, scaled to 0 to 1 before its noise.

    Parameters
    ----------
    light : (Y, X) float32
    diameter : float, px
        Of a typical cell: blur and debris are as large as they can be beside it.
    is_clean : bool
        Without debris and evenly lit, for a second channel.
    """
    size = light.shape[0]
    light = (light - light.min()) / (np.ptp(light) + 1e-9)
    if not is_clean and rng.random() < 0.35:
        light = light + _debris(rng, size, diameter)
    if rng.random() < 0.6:
        light = gaussian_filter(light, rng.uniform(0.3, 0.06 * diameter + 0.5))
    if not is_clean and rng.random() < 0.5:
        light = _unevenly_lit(light, rng)
    if not is_clean and rng.random() < 0.25:  # light of what lies above and below
        light = light + rng.uniform(0.1, 0.6) * gaussian_filter(light, diameter * 0.6)
    light = np.clip(light - light.min(), 0, None)
    light = light / (light.max() + 1e-9)
    if rng.random() < 0.3:
        light = light ** rng.uniform(0.5, 1.8)
    read = _camera(light, rng)
    if rng.random() < 0.08:
        read = read.max() - read
    return np.asarray(read, np.float32)


def _unevenly_lit(light: Float32, rng: Rng) -> Float32:
    size = light.shape[0]
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    centre = rng.uniform(-0.5, 0.5, 2)
    lamp = 1 - rng.uniform(0.1, 0.7) * ((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 2
    if rng.random() < 0.5:
        return np.asarray(light * np.clip(lamp, 0.1, None), np.float32)
    return np.asarray(light + rng.uniform(0.03, 0.2) * smooth(rng, size, size / 4), np.float32)


def _debris(rng: Rng, size: int, diameter: float) -> Float32:
    n = int(rng.integers(2, 40))
    dirt = rng.uniform(-0.7, 0.7) * spots(rng, size, n, (0.7, max(1.0, diameter * 0.08)))
    if rng.random() < 0.3:  # out of focus
        least = max(1.5, 0.08 * diameter)
        circles = rings(rng, size, int(rng.integers(1, 9)), (least, max(least, 0.35 * diameter)))
        dirt = dirt + rng.choice([-1, 1]) * rng.uniform(0.1, 0.6) * circles
    if rng.random() < 0.3:  # edges of plastic, scratches, walls of traps
        y, x = np.mgrid[:size, :size]
        for _ in range(rng.integers(1, 4)):
            angle, at = rng.uniform(0, math.pi), rng.uniform(0, size)
            distance = np.abs(x * math.cos(angle) + y * math.sin(angle) - at)
            band = np.exp(-((distance / rng.uniform(0.8, 4)) ** 2))
            dirt = dirt + rng.uniform(-0.5, 0.5) * band
    return np.asarray(dirt, np.float32)


def _camera(light: Float32, rng: Rng) -> Float32:
    photons = 10 ** rng.uniform(1.2, 3.7)
    read = rng.poisson(light * photons + 1) / photons
    read = read + rng.normal(0, rng.choice([0, 0.005, 0.02, 0.04]), light.shape)
    if rng.random() < 0.3:  # resampled, or binned in between: noise that is not white
        read = gaussian_filter(read, rng.uniform(0.4, 0.8))
    if rng.random() < 0.3:  # few grey levels
        levels = rng.choice([24, 64, 255])
        read = np.round(read * levels) / levels
    return np.asarray(read, np.float32)
