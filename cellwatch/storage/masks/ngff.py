"""The two versions of OME-Zarr that are written: 0.5 in Zarr 3, and 0.4 in Zarr 2.

What a group says of itself is the same in both. 0.5 puts it under `ome` with one version; 0.4 puts
it at the top, each part with a version of its own.

References
----------
OME-NGFF specifications 0.4 and 0.5.
"""

import json
from pathlib import Path
from typing import Any, Literal

from cellwatch.files.atomic import write_json
from cellwatch.storage.masks.content import Json

Version = Literal["0.5", "0.4"]
V3, V2 = "zarr.json", ".zattrs"  # which file holds the attributes of a group
VERSIONED = {  # parts that have a version of their own
    "0.5": ("plate", "well"),
    "0.4": ("plate", "well", "image-label", "omero"),
}
LEVEL = 3  # of the compression


def zarr_format(version: Version) -> Literal[2, 3]:
    """Return the format of Zarr in which a version is stored."""
    return 3 if version == "0.5" else 2


def attributes(ome: Json, version: Version) -> Json:
    """Return the attributes of a group that says this of itself.

    Examples
    --------
    >>> attributes({"labels": ["cells"]}, "0.5"), attributes({"labels": ["cells"]}, "0.4")
    ({'ome': {'version': '0.5', 'labels': ['cells']}}, {'labels': ['cells']})
    """
    if not ome:
        return {}
    parts = {key: ome[key] for key in VERSIONED[version] if key in ome}
    said = {**ome, **{key: {"version": version, **part} for key, part in parts.items()}}
    if version == "0.5":
        return {"ome": {"version": version, **said}}
    if "multiscales" in said:
        said["multiscales"] = [{"version": version, **each} for each in said["multiscales"]]
    return said


def array_options(
    version: Version, axes: str, chunks: dict[str, Any]
) -> dict[str, Any]:  # Any: of zarr
    """Return the keywords with which an array is created; Zarr 2 has neither shards nor names."""
    if version == "0.5":
        from zarr.codecs import BloscCodec  # here, since the supervisor starts without zarr

        compressor = BloscCodec(cname="zstd", clevel=LEVEL)
        return {"dimension_names": list(axes), "compressors": compressor, **chunks}
    from numcodecs import Blosc

    return {
        "compressors": Blosc(cname="zstd", clevel=LEVEL),
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
        "chunks": chunks["chunks"],
    }


def read_attributes(group: Path) -> Json:
    """Return the attributes of a group; empty: there is none, or it cannot be read."""
    for name in (V3, V2):
        try:
            said = json.loads((group / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        found: Json = said.get("attributes", {}) if name == V3 else said
        return found
    return {}


def write_attributes(group: Path, said: Json) -> None:
    """Replace the attributes of a group that is there."""
    if (group / V3).exists():
        whole = json.loads((group / V3).read_text(encoding="utf-8"))
        write_json(group / V3, {**whole, "attributes": said})
    else:
        write_json(group / V2, said)


def write_group(group: Path, ome: Json, version: Version) -> None:
    """Make a folder a group that says this of itself; nothing is written where it is that."""
    said = attributes(ome, version)
    if version == "0.5":
        _write(group / V3, {"zarr_format": 3, "node_type": "group", "attributes": said})
    else:
        _write(group / ".zgroup", {"zarr_format": 2})
        _write(group / V2, said)


def _write(place: Path, said: Json) -> None:
    try:
        is_there = json.loads(place.read_text(encoding="utf-8")) == said
    except (OSError, ValueError):
        is_there = False
    if not is_there:
        write_json(place, said)
