"""Draw a specimen: a kind of cell, its shape, its appearance and its optics, all by chance.

Networks that saw nothing but such drawings find real cells: domain randomisation (Tobin et al.
2017, arXiv:1703.06907; for cells Dey et al. 2024, WACV, "AnyStar"; Hardo et al. 2022, "SyMBac").
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from cellwatch.core.arrays import Float32, Int32
from cellwatch.errors import UsageError
from cellwatch.training.specimens import appearances as look
from cellwatch.training.specimens import rods, shapes
from cellwatch.training.specimens.anatomy import Anatomy, anatomy_of
from cellwatch.training.specimens.optics import photographed
from cellwatch.training.specimens.traps import trap

Rng = np.random.Generator
Shape = Callable[[Rng, int, float], Int32]
Appearance = Callable[[Anatomy, Rng], Float32]

DIAMETERS = (13.0, 46.0)  # px
LEAST_ROIS = 3
TRIES = 20


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of specimen: what its cells may be shaped like, and look like.

    Attributes
    ----------
    shapes, appearances : tuple of callable
        One of each is drawn, all equally often.
    nuclei : float
        In which part of the images a second channel shows the nuclei.
    traps : float
        Fraction of the images that have posts or walls among the cells.
    """

    shapes: tuple[Shape, ...]
    appearances: tuple[Appearance, ...]
    nuclei: float = 0.0
    traps: float = 0.0


SEPARATE = (shapes.blobs, shapes.ovals, shapes.mixed_sizes)
FRAYING = (shapes.tissue, shapes.blobs, shapes.spindles)
BACTERIA = (look.dark_bodies, look.dark_bodies, look.phase, look.filled)
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "fluorescent nuclei": Kind(SEPARATE, (look.filled, look.filled, look.textured)),
        "fluorescent cells": Kind(
            (shapes.tissue, shapes.blobs, shapes.spindles), (look.filled, look.textured), 0.5
        ),
        "membranes": Kind((shapes.tissue, shapes.tissue, shapes.blobs), (look.membrane,), 0.4),
        "adherent in phase contrast": Kind(
            (shapes.tissue, shapes.spindles, shapes.blobs), (look.phase,), 0.35
        ),
        "round in phase contrast": Kind(
            (shapes.buds, shapes.mixed_sizes), (look.phase,), traps=0.2
        ),
        "bacteria": Kind((rods.rods, rods.colony, rods.colony), BACTERIA, traps=0.1),
        "transparent": Kind(
            (shapes.blobs, shapes.tissue, shapes.spindles, rods.rods),
            (look.interference, look.thickness, look.thickness),
            0.2,
        ),
        "yeast in bright field": Kind((shapes.buds, shapes.blobs), (look.bright_field,), traps=0.4),
        "cytology": Kind((shapes.ovals,), (look.nuclei_in_pale_cells,)),
        "stained tissue": Kind((shapes.ovals, shapes.ovals, shapes.blobs), (look.stained_tissue,)),
        "anything": Kind(
            (shapes.tissue, *SEPARATE, rods.rods, rods.colony, shapes.buds, shapes.spindles),
            (
                look.filled,
                look.textured,
                look.membrane,
                look.phase,
                look.interference,
                look.bright_field,
                look.thickness,
            ),
            0.3,
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Specimen:
    """One simulated image.

    Attributes
    ----------
    plane : (2, size, size) float32
        What the camera read, and the nuclei, or zeros.
    labels : (size, size) int32
    kind : str
        A name in `KINDS`.
    diameter : float, px
        That its cells were drawn with; the median ROI is near it.
    """

    plane: Float32
    labels: Int32
    kind: str
    diameter: float


def draw_specimen(rng: Rng, size: int, kind: str = "", diameter: float | None = None) -> Specimen:
    """Draw a specimen; the same generator in the same state draws the same.

    Parameters
    ----------
    rng : numpy.random.Generator
    size : int, px
        Side of the field.
    kind : str
        A name in `KINDS`; "": one by chance, all equally often.
    diameter : float, px, or None
        Of a typical ROI; None: by chance within `DIAMETERS`.

    Raises
    ------
    UsageError
        When there is no such kind, or the field is too small for cells of that diameter.
    """
    if kind and kind not in KINDS:
        raise UsageError(f"there is no kind of specimen '{kind}'; there are {', '.join(KINDS)}")
    name = kind or str(rng.choice(list(KINDS)))
    drawn = KINDS[name]
    wide = diameter if diameter is not None else draw_diameter(rng)
    cells = _cells(rng, size, drawn, wide)
    paint = drawn.appearances[rng.integers(len(drawn.appearances))]
    first = photographed(paint(cells, rng), wide, rng)
    second = np.zeros_like(first)
    if rng.random() < drawn.nuclei:
        second = photographed(look.nuclear_stain(cells, rng), wide, rng, is_clean=True)
    return Specimen(np.stack([first, second]), cells.labels, name, wide)


def draw_diameter(rng: Rng) -> float:
    """Draw a diameter within `DIAMETERS`, in px, each ratio as likely as any other."""
    return math.exp(rng.uniform(math.log(DIAMETERS[0]), math.log(DIAMETERS[1])))


def _cells(rng: Rng, size: int, kind: Kind, diameter: float) -> Anatomy:
    for _ in range(TRIES):
        draw = kind.shapes[rng.integers(len(kind.shapes))]
        labels = draw(rng, size, diameter)
        if draw in FRAYING and rng.random() < 0.4:
            labels = shapes.ragged(rng, labels, diameter)
        posts = trap(rng, size, diameter) if rng.random() < kind.traps else None
        if posts is not None:
            labels[posts > 0] = 0
        labels = shapes.tidied(labels, diameter)
        if labels.max() >= LEAST_ROIS:
            return anatomy_of(labels, diameter, rng, posts)
    raise UsageError(
        f"a field of {size} px is too small for {LEAST_ROIS} cells of {diameter:.0f} px"
    )
