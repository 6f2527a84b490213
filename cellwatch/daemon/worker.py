"""The compute worker: a process that takes jobs from its input and gives outcomes on its output.

It needs nothing but the job, never opens the ledger, and dies with its parent.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cellwatch import __version__
from cellwatch.core.flows import flows_of
from cellwatch.core.labels import drop_small, fill_holes
from cellwatch.core.parameters import ALGORITHM_VERSION, SegmentationParams
from cellwatch.core.segment import labels_from_maps
from cellwatch.daemon.acquisition import SegmentedTarget, segment_acquisition
from cellwatch.daemon.choosing import Chooser, Model, ready_chooser, ready_model
from cellwatch.daemon.device import choose_device, keep_freed_memory
from cellwatch.daemon.pipe import receive, send
from cellwatch.daemon.processes import die_with_parent
from cellwatch.errors import (
    CellwatchError,
    CodecMissing,
    DeviceError,
    MaskStoreError,
    OutputError,
    UnknownModel,
    UnreadableImage,
    WeightsError,
)
from cellwatch.records import Job, ModelChoice, Outcome, TargetJob, TargetResult, Trouble
from cellwatch.storage.images import Image, load
from cellwatch.storage.labelfiles import beside, write_label_tiff
from cellwatch.storage.maskstore import StoreContent, check_store, read_labels, write_store
from cellwatch.storage.pathtext import path_text
from cellwatch.storage.publish import sweep
from cellwatch.watching.identity import content_sha256, fingerprint
from cellwatch.zoo.cards import ModelPlace
from cellwatch.zoo.classifiers import ClassifierPlace, find_either

logger = logging.getLogger(__name__)

Models = Callable[[TargetJob], Model | Chooser]


def perform(
    job: Job,
    models: Models,
    superseded: Path,
    now: datetime,
    on_plane: Callable[[], None] = lambda: None,
) -> Outcome:
    """Segment one acquisition and publish its masks.

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
    sweep(store, superseded)
    sha256 = content_sha256(path)
    if adopted := _adopt(job, store, sha256, time.monotonic() - started):
        _publish_also(job, {t: read_labels(store, t) for t in _names(job)}, superseded)
        return adopted
    image = load(path, job.axes)
    if _stamp(path) != before:
        raise UnreadableImage(path, "the file changed while it was read")
    segmented = {
        target.name: _segment(image, target, job, models, on_plane) for target in job.targets
    }
    seconds = time.monotonic() - started
    labels = {name: target.labels for name, target in segmented.items()}
    pixel_size = job.pixel_size_um or image.info.pixel_size_um
    content = StoreContent(
        labels=labels,
        axes="".join(axis for axis in "TZ" if axis in image.info.axes),
        provenance=_provenance(job, segmented, sha256, seconds, now),
        image=image.pixels if job.include_image else None,
        channels=image.info.channels,
        pixel_size_um=pixel_size,
    )
    write_store(store, content, superseded)
    _publish_also(job, labels, superseded)
    results = tuple(target.result for target in segmented.values())
    return Outcome(
        job.acquisition_id,
        planes=image.n_planes,
        content_sha256=sha256,
        targets=results,
        seconds=time.monotonic() - started,
    )


def outcome_of(
    job: Job,
    models: Models,
    superseded: Path,
    now: datetime,
    on_plane: Callable[[], None] = lambda: None,
) -> Outcome:
    """Do what `perform` does, and turn what goes wrong into a recorded reason."""
    try:
        return perform(job, models, superseded, now, on_plane)
    except CodecMissing as error:
        trouble, reason = Trouble.SURROUNDINGS, error.reason
    except UnreadableImage as error:
        trouble, reason = _fault_of(Path(job.path), error)
    except (OutputError, DeviceError, WeightsError, UnknownModel) as error:
        trouble, reason = Trouble.SURROUNDINGS, str(error)
    except CellwatchError as error:
        trouble, reason = Trouble.FILE, str(error)
    except Exception as error:
        logger.exception("%s: unexpected error", job.path)
        trouble, reason = Trouble.OTHER, f"{type(error).__name__}: {error}"
    return Outcome(job.acquisition_id, reason=reason, trouble=trouble)


class ModelCache:
    """Keep the networks that jobs named lately.

    Parameters
    ----------
    device : torch.device
    size : int
        Networks kept at most.
    """

    def __init__(self, device: torch.device, size: int = 6) -> None:
        self._device = device
        self._size = size
        self._models: dict[str, Model] = {}

    def __call__(self, target: TargetJob) -> Model | Chooser:
        """Return the model of a target, or the classifier that chooses it."""
        place = find_either(str(Path(target.model_folder).absolute()))
        if place.card.sha256 != target.model_sha256:
            raise WeightsError(f"{place.path} is not the model that the job names")
        if isinstance(place, ClassifierPlace):
            return ready_chooser(place, self._at)
        return self._at(place)

    def _at(self, place: ModelPlace) -> Model:
        key = place.card.sha256
        model = self._models.pop(key, None) or ready_model(place, self._device)
        self._models[key] = model
        while len(self._models) > self._size:
            self._models.pop(next(iter(self._models)))
        return model


def warm_up(device: torch.device) -> None:
    """Compile every kernel that a job needs, so that the first image is not the slow one."""
    labels = np.zeros((48, 48), np.int32)
    labels[8:40, 8:40] = 1
    flows = flows_of(labels)
    cellprob = np.where(labels > 0, np.float32(5), np.float32(-5))
    found = labels_from_maps(flows, cellprob, SegmentationParams(), 40, device)
    drop_small(fill_holes(found), 15)


def main() -> None:
    """Take jobs until the input ends."""
    die_with_parent(int(sys.argv[3]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the messages
    device_name, superseded = sys.argv[1], Path(sys.argv[2])
    keep_freed_memory()
    try:
        device = choose_device(device_name)
    except DeviceError as error:
        send(replies, {"kind": "unfit", "reason": str(error)})
        return
    warm_up(device)
    models = ModelCache(device)
    send(replies, {"kind": "ready", "device": str(device)})
    while (message := receive(requests)) is not None:
        job = Job.from_json(message["job"])
        outcome = outcome_of(
            job, models, superseded, datetime.now(UTC), lambda: send(replies, {"kind": "plane"})
        )
        send(replies, {"kind": "outcome", "outcome": outcome.to_json()})
        if device.type == "cuda" and outcome.trouble == Trouble.OTHER:
            return  # a CUDA error sticks to the process: only a new one is sound


def _segment(
    image: Image, target: TargetJob, job: Job, models: Models, on_plane: Callable[[], None]
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
            )
        except torch.OutOfMemoryError as error:
            if params.batch_size == 1:
                raise DeviceError(f"the GPU has too little memory for one tile: {error}") from error
            # Fewer tiles at a time change no result.
            params = replace(params, batch_size=params.batch_size // 2)
            torch.cuda.empty_cache()


def _fault_of(path: Path, error: UnreadableImage) -> tuple[Trouble, str]:
    if path.exists():
        return Trouble.FILE, error.reason
    if path.parent.exists():
        return Trouble.MISSING, "the file is gone"
    return Trouble.SURROUNDINGS, f"its folder {path.parent} cannot be reached"


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _names(job: Job) -> list[str]:
    return [target.name for target in job.targets]


def _provenance(
    job: Job,
    segmented: dict[str, SegmentedTarget],
    sha256: str,
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
        "planes": int(np.prod(next(iter(segmented.values())).labels.shape[:3])),
        "seconds": round(seconds, 3),
        "written_at": now.isoformat(timespec="seconds"),
    }


def _adopt(job: Job, store: Path, sha256: str, seconds: float) -> Outcome | None:
    # A worker that was killed between publishing and answering has done the work already.
    if not store.exists():
        return None
    try:
        report = check_store(store)
    except MaskStoreError:
        return None
    said = report.provenance
    if report.problems or not said or not _is_same_work(job, said, sha256):
        return None
    results = tuple(
        TargetResult(
            name=name,
            rois=report.rois[name],
            diameter=round(float(np.median(facts["diameters_px"])), 3),
            channels=tuple(facts["channels"]),
            notes=tuple(facts["notes"]),
            model_id=facts["model"]["id"],
            model_sha256=facts["model"]["sha256"],
            novelty=facts.get("novelty"),
            choice=_choice(facts.get("choice")),
            confidence=facts.get("confidence"),
        )
        for name, facts in said["targets"].items()
    )
    return Outcome(
        job.acquisition_id,
        planes=said["planes"],
        content_sha256=sha256,
        targets=results,
        seconds=said["seconds"] + seconds,
    )


def _is_same_work(job: Job, said: dict[str, Any], sha256: str) -> bool:  # Any: JSON
    asked = {t.name: (t.model_sha256, _telling(t.params), ALGORITHM_VERSION) for t in job.targets}
    done = {
        name: (_asked_for(facts), _telling(facts["params"]), facts["algorithm_version"])
        for name, facts in said["targets"].items()
    }
    declared = {"axes": job.axes, "pixel_size_um": job.pixel_size_um}
    return (
        said["source"]["sha256"] == sha256
        and said["include_image"] == job.include_image
        and said["declared"] == declared
        and asked == done
    )


def _asked_for(facts: Mapping[str, Any]) -> str:  # Any: JSON
    # The sha256 of what the job named: the model, or the classifier that chose it.
    choice = facts.get("choice")  # stores of the first version have none
    return str(choice["classifier_sha256"] if choice else facts["model"]["sha256"])


def _choice(said: Mapping[str, Any] | None) -> ModelChoice | None:  # Any: JSON
    return ModelChoice(**{**said, "neighbours": tuple(said["neighbours"])}) if said else None


def _telling(params: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    return {key: value for key, value in params.items() if key != "batch_size"}


def _publish_also(job: Job, labels: dict[str, np.ndarray], superseded: Path) -> None:
    if "tif" not in job.also:
        return
    for name, label_image in labels.items():
        target = name if len(labels) > 1 else ""
        path = beside(Path(job.store), target)
        sweep(path, superseded)
        write_label_tiff(path, label_image, superseded)


if __name__ == "__main__":
    main()
