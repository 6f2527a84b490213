"""The ways in which instruments write what is more than a file: sets, datasets and stores."""

import json
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from cellwatch.workflows.simulate.instrument import (
    PIXEL_SIZE_UM,
    Instrument,
    Pixels,
    Simulated,
    finished,
)

NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
CHANNELS = ("DAPI", "GFP")
NDTIFF_UINT16 = 1  # kind of pixels, in the index of a dataset


def companions(at: Instrument, n: int) -> Iterator[Simulated]:
    """Write OME-TIFFs of one channel each that belong together; the second comes late."""
    for index in range(n):
        planes, rois = at.series(len(CHANNELS))
        paths = [at.folder / f"set_{index:04d}_{name}.ome.tif" for name in CHANNELS]
        xml = _ome_xml(paths, at)
        order = at.rng.permutation(len(paths))
        for number, which in enumerate(order):
            if number:
                at.rest()
            tifffile.imwrite(
                paths[which],
                planes[which],
                photometric="minisblack",
                metadata=None,
                description=xml,
            )
        yield finished(paths[0], 1, rois)


def micromanager(at: Instrument, n: int) -> Iterator[Simulated]:
    """Write Micro-Manager's NDTiff datasets of four time points, with a long pause after two."""
    for number in range(n):
        dataset = at.folder / f"acquisition_{number}"
        dataset.mkdir()
        frames, rois = at.series(4)
        for t, frame in enumerate(frames):
            if t == 2:
                at.rest()
            _append_to_dataset(dataset, frame, t)
            at.expose()
        yield finished(dataset / "NDTiff.index", 4, rois, earlier=1)


def zarr_stream(at: Instrument, n: int) -> Iterator[Simulated]:
    """Write OME-Zarr stores that declare four time points and are filled one by one."""
    for number in range(n):
        store = at.folder / f"stream_{number}.ome.zarr"
        frames, rois = at.series(4)
        _begin_store(store, (4, at.size, at.size))
        for t, frame in enumerate(frames):
            if t == 2:
                at.rest()
            chunk = store / "0" / "c" / str(t) / "0" / "0"
            chunk.parent.mkdir(parents=True)
            chunk.write_bytes(frame.astype("<u2").tobytes())
            at.expose()
        yield finished(store, 4, rois)


def _ome_xml(paths: list[Path], at: Instrument) -> str:
    uuids = [
        uuid.UUID(bytes=at.rng.integers(0, 256, 16, np.uint8).tobytes(), version=4) for _ in paths
    ]
    channels = "".join(
        f'<Channel ID="Channel:0:{c}" Name="{name}" SamplesPerPixel="1"/>'
        for c, name in enumerate(CHANNELS)
    )
    planes = "".join(
        f'<TiffData FirstC="{c}" FirstT="0" FirstZ="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{path.name}">urn:uuid:{each}</UUID></TiffData>'
        for c, (path, each) in enumerate(zip(paths, uuids, strict=True))
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{NAMESPACE}">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" '
        f'SizeX="{at.size}" SizeY="{at.size}" SizeC="{len(paths)}" SizeZ="1" SizeT="1" '
        f'PhysicalSizeX="{PIXEL_SIZE_UM}" PhysicalSizeY="{PIXEL_SIZE_UM}">{channels}{planes}'
        "</Pixels></Image></OME>"
    )


def _append_to_dataset(dataset: Path, frame: Pixels, t: int) -> None:
    stack, index = dataset / "NDTiffStack.tif", dataset / "NDTiff.index"
    where = tifffile.imwrite(
        stack, frame, append=t > 0, photometric="minisblack", metadata=None, returnoffset=True
    )
    offset = where[0] if where else 0
    axes, name = json.dumps({"time": t}).encode(), stack.name.encode()
    height, width = frame.shape
    numbers = (offset, width, height, NDTIFF_UINT16, 0, 0, 0, 0)
    with index.open("ab") as file:
        file.write(struct.pack("<I", len(axes)) + axes + struct.pack("<I", len(name)) + name)
        file.write(struct.pack("<8I", *numbers))


def _begin_store(store: Path, shape: tuple[int, ...]) -> None:
    axes = [{"name": "t", "type": "time"}]
    axes += [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
    scale = [{"type": "scale", "scale": [1.0, PIXEL_SIZE_UM, PIXEL_SIZE_UM]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    multiscale = {"axes": axes, "datasets": datasets}
    said = {"ome": {"version": "0.5", "multiscales": [multiscale]}}
    array = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": "uint16",
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [1, *shape[1:]]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {},
        "dimension_names": ["t", "y", "x"],
    }
    group = {"zarr_format": 3, "node_type": "group", "attributes": said}
    for folder, about in ((store, group), (store / "0", array)):
        folder.mkdir(parents=True)
        (folder / "zarr.json").write_text(json.dumps(about), encoding="utf-8")
