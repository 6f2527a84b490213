"""How cells look: each function paints the light that an instrument would see of an anatomy.

All return a (size, size) float32 field in units of its own; optics follow.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, shift
from scipy.spatial import cKDTree

from cellwatch.core.arrays import Float32
from cellwatch.training.specimens.anatomy import Anatomy
from cellwatch.training.specimens.noise import fibres, smooth, spots, texture

Rng = np.random.Generator


def filled(cells: Anatomy, rng: Rng) -> Float32:
    """Paint cells that are bright throughout, as with a dye of the cytoplasm or the nucleus."""
    profile = 1 - rng.uniform(-0.4, 0.8) * (1 - cells.height(rng.uniform(0, 1)))
    light = cells.inside * cells.each(rng, rng.uniform(0.05, 0.6)) * profile
    light = light * (1 + rng.uniform(0, 0.45) * _grain(cells, rng))
    if rng.random() < 0.45:  # the nucleus is spared, or stands out
        light = light * (1 + rng.uniform(-0.8, 0.9) * cells.nuclei)
    light = light + rng.uniform(0, 0.7) * cells.border(rng.uniform(0.7, 2.5)) * (rng.random() < 0.3)
    return _on_background(light, cells, rng)


def textured(cells: Anatomy, rng: Rng) -> Float32:
    """Paint cells that are full of grains, holes or filaments."""
    size, d = cells.size, cells.diameter
    kind = rng.choice(["grains", "grains", "filaments", "spots", "spots"])
    if kind == "grains":
        inner = np.abs(texture(rng, size, 0.6, d / 4))
    elif kind == "filaments":
        bundles = np.clip(texture(rng, size, 1, d / 2) + 0.6, 0, 1.5)
        inner = (np.clip(fibres(rng, size, rng.uniform(0.6, 1.2), d), -0.6, 2) + 0.6) * bundles
    else:  # vacuoles, or granules
        n = int(size * size / (d * d) * rng.uniform(3, 25))
        inner = 1 + rng.choice([-0.9, 1.2]) * spots(rng, size, n, (0.7, max(1.0, d / 12)))
    light = cells.inside * cells.each(rng, rng.uniform(0, 0.5))
    light = light * (rng.uniform(0.1, 0.5) + inner * cells.height(rng.uniform(0.3, 1)))
    if rng.random() < 0.4:
        light = light * (1 - rng.uniform(0.3, 1) * cells.nuclei)
    return _on_background(light, cells, rng)


def membrane(cells: Anatomy, rng: Rng) -> Float32:
    """Paint cells whose borders are bright: sharp, broken, or over a dim inside."""
    line = cells.border(rng.uniform(0.7, 2.2)) + 0.5 * np.exp(-(cells.outer**2)) * ~cells.inside
    if rng.random() < 0.5:  # unevenly stained
        line = line * np.clip(1 + 0.6 * smooth(rng, cells.size, cells.diameter * 0.4), 0.05, 2)
    light = line * cells.each(rng, rng.uniform(0, 0.4))
    light = light + cells.inside * rng.uniform(0, 0.5) * (1 + 0.3 * _grain(cells, rng))
    if rng.random() < 0.35:
        light = light + rng.uniform(-0.3, 0.6) * cells.nuclei
    return _on_background(light, cells, rng)


def phase(cells: Anatomy, rng: Rng) -> Float32:
    """Paint phase contrast: thick is dark, with a halo around it and shade-off in it."""
    thick = _thickness(cells, rng)
    reach = rng.uniform(0.12, 0.5) * cells.diameter + 1.5
    light = 1 - rng.uniform(0.5, 1.6) * (
        thick - rng.uniform(0.6, 1) * gaussian_filter(thick, reach)
    )
    rim = np.exp(-cells.outer / rng.uniform(0.8, 2.5)) * ~cells.inside
    light = light + rng.uniform(0, 0.6) * rim
    if rng.random() < 0.35:  # cells that round up shine
        light = light + rng.uniform(0.3, 1.2) * cells.height(0.2) * (cells.each(rng, 1) > 1.8)
    if rng.random() < 0.5:
        light = light - rng.uniform(0, 0.4) * cells.border(rng.uniform(0.8, 2))
    return np.asarray(light + rng.uniform(0, 0.05) * texture(rng, cells.size, 1, 8), np.float32)


def dark_bodies(cells: Anatomy, rng: Rng) -> Float32:
    """Paint bacteria in phase contrast: dark and even, bright lines between, a halo around all."""
    body = cells.inside * cells.each(rng, rng.uniform(0, 0.2))
    body = gaussian_filter(body, rng.uniform(0.4, 0.9)) + cells.trap * rng.uniform(0.4, 1.2)
    reach = rng.uniform(0.15, 0.6) * cells.diameter + 1.5
    crowd = gaussian_filter(body, reach)
    near = gaussian_filter(body, rng.uniform(1.5, 3)) - body
    light = 1 - rng.uniform(0.7, 1) * body + rng.uniform(0.1, 0.7) * crowd * (body < 0.5)
    light = light + rng.uniform(0, 0.5) * np.clip(near, 0, None) - rng.uniform(0, 0.3) * crowd
    ground = rng.uniform(0, 0.06) * texture(rng, cells.size, 1, 12)
    return np.asarray(light + ground, np.float32)


def interference(cells: Anatomy, rng: Rng) -> Float32:
    """Paint DIC: the slope of the thickness in one direction, as if lit from a side."""
    angle, shear = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 2)
    thick = gaussian_filter(_thickness(cells, rng), rng.uniform(0.4, 1.2))
    move = (shear * math.sin(angle), shear * math.cos(angle))
    slope = shift(thick, move, order=1, mode="nearest") - shift(
        thick, (-move[0], -move[1]), order=1, mode="nearest"
    )
    light = 1 + rng.uniform(0.6, 2.5) * slope + rng.uniform(-0.1, 0.1) * cells.inside
    return np.asarray(light + rng.uniform(0, 0.05) * texture(rng, cells.size, 1, 8), np.float32)


def bright_field(cells: Anatomy, rng: Rng) -> Float32:
    """Paint bright field out of focus: dark and bright rings at the borders, little inside."""
    thick = _thickness(cells, rng)
    near = rng.uniform(0.6, 1.6)
    far = near * rng.uniform(1.5, 3)
    rings = gaussian_filter(thick, near) - gaussian_filter(thick, far)
    light = 1 + rng.choice([-1, 1]) * rng.uniform(1, 5) * rings
    light = light - rng.uniform(-0.05, 0.35) * cells.height(rng.uniform(0, 1))
    line = cells.border(rng.uniform(0.7, 2))
    return np.asarray(light - rng.uniform(0, 0.5) * line * cells.each(rng, 0.2), np.float32)


def thickness(cells: Anatomy, rng: Rng) -> Float32:
    """Paint quantitative phase: each pixel as bright as its cell is thick, on an even ground.

    Cells that have rounded up outshine the others by far, and many end in a thin, dim hem.
    """
    light = _thickness(cells, rng) * cells.each(rng, rng.uniform(0.1, 0.8))
    if rng.random() < 0.6:  # steep in the middle, thin at the edge
        hem = rng.uniform(0.02, 0.2) * cells.inside
        light = hem + light * cells.rise ** rng.uniform(0.5, 2)
    if rng.random() < 0.5:
        n = int(cells.size**2 / cells.diameter**2 * rng.uniform(2, 25))
        dots = spots(rng, cells.size, n, (0.6, 1.4), cells.inside)
        light = light + rng.uniform(0, 0.5) * dots
    return np.asarray(light + rng.uniform(0, 0.06) * smooth(rng, cells.size, 12), np.float32)


def nuclei_in_pale_cells(cells: Anatomy, rng: Rng) -> Float32:
    """Paint dark nuclei, the ROIs, in large pale cells whose borders are none of theirs."""
    size, d = cells.size, cells.diameter
    density = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(1, 5)):  # layers of cells that lie over each other
        density += _sheet(rng, size, d * rng.uniform(2.5, 8), cells)
    density = np.minimum(density, 1.2)
    around = np.exp(-cells.outer / (d * rng.uniform(1.2, 3)))  # cytoplasm
    density += rng.uniform(0, 0.25) * around
    dark = cells.inside * cells.each(rng, rng.uniform(0.05, 0.4)) * rng.uniform(0.6, 2)
    dark = dark * (1 + rng.uniform(0, 0.4) * _grain(cells, rng)) + 0.3 * cells.border(1.2)
    return np.asarray(np.exp(-density - dark), np.float32)


def _sheet(rng: Rng, size: int, reach: float, cells: Anatomy) -> Float32:
    # Of flat cells with straight, crisp borders, folds, and grains; some are much darker.
    y, x = np.mgrid[:size, :size].astype(np.float32)
    points = rng.uniform(-reach, size + reach, (int((size / reach + 2) ** 2 * 1.2) + 2, 2))
    bent = np.stack([y, x], -1) + 0.08 * reach * smooth(rng, size, reach * 0.25)[..., None]
    found = cKDTree(points).query(bent.reshape(-1, 2), k=2)
    far, nearest = np.asarray(found[0]), np.asarray(found[1])
    to_border = (far[:, 1] - far[:, 0]).reshape(size, size)
    number = nearest[:, 0].reshape(size, size)
    depth = rng.lognormal(-1.2, 0.7, len(points)) * (
        rng.random(len(points)) < rng.uniform(0.2, 0.8)
    )
    level = depth[number] * (to_border > rng.uniform(0, 0.2) * reach)
    hem = np.exp(-((to_border - 0.1 * reach) ** 2) / rng.uniform(1, 8)) * rng.uniform(0, 0.8)
    grains = spots(rng, size, int(size * size * rng.uniform(0, 0.02)), (0.6, 1.3))
    level = level * (1 + hem + rng.uniform(0, 1) * grains + 0.3 * texture(rng, size, 1, reach / 4))
    if rng.random() < 0.4:  # nowhere but around the nuclei
        level = level * (cells.outer + reach * 0.5 * smooth(rng, size, reach * 0.3) < reach)
    return gaussian_filter(np.clip(level, 0, None), rng.uniform(0.4, 1)).astype(np.float32)


def stained_tissue(cells: Anatomy, rng: Rng) -> Float32:
    """Paint nuclei in a stained section (H&E and others), as grey: the mean of red, green, blue."""
    size, d = cells.size, cells.diameter
    stroma = 0.5 + 0.3 * texture(rng, size, 1.5, d)
    if rng.random() < 0.6:
        stroma += rng.uniform(0.1, 0.4) * fibres(rng, size, d * rng.uniform(0.15, 0.4), d * 2)
    if rng.random() < 0.6:  # lumen and fat: nothing is stained there
        hole = smooth(rng, size, d * rng.uniform(1, 4)) > rng.uniform(0.4, 1.6)
        stroma *= 1 - gaussian_filter(hole.astype(np.float32), 1.2) * ~cells.inside
    eosin = np.clip(stroma, 0.02, 2) * rng.uniform(0.2, 1.0)
    chromatin = np.clip(1 + rng.uniform(0.1, 0.6) * texture(rng, size, 0.6, d / 5), 0.1, 2)
    nuclei = cells.inside * cells.each(rng, rng.uniform(0.1, 0.45)) * chromatin
    nuclei = nuclei * (1 - rng.uniform(0, 0.6) * cells.height(0.3))  # pale inside, dark rim
    if rng.random() < 0.5:  # nuclei above and below the focus, which nobody outlines
        n = int((size / d) ** 2 * rng.uniform(0.1, 0.6)) + 1
        nuclei = nuclei + rng.uniform(0.1, 0.5) * spots(rng, size, n, (d * 0.2, d * 0.4))
    haematoxylin = rng.uniform(0.5, 1.6) * nuclei + rng.uniform(0, 0.25) * np.clip(stroma, 0, 2)
    blue = _near(rng, (0.65, 0.70, 0.29))  # Ruifrok & Johnston 2001
    pink = _near(rng, (0.07, 0.99, 0.11))
    light = np.exp(-(haematoxylin[..., None] * blue + eosin[..., None] * pink))
    return np.asarray(light.mean(axis=-1), np.float32)


def nuclear_stain(cells: Anatomy, rng: Rng) -> Float32:
    """Paint the nuclei of the cells alone, for a second channel; some cells may lack it."""
    light = cells.nuclei * cells.each(rng, rng.uniform(0.1, 0.5))
    light = light * (1 + rng.uniform(0, 0.35) * texture(rng, cells.size, 0.7, 5))
    return np.asarray(light + rng.uniform(0, 0.15) * cells.inside, np.float32)


def _near(rng: Rng, vector: tuple[float, float, float]) -> Float32:
    turned = np.clip(np.array(vector) + rng.normal(0, 0.12, 3), 0.02, 1.2)
    return np.asarray(turned / np.linalg.norm(turned), np.float32)


def _grain(cells: Anatomy, rng: Rng) -> Float32:
    return np.clip(texture(rng, cells.size, 0.6, cells.diameter / 3), -2, 2.5)


def _thickness(cells: Anatomy, rng: Rng) -> Float32:
    # Of transparent cells: what phase contrast, DIC and bright field are made of.
    thick = cells.height(rng.uniform(0, 1)) * cells.each(rng, rng.uniform(0, 0.4))
    thick = thick + rng.uniform(-0.3, 0.6) * cells.nuclei * (rng.random() < 0.7)
    thick = thick + cells.inside * rng.uniform(0, 0.2) * texture(rng, cells.size, 0.7, 4)
    d = cells.diameter
    if rng.random() < 0.6:  # nucleoli, granules, vacuoles
        n = int(cells.size**2 / (d * d) * rng.uniform(1, 15))
        dots = spots(rng, cells.size, n, (0.6, max(0.8, d / 14)), cells.inside)
        thick = thick + rng.uniform(-0.4, 0.6) * dots
    return np.asarray(thick + rng.uniform(0.5, 2) * cells.trap, np.float32)


def _on_background(light: NDArray[np.floating], cells: Anatomy, rng: Rng) -> Float32:
    # Haze, uneven background, and now and then cells that are out of focus.
    ground = rng.uniform(0, 0.4) * (1 + rng.uniform(0, 0.5) * smooth(rng, cells.size, 40))
    if rng.random() < 0.3:
        ground = ground + rng.uniform(0.02, 0.25) * np.abs(texture(rng, cells.size, 1, 15))
    if rng.random() < 0.25:
        n = int((cells.size / cells.diameter) ** 2 * 0.3) + 1
        ghosts = spots(rng, cells.size, n, (cells.diameter * 0.4, cells.diameter * 0.8))
        ground = ground + rng.uniform(0.05, 0.3) * ghosts
    dim = rng.choice([1.0, 1.0, 1.0, rng.uniform(0.1, 0.4)])
    return np.asarray(dim * light + ground, np.float32)
