"""The simulated instrument: it takes pictures, waits, and says which files are complete."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellwatch.images.identity import content_sha256
from cellwatch.workflows.simulate.cells import Optics, expose, render_cells

PIXEL_SIZE_UM = 0.65  # a 10x objective on a 6.5 µm camera
EXPOSURE_S = 0.15
PAUSE_S = 3.0  # longer than a file on a local disk must not change
FIELDS = 32  # of cells, that many pictures share; each has noise of its own

Pixels = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Simulated:
    """One image as the manifest lists it.

    Attributes
    ----------
    path : str
        Of the acquisition, when all was written.
    sha256 : str
        Of its content, as cellwatch names it.
    planes : int
    complete_at : str
        Time of the last write.
    fate : str
        `whole`, `aborted` (never finished) or `overwritten` (by a second image).
    rois : int
    earlier : int
        How many complete contents the file had before, for longer than a moment.
    """

    path: str
    sha256: str
    planes: int
    complete_at: str
    fate: str = "whole"
    rois: int = 0
    earlier: int = 0


@dataclass(frozen=True, slots=True)
class Instrument:
    """A microscope with its camera.

    Attributes
    ----------
    folder : Path
        Into which it writes.
    size : int, px
        Side of the square field.
    rng : numpy Generator
    pause_s, exposure_s : float
        How long it rests where a style rests, and between exposures.
    sleep : callable
        Waits so many seconds.
    """

    folder: Path
    size: int
    rng: np.random.Generator
    pause_s: float = PAUSE_S
    exposure_s: float = EXPOSURE_S
    sleep: Callable[[float], None] = time.sleep
    _fields: list[tuple[NDArray[np.float64], int, Optics]] = field(default_factory=list)

    def picture(self) -> tuple[Pixels, int]:
        """Return an image of a field of nuclei, (Y, X) uint16, and how many there are."""
        light, n_rois, optics = self.field_of_cells()
        return expose(light, optics, self.rng), n_rois

    def series(self, n: int) -> tuple[list[Pixels], int]:
        """Return n images of one field whose cells drift, and how many cells there are."""
        light, n_rois, optics = self.field_of_cells()
        frames = []
        for _ in range(n):
            drift = tuple(int(d) for d in self.rng.integers(-2, 3, 2))
            light = np.roll(light, drift, axis=(0, 1))
            frames.append(expose(light, optics, self.rng))
        return frames, n_rois

    def field_of_cells(self) -> tuple[NDArray[np.float64], int, Optics]:
        """Return the light of a field, (Y, X) float64, how many nuclei it has, and the optics."""
        if len(self._fields) >= FIELDS:
            return self._fields[int(self.rng.integers(FIELDS))]
        optics = Optics(diameter=self.rng.uniform(15, 24), density=self.rng.uniform(0.08, 0.25))
        light, labels = render_cells(self.size, optics, self.rng)
        self._fields.append((light, int(labels.max()), optics))
        return self._fields[-1]

    def rest(self) -> None:
        """Pause for longer than a file has to stand still."""
        self.sleep(self.pause_s)

    def expose(self) -> None:
        """Wait as long as the camera exposes."""
        self.sleep(self.exposure_s)


def finished(
    path: Path, planes: int, rois: int, *, fate: str = "whole", earlier: int = 0
) -> Simulated:
    """Return the manifest's entry of an image that was written as far as it will be."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Simulated(str(path.absolute()), content_sha256(path), planes, now, fate, rois, earlier)
