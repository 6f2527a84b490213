"""A microscope that is not there: it renders plausible cells and writes them as instruments do."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cellwatch.errors import UsageError
from cellwatch.files.digests import file_sha256

SCENARIOS = {
    "burst": "all images at once, as fast as the disk allows",
    "slow": "each image page by page (two channels), with pauses as between exposures",
    "rename": "each image under a temporary name, renamed when it is complete",
    "timelapse": "one ImageJ hyperstack of n time points",
}
PIXEL_SIZE_UM = 0.65  # a 10x objective on a 6.5 µm camera
EXPOSURE_S = 0.15
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


@dataclass(frozen=True, slots=True)
class Simulated:
    """One image as the manifest lists it."""

    path: str
    sha256: str
    planes: int
    complete_at: str
    fate: str
    rois: int


def simulate(
    scenario: str,
    folder: Path,
    n_images: int,
    size: int,
    seed: int,
    on_image: Callable[[], None] = lambda: None,
) -> list[Simulated]:
    """Write images into a folder as an instrument would.

    Parameters
    ----------
    scenario : str
        A name in `SCENARIOS`.
    folder : Path
    n_images : int
        Images, or time points of a time-lapse.
    size : int, px
        Side of the square field.
    seed : int
    on_image : callable
        Called after each image.

    Raises
    ------
    UsageError
        When there is no such scenario.
    """
    if scenario not in SCENARIOS:
        raise UsageError(f"there is no scenario '{scenario}'; there are {', '.join(SCENARIOS)}")
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    writers = {"burst": _burst, "slow": _slow, "rename": _renamed, "timelapse": _time_lapse}
    written = []
    for entry in writers[scenario](folder, n_images, size, rng):
        written.append(entry)
        on_image()
    return written


def write_manifest(path: Path, scenario: str, seed: int, images: list[Simulated]) -> None:
    """Write down what was simulated, as `verify --manifest` reads it."""
    data = {"seed": seed, "scenario": scenario, "images": [asdict(image) for image in images]}
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


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


def _picture(size: int, rng: np.random.Generator) -> tuple[NDArray[np.uint16], int]:
    optics = Optics(diameter=rng.uniform(15, 24), density=rng.uniform(0.08, 0.25))
    bright, labels = render_cells(size, optics, rng)
    return expose(bright, optics, rng), int(labels.max())


def _burst(folder: Path, n: int, size: int, rng: np.random.Generator) -> Iterator[Simulated]:
    for index in range(n):
        pixels, rois = _picture(size, rng)
        path = folder / f"burst_{index:04d}.tif"
        _write_ome(path, pixels)
        yield _entry(path, 1, rois)


def _slow(folder: Path, n: int, size: int, rng: np.random.Generator) -> Iterator[Simulated]:
    for index in range(n):
        optics = Optics(diameter=rng.uniform(15, 24))
        bright, labels = render_cells(size, optics, rng)
        cytoplasm = gaussian_filter(bright, optics.diameter / 3) * 2
        path = folder / f"slow_{index:04d}.ome.tif"
        metadata = {
            "axes": "CYX",
            "Channel": {"Name": ["DAPI", "GFP"]},
            "PhysicalSizeX": PIXEL_SIZE_UM,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": PIXEL_SIZE_UM,
            "PhysicalSizeYUnit": "µm",
        }

        def pages(
            light: tuple[NDArray[np.float64], ...], o: Optics
        ) -> Iterator[NDArray[np.uint16]]:
            for channel in light:
                time.sleep(EXPOSURE_S)
                yield expose(channel, o, rng)

        tifffile.imwrite(
            path,
            pages((bright, cytoplasm), optics),
            shape=(2, size, size),
            dtype=np.uint16,
            photometric="minisblack",
            ome=True,
            metadata=metadata,
        )
        yield _entry(path, 1, int(labels.max()))


def _renamed(folder: Path, n: int, size: int, rng: np.random.Generator) -> Iterator[Simulated]:
    for index in range(n):
        pixels, rois = _picture(size, rng)
        path = folder / f"frame_{index:04d}.tif"
        aside = folder / f"{path.name}.part"
        _write_ome(aside, pixels)
        time.sleep(EXPOSURE_S)
        aside.rename(path)
        yield _entry(path, 1, rois)


def _time_lapse(folder: Path, n: int, size: int, rng: np.random.Generator) -> Iterator[Simulated]:
    optics = Optics(diameter=20.0, density=0.1)
    bright, labels = render_cells(size, optics, rng)
    path = folder / "timelapse.tif"
    frames = []
    for _ in range(n):
        time.sleep(EXPOSURE_S / 3)
        drift = tuple(int(d) for d in rng.integers(-2, 3, 2))
        bright = np.roll(bright, drift, axis=(0, 1))
        frames.append(expose(bright, optics, rng))
    tifffile.imwrite(
        path,
        np.stack(frames),
        imagej=True,
        resolution=(1 / PIXEL_SIZE_UM, 1 / PIXEL_SIZE_UM),
        metadata={"axes": "TYX", "unit": "um"},
    )
    yield _entry(path, n, int(labels.max()))


def _write_ome(path: Path, pixels: NDArray[np.uint16]) -> None:
    tifffile.imwrite(
        path,
        pixels,
        ome=True,
        photometric="minisblack",
        metadata={
            "axes": "YX",
            "PhysicalSizeX": PIXEL_SIZE_UM,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": PIXEL_SIZE_UM,
            "PhysicalSizeYUnit": "µm",
            "Channel": {"Name": ["DAPI"]},
        },
    )


def _entry(path: Path, planes: int, rois: int) -> Simulated:
    sha256 = file_sha256(path)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Simulated(str(path.absolute()), sha256, planes, now, "whole", rois)
