"""Write and check mask stores: one OME-Zarr group per acquisition.

With the image in the store, the image is the root multiscale and label images lie in
`labels/<target>`. Without it each target is a label multiscale of its own. An acquisition of
several positions has one such group per position, `0`, `1` and so on. The root's attributes carry
under `cellwatch` what is needed to make every label image again.

References
----------
OME-NGFF specification 0.5: multiscales, labels, and the transitional layout for several images.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import BaseZarrError

from cellwatch.core.labels import count_rois
from cellwatch.core.plane_facts import PlaneFacts
from cellwatch.errors import MaskStoreError
from cellwatch.files.publish import written_aside
from cellwatch.images import Planes
from cellwatch.storage.masks.content import Json, StoreContent
from cellwatch.storage.masks.levels import Source, axes_of, write_levels
from cellwatch.storage.masks.ngff import attributes, read_attributes, zarr_format
from cellwatch.storage.masks.plane_facts import read_planes, write_planes

MOST_PROPERTIES = 5000  # ROIs of which each has an entry in the metadata
COLORS = ("FFFFFF", "00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What a look into a mask store found.

    Attributes
    ----------
    problems : tuple of str
        Empty when the store is whole.
    rois : mapping of str to int
        Per target, over all planes.
    provenance : mapping
    """

    problems: tuple[str, ...]
    rois: Mapping[str, int] = field(default_factory=dict)
    provenance: Json = field(default_factory=dict)


def write_store(path: Path, content: StoreContent, superseded: Path) -> dict[str, str]:
    """Write a mask store; it appears whole or not at all.

    Returns the sha256 of each target's label image, as the store has it.

    Parameters
    ----------
    path : Path
        Ends in `.zarr`. An existing store is exchanged and set aside.
    content : StoreContent
    superseded : Path
        The folder for the one set aside.

    Raises
    ------
    OutputError
        When the place cannot be written.
    """
    n_positions = next(iter(content.labels.values())).shape[0]
    with written_aside(path, superseded) as aside:
        root = zarr.create_group(aside, zarr_format=zarr_format(content.version))
        said = _with_hashes(content)
        ome: Json = {"bioformats2raw.layout": 3}
        if n_positions == 1:
            ome = _write_position(root, content, 0)
        else:
            for position in range(n_positions):
                group = root.create_group(str(position))
                inside = _write_position(group, content, position)
                group.attrs.update(attributes(inside, content.version))
        root.attrs.update({"cellwatch": said, **attributes(ome, content.version)})
    return {name: str(facts["labels_sha256"]) for name, facts in said["targets"].items()}


def read_labels(path: Path, target: str) -> NDArray[np.int32]:
    """Read one target's label image of a store as a (P, T, Z, Y, X) int32 array.

    Raises
    ------
    MaskStoreError
        When the store does not hold it.
    """
    provenance = read_provenance(path)
    shape = tuple(provenance["targets"][target]["shape"])
    positions = [""] if shape[0] == 1 else [f"{p}/" for p in range(shape[0])]
    place = f"labels/{target}/0" if provenance["include_image"] else f"{target}/0"
    try:
        arrays = [np.asarray(zarr.open_array(path, path=p + place, mode="r")) for p in positions]
    except (BaseZarrError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise MaskStoreError(f"the labels of '{target}' cannot be read: {error}") from error
    return np.stack(arrays).reshape(shape)


def read_plane(path: Path, target: str, plane: tuple[int, int, int]) -> NDArray[np.int32]:
    """Read one plane of a target's label image, without the others, as (Y, X) int32.

    Parameters
    ----------
    path : Path
    target : str
    plane : (int, int, int)
        Position, time point and z, from 0.

    Raises
    ------
    IndexError
        When there is no such plane; it names how many there are.
    MaskStoreError
        When the store does not hold the target.
    """
    provenance = read_provenance(path)
    n_positions, n_t, n_z, height, width = provenance["targets"][target]["shape"]
    if any(not 0 <= at < n for at, n in zip(plane, (n_positions, n_t, n_z), strict=True)):
        raise IndexError(
            f"{n_positions} positions, {n_t} time points and {n_z} z planes, counted from 0"
        )
    position, t, z = plane
    place = f"{target}/0" if not provenance["include_image"] else f"labels/{target}/0"
    place = place if n_positions == 1 else f"{position}/{place}"
    try:
        array = zarr.open_array(path, path=place, mode="r")
        at = np.unravel_index(t * n_z + z, array.shape[:-2])
        return np.asarray(array[tuple(int(i) for i in at)], np.int32).reshape(height, width)
    except (BaseZarrError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise MaskStoreError(f"the labels of '{target}' cannot be read: {error}") from error


def read_confidences(path: Path, target: str) -> list[float]:
    """Return the confidence of each ROI of a target, in their order; empty: not known."""
    place = f"labels/{target}" if (path / "labels").is_dir() else target
    said = read_attributes(path / place)
    properties = said.get("ome", said).get("image-label", {}).get("properties", [])
    return [float(each["confidence"]) for each in properties]


def read_plane_facts(path: Path, target: str) -> list[PlaneFacts]:
    """Return the facts of a target's planes, in their order; empty: the store has none."""
    n_positions = read_provenance(path)["targets"][target]["shape"][0]
    positions = ["."] if n_positions == 1 else [str(p) for p in range(n_positions)]
    found = []
    for position in positions:
        label = path / position / "labels" / target
        found += read_planes(label if label.is_dir() else path / position / target)
    return found


def read_provenance(path: Path) -> Json:
    """Read what a store says of itself.

    Raises
    ------
    MaskStoreError
        When there is no store, or it is not one of ours.
    """
    try:
        attributes = zarr.open_group(path, mode="r").attrs.asdict()
    except (BaseZarrError, OSError, ValueError, KeyError) as error:
        raise MaskStoreError(f"it cannot be opened as a mask store: {error}") from error
    if "cellwatch" not in attributes:
        raise MaskStoreError("it has no provenance: cellwatch did not write it")
    return dict(attributes["cellwatch"])  # type: ignore[arg-type]  # JSON that we wrote


def check_store(path: Path) -> StoreReport:
    """Read a store and compare its label images with the hashes written beside them."""
    try:
        provenance = read_provenance(path)
        problems: list[str] = []
        rois: dict[str, int] = {}
        for target, facts in provenance["targets"].items():
            labels = read_labels(path, target)
            is_joined = facts.get("planes_apart") == 0
            rois[target] = count_rois(labels, is_joined=is_joined)
            if _sha256(labels) != facts["labels_sha256"]:
                problems.append(f"the labels of '{target}' are not those that were written")
            if rois[target] != facts["rois"]:
                problems.append(f"'{target}' has {rois[target]} ROIs, {facts['rois']} were written")
    except MaskStoreError as error:
        return StoreReport((str(error),))
    return StoreReport(tuple(problems), rois, provenance)


def _write_position(group: zarr.Group, content: StoreContent, position: int) -> Json:
    if content.image is None:
        for target in content.labels:
            _write_labels(group, target, position, content, is_under_image=False)
        return {}
    axes = axes_of(content.axes, has_channels=True)
    scales = write_levels(
        group, _pixels_of(content.image, position, axes), axes, content, is_label=False
    )
    names = group.create_group("labels")
    names.attrs.update(attributes({"labels": list(content.labels)}, content.version))
    for target in content.labels:
        _write_labels(names, target, position, content, is_under_image=True)
    return {**scales, "omero": _omero(content)}


def _pixels_of(image: Planes, position: int, axes: str) -> Source:
    # One position of an image, along those of t, c, z, y, x that are written.
    _, n_t, n_z, n_channels, height, width = image.shape
    lengths = dict(zip("tczyx", (n_t, n_channels, n_z, height, width), strict=True))

    def planes() -> Iterator[tuple[tuple[int, ...], NDArray[np.generic]]]:
        for t, z in np.ndindex(n_t, n_z):
            for channel, plane in enumerate(image.plane(position, t, z)):
                at = {"t": t, "c": channel, "z": z}
                yield tuple(at[axis] for axis in axes if axis in at), plane

    return Source(tuple(lengths[axis] for axis in axes), image.dtype, planes())


def _write_labels(
    parent: zarr.Group,
    target: str,
    position: int,
    content: StoreContent,
    *,
    is_under_image: bool,
) -> None:
    group, labels = parent.create_group(target), content.labels[target][position]
    axes = axes_of(content.axes, has_channels=False)
    kept = [n for n, axis in zip(labels.shape, "tzyx", strict=True) if axis in axes]
    ome = write_levels(group, Source.of(labels.reshape(kept)), axes, content, is_label=True)
    label: Json = {"source": {"image": "../../"}} if is_under_image else {}
    each = content.confidences.get(target, ())
    if 0 < len(each) <= MOST_PROPERTIES:
        numbers = enumerate(each, start=1)
        label["properties"] = [
            {"label-value": number, "confidence": round(float(sure), 4)} for number, sure in numbers
        ]
    group.attrs.update(attributes({**ome, "image-label": label}, content.version))
    if planes := content.planes.get(target):
        n_planes = labels.shape[0] * labels.shape[1]
        write_planes(group, planes[position * n_planes : (position + 1) * n_planes])


def _omero(content: StoreContent) -> Json:
    channels = []
    for index, values in enumerate(content.image.plane(0, 0, 0) if content.image else ()):
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        low, high = (float(v) for v in np.percentile(finite, (1, 99))) if finite.size else (0, 1)
        least, most = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        name = content.channels[index] if index < len(content.channels) else ""
        channels.append(
            {
                "label": name or f"channel {index}",
                "color": COLORS[index % len(COLORS)],
                "active": True,
                "window": {"min": least, "max": most, "start": low, "end": high},
            }
        )
    return {"channels": channels}


def _with_hashes(content: StoreContent) -> Json:
    targets = {
        name: {
            **content.provenance["targets"][name],
            "rois": count_rois(
                labels, is_joined=content.provenance["targets"][name].get("planes_apart") == 0
            ),
            "shape": list(labels.shape),
            "labels_sha256": _sha256(labels),
        }
        for name, labels in content.labels.items()
    }
    return {
        **content.provenance,
        "include_image": content.image is not None,
        "targets": targets,
    }


def _sha256(labels: NDArray[np.int32]) -> str:
    digest = hashlib.sha256()
    for plane in labels.reshape(-1, *labels.shape[-2:]):
        digest.update(np.ascontiguousarray(plane, dtype="<i4").tobytes())
    return digest.hexdigest()
