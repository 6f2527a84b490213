"""What is written beside a mask store: the plate around it, label TIFFs, tables, the preview."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cellwatch.core.arrays import Float64, Int32
from cellwatch.errors import OutputError
from cellwatch.files.publish import sweep, why_unwritable
from cellwatch.files.stems import stem_of
from cellwatch.images import Planes
from cellwatch.records import Job, TargetResult
from cellwatch.storage.masks.exports import BESIDE, Exported, export
from cellwatch.storage.masks.label_tiff import beside, write_label_tiff
from cellwatch.storage.masks.measurements import KINDS, measured, table_beside, write_table
from cellwatch.storage.masks.plates import plate_of, version_of, write_plate
from cellwatch.storage.previews.preview import Shown, caption, preview_beside, write_preview

Labels = Mapping[str, Int32]  # (P, T, Z, Y, X), by target


@contextlib.contextmanager
def writing(store: Path) -> Iterator[None]:
    """Turn what the system refuses at an output place into an `OutputError`."""
    # Whatever the system refuses here is the output folder's fault, and waits until it is repaired.
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(why_unwritable(store, error)) from error


def write_plate_around(job: Job) -> None:
    """Write what makes the folders around a field's store a plate; nothing where it is none."""
    plate = plate_of(Path(job.store))
    if job.include_image and plate is not None:
        write_plate(plate, version_of(plate) or job.ome_zarr)


def needs_image(job: Job) -> bool:
    """Say whether anything beside the store is made from the image."""
    return job.has_preview or any(kind in (*KINDS, *BESIDE) for kind in job.also)


def _pixel_size(job: Job, image: Planes | None) -> float | None:
    return job.pixel_size_um or (image.info.pixel_size_um if image is not None else None)


def _exported(
    job: Job, labels: Labels, image: Planes, results: Sequence[TargetResult]
) -> Iterator[Exported]:
    stem = stem_of(Path(job.store).name.removesuffix(".zarr"))
    for each in results:
        channels = tuple(int(channel["index"]) for channel in each.channels)
        name = each.name if len(results) > 1 else ""
        yield Exported(stem, name, labels[each.name], channels, _pixel_size(job, image))


@dataclass(frozen=True, slots=True)
class Made:
    """What was made of an image.

    Attributes
    ----------
    labels : mapping of str to (P, T, Z, Y, X) int32
        By target.
    results : sequence of TargetResult
    confidences : mapping of str to sequence of (n,) float64
        By target: of the ROIs of each plane; a target that has none: they are not known.
    """

    labels: Labels
    results: Sequence[TargetResult]
    confidences: Mapping[str, Sequence[Float64]] = field(default_factory=dict)


def publish_also(job: Job, made: Made, image: Planes | None, superseded: Path) -> None:
    """Write what the job asks for beside its mask store.

    Parameters
    ----------
    job : Job
    made : Made
    image : Planes or None
        None: only what needs none is written.
    superseded : Path
        The folder for files that are replaced.

    Raises
    ------
    OutputError
        When the disk does not allow it.
    """
    store, labels, results = Path(job.store), made.labels, made.results
    for name, label_image in labels.items() if "tif" in job.also else ():
        path = beside(store, name if len(labels) > 1 else "")
        sweep(path, superseded)
        write_label_tiff(path, label_image, superseded, _pixel_size(job, image))
    if image is None:
        return
    if job.has_preview:
        _publish_preview(store, labels, image, results, superseded)
    for kind in (kind for kind in BESIDE if kind in job.also):
        for target in _exported(job, labels, image, results):
            export(target, kind, store.parent, superseded, image)
    kinds = [kind for kind in KINDS if kind in job.also]
    if not kinds:
        return
    table = measured(labels, image, _pixel_size(job, image), made.confidences)
    for kind in kinds:
        sweep(table_beside(store, kind), superseded)
        write_table(table_beside(store, kind), table, superseded)


def _publish_preview(
    store: Path,
    labels: Labels,
    image: Planes,
    results: Sequence[TargetResult],
    superseded: Path,
) -> None:
    targets = [
        Shown(
            labels[each.name],
            tuple(int(channel["index"]) for channel in each.channels),
            caption(each.name, each.rois, each.model_id, each.confidence),
        )
        for each in results
    ]
    sweep(preview_beside(store), superseded)
    write_preview(preview_beside(store), image, targets, superseded)
