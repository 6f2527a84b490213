"""The compute worker: a process that takes jobs from its input and gives outcomes on its output.

It needs nothing but the job, never opens the ledger, and dies with its parent.
"""

import gc
import logging
import os
import select
import signal
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Lock, Thread
from typing import Any, BinaryIO

import numpy as np
import torch

from cellwatch.compute.device import (
    choose_device,
    give_memory_back,
    n_devices,
    precision_on,
    reuse_small_memory,
)
from cellwatch.compute.memory import all_memory, resident
from cellwatch.compute.models import Chooser, Model, ready_chooser, ready_model
from cellwatch.compute.outcomes import caught
from cellwatch.compute.pipe import Message, receive, send
from cellwatch.compute.pipeline import UnpublishedResult, compute, with_precision
from cellwatch.compute.processes import die_with_parent
from cellwatch.core.flows import flows_of
from cellwatch.core.labels import drop_small, fill_holes
from cellwatch.core.measure import measure
from cellwatch.core.parameters import SegmentationParams
from cellwatch.core.segment import labels_from_maps
from cellwatch.errors import (
    DeviceError,
    WeightsError,
)
from cellwatch.records import Job, Outcome, TargetJob, Trouble
from cellwatch.zoo.cards import ModelPlace
from cellwatch.zoo.classifiers import ClassifierPlace, find_either

logger = logging.getLogger(__name__)

GIVE_BACK_AFTER_S = 1.0  # without a job
LOADED = 2 << 30  # bytes that the libraries of a device take at most
KEPT_BETWEEN_JOBS = 1 << 30  # bytes more than at the start; fewer are not given back at once
RECYCLED_AT = 0.4  # of the machine's memory, that a worker still holds after giving it back


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
    measure(drop_small(fill_holes(found), 15))


def main() -> None:
    """Take jobs until the input ends."""
    die_with_parent(int(sys.argv[3]))
    wanted = sys.argv[4] if len(sys.argv) > 4 else "auto"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    requests, replies = sys.stdin.buffer, Replies(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what a library prints must not get between the messages
    device_name, superseded = sys.argv[1], Path(sys.argv[2])
    reuse_small_memory()
    try:
        device = choose_device(device_name)
    except DeviceError as error:
        replies.send({"kind": "unfit", "reason": str(error)})
        return
    warm_up(device)
    gc.freeze()  # what was imported stays: to look through it after each image took 0.1 s
    models = ModelCache(device)
    precision = precision_on(device, wanted)  # type: ignore[arg-type]  # as the configuration has it
    facts = {"device": str(device), "precision": precision, "n_devices": n_devices(device)}
    replies.send({"kind": "ready", **facts})
    publisher, most = Publisher(replies), min(resident(), LOADED) + KEPT_BETWEEN_JOBS
    while not publisher.is_over and (message := _next(requests, publisher)) is not None:
        job = with_precision(Job.from_json(message["job"]), precision)
        plane = partial(replies.send, {"kind": "plane"})
        found = caught(job, partial(compute, job, models, superseded, datetime.now(UTC), plane))
        is_small = resident() <= most
        publisher.wait()
        if isinstance(found, UnpublishedResult) and is_small and not job.is_alone:
            publisher.begin(found)
            del job, found
            continue
        outcome = found if isinstance(found, Outcome) else caught(job, found.publish)
        del job, found
        if not is_small:
            give_memory_back()
        is_over = _why_over(device, outcome)
        replies.send({"kind": "outcome", "outcome": outcome.to_json(), "ends": is_over})
        if is_over:
            return
    publisher.wait()


class Replies:
    """The worker's output, which its two threads write to.

    Parameters
    ----------
    stream : BinaryIO
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = Lock()

    def send(self, message: Message) -> None:
        """Send one message."""
        with self._lock:
            send(self._stream, message)


class Publisher:
    """Writes the masks of one job while the next one is computed.

    Parameters
    ----------
    replies : Replies
        Gets `computed` when the next job may come, and the outcome when all is written.
    """

    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self._thread: Thread | None = None
        self.is_over = False  # memory ran out: another process should follow this one

    def begin(self, result: UnpublishedResult) -> None:
        """Publish beside the main thread; the one before has to have ended."""
        self._replies.send({"kind": "computed"})
        self._thread = Thread(target=self._publish, args=(result,), name="publisher")
        self._thread.start()

    def wait(self) -> None:
        """Wait until what was begun is published."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _publish(self, result: UnpublishedResult) -> None:
        try:
            outcome = caught(result.job, result.publish)
            self.is_over = outcome.trouble == Trouble.MEMORY
            ends = "memory ran out" if self.is_over else ""
            message = {"kind": "outcome", "outcome": outcome.to_json(), "ends": ends}
            self._replies.send(message)
        except BaseException:
            logger.exception("%s: no outcome can be reported", result.job.path)
            os._exit(1)  # the supervisor learns of it at once, and not when its patience ends


def _next(requests: BinaryIO, publisher: Publisher) -> dict[str, Any] | None:  # Any: JSON
    # No job is sent before this process asks for it, so nothing waits in the buffer.
    if not select.select([requests], [], [], GIVE_BACK_AFTER_S)[0]:
        publisher.wait()
        give_memory_back()
    return receive(requests)


def _why_over(device: torch.device, outcome: Outcome) -> str:
    # A process that another one should follow: "" when it is as good as new.
    if device.type == "cuda" and outcome.trouble == Trouble.OTHER:
        return "a CUDA error sticks to the process"
    if outcome.trouble == Trouble.MEMORY:
        return "memory ran out"
    held = resident()
    if held > max(RECYCLED_AT * all_memory(), 1 << 30):
        return f"it still holds {held / 2**30:.1f} GiB"
    return ""


if __name__ == "__main__":
    main()
