"""The ways in which instruments write single files."""

import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cellwatch.workflows.simulate.cells import expose
from cellwatch.workflows.simulate.instrument import (
    PIXEL_SIZE_UM,
    Instrument,
    Pixels,
    Simulated,
    finished,
)

CUT_AT = 0.6  # of a file's bytes that are there when its writer rests or gives up
AWAY = ".away"  # what is added to the name of a folder that is gone for a while


def burst(at: Instrument, n: int) -> Iterator[Simulated]:
    """Write all images at once, as fast as the disk allows."""
    for index in range(n):
        pixels, rois = at.picture()
        path = at.folder / f"burst_{index:04d}.tif"
        path.write_bytes(ome_tiff(pixels))
        yield finished(path, 1, rois)


def slow(at: Instrument, n: int) -> Iterator[Simulated]:
    """Write each image page by page (two channels), with pauses as between exposures."""
    for index in range(n):
        light, rois, optics = at.field_of_cells()
        cytoplasm = gaussian_filter(light, optics.diameter / 3) * 2

        def pages(channels: Sequence[NDArray[np.float64]]) -> Iterator[Pixels]:
            for channel in channels:
                at.expose()
                yield expose(channel, optics, at.rng)  # noqa: B023  used before the next image

        path = at.folder / f"slow_{index:04d}.ome.tif"
        tifffile.imwrite(
            path,
            pages((light, cytoplasm)),
            shape=(2, at.size, at.size),
            dtype=np.uint16,
            photometric="minisblack",
            ome=True,
            metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}, **_sides()},
        )
        yield finished(path, 1, rois)


def rename(at: Instrument, n: int) -> Iterator[Simulated]:
    """Write each image under a temporary name, renamed when it is complete."""
    for index in range(n):
        pixels, rois = at.picture()
        path = at.folder / f"frame_{index:04d}.tif"
        aside = at.folder / f"{path.name}.part"
        aside.write_bytes(ome_tiff(pixels))
        at.expose()
        aside.rename(path)
        yield finished(path, 1, rois)


def timelapse(at: Instrument, n: int) -> Iterator[Simulated]:
    """Write one ImageJ hyperstack of n time points."""
    frames, rois = at.series(n)
    path = at.folder / "timelapse.tif"
    at.sleep(n * at.exposure_s / 3)
    tifffile.imwrite(
        path,
        np.stack(frames),
        imagej=True,
        resolution=(1 / PIXEL_SIZE_UM, 1 / PIXEL_SIZE_UM),
        metadata={"axes": "TYX", "unit": "um"},
    )
    yield finished(path, n, rois)


def pause(at: Instrument, n: int) -> Iterator[Simulated]:
    """Write each image in two parts, with a long pause between them."""
    for index in range(n):
        pixels, rois = at.picture()
        path = at.folder / f"pause_{index:04d}.tif"
        data = ome_tiff(pixels)
        cut = int(len(data) * CUT_AT)
        path.write_bytes(data[:cut])
        at.rest()
        with path.open("ab") as file:
            file.write(data[cut:])
        yield finished(path, 1, rois)


def growing(at: Instrument, n: int) -> Iterator[Simulated]:
    """Write a stack of four pages that is whole after each of them, with a long pause after two."""
    for index in range(n):
        frames, rois = at.series(4)
        path = at.folder / f"growing_{index:04d}.tif"
        for number, frame in enumerate(frames):
            if number == 2:
                at.rest()
            tifffile.imwrite(
                path, frame, append=number > 0, photometric="minisblack", metadata=None
            )
        yield finished(path, 4, rois, earlier=1)


def allocated(at: Instrument, n: int) -> Iterator[Simulated]:
    """Write each file at its full size first, filled in place after a long pause."""
    for index in range(n):
        pixels, rois = at.picture()
        path = at.folder / f"allocated_{index:04d}.tif"
        data = plain_tiff(pixels)
        first = data.index(pixels.tobytes())
        path.write_bytes(data[:first] + bytes(pixels.nbytes) + data[first + pixels.nbytes :])
        at.rest()
        with path.open("r+b") as file:
            file.seek(first)
            file.write(pixels.tobytes())
        yield finished(path, 1, rois)


def aborted(at: Instrument, n: int) -> Iterator[Simulated]:
    """Write each image written in part, and never finished."""
    for index in range(n):
        pixels, rois = at.picture()
        path = at.folder / f"aborted_{index:04d}.tif"
        data = ome_tiff(pixels)
        path.write_bytes(data[: int(len(data) * CUT_AT)])
        yield finished(path, 1, rois, fate="aborted")


def overwritten(at: Instrument, n: int) -> Iterator[Simulated]:
    """Write each image in the place of another, after a long pause; size and time stay the same."""
    for index in range(n):
        path = at.folder / f"overwritten_{index:04d}.tif"
        path.write_bytes(plain_tiff(at.picture()[0]))
        written = path.stat()
        at.rest()
        pixels, rois = at.picture()
        path.write_bytes(plain_tiff(pixels))
        os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
        yield finished(path, 1, rois, fate="overwritten", earlier=1)


def folder(at: Instrument, n: int) -> Iterator[Simulated]:
    """Write all images in a folder that is renamed some time after the last one is written."""
    during, after = at.folder / "acquiring", at.folder / "run_1"
    during.mkdir()
    rois = []
    for index in range(n):
        pixels, found = at.picture()
        (during / f"image_{index:04d}.tif").write_bytes(ome_tiff(pixels))
        rois.append(found)
    at.rest()
    during.rename(after)
    for index, found in enumerate(rois):
        yield finished(after / f"image_{index:04d}.tif", 1, found)


def outage(at: Instrument, n: int) -> Iterator[Simulated]:
    """Write a folder that is gone for a while after half of the images, as a share may be."""
    away = at.folder.with_name(f"{at.folder.name}{AWAY}")
    for index in range(n):
        if index == n // 2:
            at.folder.rename(away)
            at.rest()
            away.rename(at.folder)
        pixels, rois = at.picture()
        path = at.folder / f"outage_{index:04d}.tif"
        path.write_bytes(ome_tiff(pixels))
        yield finished(path, 1, rois)


def ome_tiff(pixels: Pixels) -> bytes:
    """Return the bytes of an OME-TIFF of one plane."""
    file = io.BytesIO()
    metadata = {"axes": "YX", "Channel": {"Name": ["DAPI"]}, **_sides()}
    tifffile.imwrite(file, pixels, ome=True, photometric="minisblack", metadata=metadata)
    return file.getvalue()


def plain_tiff(pixels: Pixels) -> bytes:
    """Return the bytes of a TIFF of one uncompressed page without any metadata."""
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="minisblack", metadata=None)
    return file.getvalue()


def _sides() -> dict[str, Any]:  # Any: what tifffile takes
    sides = {f"PhysicalSize{axis}": PIXEL_SIZE_UM for axis in "XY"}
    return {**sides, **{f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}}
