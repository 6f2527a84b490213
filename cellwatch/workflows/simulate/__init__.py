"""A microscope that is not there: it renders plausible cells and writes them as instruments do."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from zlib import crc32

import numpy as np

from cellwatch.errors import UsageError
from cellwatch.workflows.simulate import files, streams
from cellwatch.workflows.simulate.cells import Optics, expose, render_cells
from cellwatch.workflows.simulate.instrument import PAUSE_S, Instrument, Simulated

__all__ = [
    "SCENARIOS",
    "Optics",
    "Simulated",
    "expose",
    "render_cells",
    "simulate",
    "write_manifest",
]

Writer = Callable[[Instrument, int], Iterator[Simulated]]
WRITERS: Mapping[str, tuple[Writer, str]] = MappingProxyType(
    {
        "burst": (
            files.burst,
            "all images at once, as fast as the disk allows",
        ),
        "slow": (
            files.slow,
            "each image page by page (two channels), with pauses as between exposures",
        ),
        "rename": (
            files.rename,
            "each image under a temporary name, renamed when it is complete",
        ),
        "timelapse": (
            files.timelapse,
            "one ImageJ hyperstack of n time points",
        ),
        "pause": (
            files.pause,
            "each image in two parts, with a long pause between them",
        ),
        "growing": (
            files.growing,
            "a stack of four pages that is whole after each of them, with a long pause after two",
        ),
        "allocated": (
            files.allocated,
            "each file at its full size first, filled in place after a long pause",
        ),
        "aborted": (
            files.aborted,
            "each image written in part, and never finished",
        ),
        "overwritten": (
            files.overwritten,
            "each image in the place of another, after a long pause; size and time stay the same",
        ),
        "folder": (
            files.folder,
            "all images in a folder that is renamed some time after the last one is written",
        ),
        "outage": (
            files.outage,
            "a folder that is gone for a while after half of the images, as a share may be",
        ),
        "companions": (
            streams.companions,
            "OME-TIFFs of one channel each that belong together; the second comes late",
        ),
        "micromanager": (
            streams.micromanager,
            "Micro-Manager's NDTiff datasets of four time points, with a long pause after two",
        ),
        "zarr": (
            streams.zarr_stream,
            "OME-Zarr stores that declare four time points and are filled one by one",
        ),
    }
)
SCENARIOS = MappingProxyType({name: text for name, (_, text) in WRITERS.items()})


def simulate(
    scenario: str,
    folder: Path,
    n_images: int,
    size: int,
    seed: int,
    on_image: Callable[[], None] = lambda: None,
    pause_s: float = PAUSE_S,
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
    pause_s : float
        How long an instrument rests where its style rests.

    Raises
    ------
    UsageError
        When there is no such scenario.
    """
    if scenario not in WRITERS:
        raise UsageError(f"there is no scenario '{scenario}'; there are {', '.join(WRITERS)}")
    folder.mkdir(parents=True, exist_ok=True)
    # Of each scenario other pictures: two of them in one station are no copies of each other.
    rng = np.random.default_rng([seed, crc32(scenario.encode())])
    instrument = Instrument(folder, size, rng, pause_s)
    written = []
    write, _ = WRITERS[scenario]
    for entry in write(instrument, n_images):
        written.append(entry)
        on_image()
    return written


def write_manifest(path: Path, scenario: str, seed: int, images: list[Simulated]) -> None:
    """Write down what was simulated, as `verify --manifest` reads it."""
    data = {"seed": seed, "scenario": scenario, "images": [asdict(image) for image in images]}
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
