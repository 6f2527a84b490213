"""What a worker does to one job: adopt, or load, segment, publish; every failure is an outcome."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from cellwatch import __version__
from cellwatch.compute.acquisition import SegmentedTarget, segment_acquisition
from cellwatch.compute.adoption import adopt, is_of_same_work
from cellwatch.compute.memory import require_memory
from cellwatch.compute.models import Chooser, Model
from cellwatch.compute.opening import open_or_load
from cellwatch.compute.publishing import (
    Made,
    needs_image,
    publish_also,
    write_plate_around,
    writing,
)
from cellwatch.core.arrays import Float64
from cellwatch.core.parameters import SegmentationParams
from cellwatch.errors import (
    DeviceError,
    StillUnwritten,
    UnreadableImage,
)
from cellwatch.files.digests import status_of
from cellwatch.files.members import file_of
from cellwatch.files.publish import move_published, sweep
from cellwatch.images import (
    Image,
    OpenImage,
    Planes,
    describe,
    n_planes,
    planes_of,
)
from cellwatch.images.aborted import is_read
from cellwatch.images.identity import content_sha256, fingerprint
from cellwatch.records import Job, Outcome, TargetJob, TargetResult
from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.masks.content import StoreContent
from cellwatch.storage.masks.moving import (
    copy_masks,
    move_masks,
    name_source,
    source_path,
    source_sha256,
)
from cellwatch.storage.masks.plates import plate_of, version_of, write_plate
from cellwatch.storage.masks.store import read_confidences, read_labels, write_store

ALLOCATED_FIRST = ("lif", "nd2", "lsm")  # formats whose files have their size before their pixels
Models = Callable[[TargetJob], Model | Chooser]


@dataclass(frozen=True, slots=True)
class UnpublishedResult:
    """What was computed for a job and is not published yet.

    Attributes
    ----------
    job : Job
    image : Image or OpenImage
    content : StoreContent
    results : tuple of TargetResult
    sha256 : str
        Of the image file.
    superseded : Path
        The folder for stores that are replaced.
    started : float
        When the job was, on the monotonic clock.
    confidences : mapping of str to sequence of (n,) float64
        By target: of the ROIs of each plane, as `SegmentedTarget` has them.
    """

    job: Job
    image: Image | OpenImage
    content: StoreContent
    results: tuple[TargetResult, ...]
    sha256: str
    superseded: Path
    started: float
    confidences: Mapping[str, Sequence[Float64]] = field(default_factory=dict)

    def publish(self) -> Outcome:
        """Write the masks, and what goes beside them.

        Raises
        ------
        OutputError
            When the disk does not allow it.
        """
        store = Path(self.job.store)
        with contextlib.closing(self.image), writing(store):
            digests = write_store(store, self.content, self.superseded)
            write_plate_around(self.job)
            made = Made(dict(self.content.labels), self.results, self.confidences)
            publish_also(self.job, made, self.image, self.superseded)
        return Outcome(
            self.job.acquisition_id,
            planes=n_planes(self.image),
            content_sha256=self.sha256,
            targets=tuple(replace(r, labels_sha256=digests[r.name]) for r in self.results),
            seconds=time.monotonic() - self.started,
            info=self.image.info,
        )


def perform(
    job: Job,
    models: Models,
    superseded: Path,
    now: datetime,
    on_plane: Callable[[], None] = lambda: None,
) -> Outcome:
    """Segment one acquisition and publish its masks, with the arguments of `compute`."""
    found = compute(job, models, superseded, now, on_plane)
    return found if isinstance(found, Outcome) else found.publish()


def compute(
    job: Job,
    models: Models,
    superseded: Path,
    now: datetime,
    on_plane: Callable[[], None] = lambda: None,
) -> UnpublishedResult | Outcome:
    """Segment one acquisition; an outcome where masks that are there already are the right ones.

    Parameters
    ----------
    job : Job
    models : callable
        Gives the model that a target names.
    superseded : Path
        The folder for stores that are replaced.
    now : datetime
        Goes into the provenance.
    on_plane : callable
        Called after each plane.

    Raises
    ------
    CellwatchError
        When the image, its channels, the model or the disk do not allow it.
    """
    started = time.monotonic()
    path, store = Path(job.path), Path(job.store)
    if fingerprint(path) != job.fingerprint:
        raise UnreadableImage(path, "the file changed after it was queued")
    before = _stamp(path)
    with writing(store):
        sweep(store, superseded)
    sha256 = content_sha256(path)
    _bring(job, sha256, superseded)
    if job.compared_with == sha256 and store.exists():
        return Outcome(job.acquisition_id, content_sha256=sha256, is_unchanged=True)
    if adopted := _adopted(job, sha256, superseded, started):
        with writing(store):
            write_plate_around(job)  # its writer may have been killed before
        labels = {t: read_labels(store, t) for t in _names(job)}
        names = {each.name for each in adopted.targets if each.confidence is not None}
        known = {t: [np.asarray(each)] for t in names if (each := read_confidences(store, t))}
        made = Made(labels, adopted.targets, known)
        if needs_image(job):
            with contextlib.closing(_opened(job)) as image:
                publish_also(job, made, image, superseded)
        else:
            publish_also(job, made, None, superseded)
        return adopted
    image = _opened(job)
    try:
        _refuse_changed(path, before, job.fingerprint)
        segmented = {
            target.name: _segment(image, target, job, models, on_plane) for target in job.targets
        }
    except BaseException:
        image.close()
        raise
    seconds, lacks = time.monotonic() - started, image.info.lacks
    provenance = _provenance(job, segmented, sha256, lacks, seconds, now)
    content = _content(job, image, segmented, provenance)
    results = tuple(target.result for target in segmented.values())
    sure = {name: target.confidences for name, target in segmented.items()}
    return UnpublishedResult(job, image, content, results, sha256, superseded, started, sure)


def _bring(job: Job, sha256: str, superseded: Path) -> None:
    # The masks of an image that was renamed. A killed worker may have brought them, but not told
    # the plates; masks of another content are not the image's any more.
    former, store = Path(job.former_store), Path(job.store)
    if not job.former_store or former == store:
        return
    with writing(store):
        if source_sha256(former) == sha256:
            move_masks(former, store, job.path, superseded)
        elif former.exists() and source_sha256(former) == job.compared_with:
            move_published(former, superseded / f"{former.name}.{sha256[:8]}", superseded)
        if source_sha256(store) == sha256:
            name_source(store, job.path)
        for plate in {plate_of(former), plate_of(store)} - {None}:
            if plate is not None and plate.is_dir():
                write_plate(plate, version_of(plate) or job.ome_zarr)


def _adopted(job: Job, sha256: str, superseded: Path, started: float) -> Outcome | None:
    # Masks that are in their place, or of a file with the same content and made in the same way.
    store, twin = Path(job.store), Path(job.twin)
    if found := adopt(job, store, sha256, time.monotonic() - started):
        return found
    if not job.twin or not is_of_same_work(job, twin, sha256):
        return None
    of = source_path(twin)
    with writing(store):
        copy_masks(twin, store, job.path, superseded)
    found = adopt(job, store, sha256, time.monotonic() - started)
    return replace(found, copied_from=of) if found else None


def _content(
    job: Job,
    image: Planes,
    segmented: Mapping[str, SegmentedTarget],
    provenance: dict[str, Any],  # Any: JSON
) -> StoreContent:
    is_one = n_planes(image) == 1
    sure = {name: found.confidences[0] for name, found in segmented.items() if is_one}
    return StoreContent(
        labels={name: found.labels for name, found in segmented.items()},
        axes="".join(axis for axis in "TZ" if axis in image.info.axes),
        provenance=provenance,
        image=image if job.include_image else None,
        channels=image.info.channels,
        pixel_size_um=job.pixel_size_um or image.info.pixel_size_um,
        version=_version(job),
        confidences={name: each.tolist() for name, each in sure.items()},
        planes={name: found.planes for name, found in segmented.items()},
    )


def _version(job: Job) -> Literal["0.5", "0.4"]:
    # A plate keeps the one that it has: of two no program makes sense.
    plate = plate_of(Path(job.store))
    return (version_of(plate) if plate is not None else None) or job.ome_zarr


def with_precision(job: Job, precision: str) -> Job:
    """Return a job whose targets are computed in a precision."""
    targets = [replace(t, params={**t.params, "precision": precision}) for t in job.targets]
    return replace(job, targets=tuple(targets))


def _opened(job: Job) -> Image | OpenImage:
    info = describe(path := Path(job.path), job.axes)
    require_memory(info, [SegmentationParams.from_json(t.params) for t in job.targets])
    with contextlib.ExitStack() as stack:
        image = stack.enter_context(contextlib.closing(open_or_load(path, info, job.axes)))
        if reason := _why_unwritten(image):
            if not job.are_zeros_final:
                raise StillUnwritten(
                    f"{reason}: it may be allocated and not written yet; it is looked at again"
                )
            image = replace(image, info=replace(info, notes=(*image.info.notes, reason)))
        stack.pop_all()
    return image


def _why_unwritten(image: Planes) -> str:
    # What makes an image look as if its file had been allocated and were still to be filled.
    if not any(plane.any() for plane in planes_of(image)):
        return "all its pixels are 0"
    last = tuple(n - 1 for n in image.shape[:3])
    is_allocated = image.info.format in ALLOCATED_FIRST and n_planes(image) > 1
    return (
        "all pixels of its last plane are 0"
        if is_allocated and not image.plane(*last).any()
        else ""
    )


def _segment(
    image: Planes, target: TargetJob, job: Job, models: Models, on_plane: Callable[[], None]
) -> SegmentedTarget:
    params = SegmentationParams.from_json(target.params)
    while True:
        try:
            return segment_acquisition(
                image,
                models(target),
                params,
                target.channels,
                target=target.name,
                pixel_size_um=job.pixel_size_um,
                on_plane=on_plane,
                store=Path(job.store),
            )
        except torch.OutOfMemoryError as error:
            if params.batch_size == 1:
                raise DeviceError(f"the GPU has too little memory for one tile: {error}") from error
            # Fewer tiles at a time change no result.
            params = replace(params, batch_size=params.batch_size // 2)
            torch.cuda.empty_cache()


def _refuse_changed(path: Path, before: tuple[int, int, int, int], name: str) -> None:
    # Of a set that was aborted, a file may have come since: its planes belong to another content.
    if _stamp(path) != before or (is_read(path) and fingerprint(path) != name):
        raise UnreadableImage(path, "the file changed while it was read")


def _stamp(path: Path) -> tuple[int, int, int, int]:
    status = status_of(file_of(path))
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _names(job: Job) -> list[str]:
    return [target.name for target in job.targets]


def _provenance(
    job: Job,
    segmented: dict[str, SegmentedTarget],
    sha256: str,
    lacks: str,
    seconds: float,
    now: datetime,
) -> dict[str, Any]:  # Any: JSON
    return {
        "cellwatch_version": __version__,
        "source": {
            "path": path_text(job.path),
            "fingerprint": job.fingerprint,
            "sha256": sha256,
        },
        "targets": {name: dict(target.provenance) for name, target in segmented.items()},
        "declared": {"axes": job.axes, "pixel_size_um": job.pixel_size_um},
        "lacks": lacks,
        "ome_zarr": _version(job),
        "planes": int(np.prod(next(iter(segmented.values())).labels.shape[:3])),
        "seconds": round(seconds, 3),
        "written_at": now.isoformat(timespec="seconds"),
    }
