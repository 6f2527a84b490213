"""LIF projects as LAS X writes them, small: a list of images in XML, and a block of pixels each."""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

DIMENSIONS = {"X": 1, "Y": 2, "Z": 3, "T": 4, "λ": 5, "M": 10}
METRES = {"X": 0.5e-6, "Y": 0.5e-6, "Z": 2e-6}  # from pixel to pixel


def write_lif(path: Path, images: Mapping[str, tuple[str, np.ndarray]], *, blocks=None) -> None:
    """Write images, by their names: axes such as "TZCYX", and pixels.

    `blocks` names those whose pixels are written too; the others are in the list alone.
    """
    elements, parts = [], []
    for name, (axes, pixels) in images.items():
        *folders, last = name.split("/")
        inner = _element(last, f"MemBlock_{name}", axes, pixels)
        for folder in reversed(folders):
            inner = f'<Element Name="{folder}"><Children>{inner}</Children></Element>'
        elements.append(inner)
        if blocks is None or name in blocks:
            parts.append(_block(f"MemBlock_{name}", pixels))
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="project.lif"><Children>'
        f"{''.join(elements)}</Children></Element></LMSDataContainerHeader>"
    )
    head = struct.pack("<IIBI", 0x70, 2 * len(xml) + 5, 0x2A, len(xml))
    path.write_bytes(head + xml.encode("utf-16-le") + b"".join(parts))


def _block(name: str, pixels: np.ndarray) -> bytes:
    data = pixels.tobytes()
    rest = struct.pack("<BQBI", 0x2A, len(data), 0x2A, len(name)) + name.encode("utf-16-le")
    return struct.pack("<II", 0x70, len(rest)) + rest + data


def _element(name: str, block: str, axes: str, pixels: np.ndarray) -> str:
    sizes = dict(zip(axes, pixels.shape, strict=True))
    strides = dict(zip(axes, pixels.strides, strict=True))
    bits = 8 * pixels.dtype.itemsize
    channels = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{bits}" '
        'NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" LUTName="Green" IsLUTInverted="0" '
        f'BytesInc="{n * strides.get("C", 0)}" BitInc="0"/>'
        for n in range(sizes.get("C", 1))
    )
    dimensions = "".join(
        f'<DimensionDescription DimID="{DIMENSIONS[axis]}" NumberOfElements="{n}" Origin="0" '
        f'Length="{METRES.get(axis, 0) * (n - 1)}" Unit="m" BitInc="0" '
        f'BytesInc="{strides[axis]}"/>'
        for axis, n in reversed(sizes.items())
        if axis != "C"
    )
    return (
        f'<Element Name="{name}"><Data><Image><ImageDescription><Channels>{channels}</Channels>'
        f"<Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
        f'<Memory Size="{pixels.nbytes}" MemoryBlockID="{block}"/></Element>'
    )
