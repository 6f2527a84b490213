"""How a training run gives way to images, and how it reports its progress."""

import os
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from cellwatch.compute.pipe import receive
from cellwatch.daemon.retraining.run_folder import LEFT

SAY_EVERY_S = 2.0
FEW_STEPS = 5  # tell nothing of how long the others take
PAUSED = 5.0  # a step this many times as long as usual was a pause, not work


class Pacer:
    """Asked after each batch: waits while it is told to, leaves when it is told to.

    Parameters
    ----------
    tell : callable
        Gets what there is to say, as JSON: `stage`, `step`, `steps`, `loss`, `seconds`, `left_s`.
    """

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self._tell = tell
        self._may_run = threading.Event()
        self._may_run.set()
        self._is_leaving = False
        self._steps = self._done = self._done_before = 0
        self._stage = "reading the corrections"
        self._loss: float | None = None
        self._told_at = 0.0
        self._last = time.monotonic()
        self._usual = float("inf")
        self._working = 0.0

    @property
    def seconds(self) -> float:
        """Return the running time so far; pauses are left out."""
        return round(self._working, 1)

    def expect(self, steps: int) -> None:
        """Say how many batches there will be in all."""
        self._steps = steps
        self._last = time.monotonic()

    def step(self) -> None:
        """Count a batch; wait here while the microscope needs the device."""
        self._count(time.monotonic() - self._last)
        self._done += 1
        if self._is_leaving:
            os._exit(LEFT)  # from any thread, at once; the checkpoint of the last minute remains
        self._may_run.wait()
        self._last = time.monotonic()
        if self._last - self._told_at >= SAY_EVERY_S:
            self._say()

    def give_way(self) -> None:
        """Wait while the microscope needs the device, between two pieces of other work."""
        if self._is_leaving:
            os._exit(LEFT)
        self._may_run.wait()
        self._last = time.monotonic()

    def skip(self, steps: int) -> None:
        """Count batches that were done before."""
        self._done += steps
        self._done_before += steps

    def say(self, stage: str, loss: float | None = None) -> None:
        """Say what is being done."""
        self._stage, self._loss = stage, loss
        if time.monotonic() - self._told_at >= SAY_EVERY_S:
            self._say()

    def listen(self, stream: BinaryIO) -> None:
        """Do as the parent says until it closes the pipe; without a parent there is no use."""
        while (message := receive(stream)) is not None:
            self.obey(str(message["do"]))
        self.obey("leave")

    def obey(self, word: str) -> None:
        """Take `pause`, `resume` or `leave`."""
        if word == "pause":
            self._may_run.clear()
        else:
            self._is_leaving = self._is_leaving or word == "leave"
            self._may_run.set()

    def _count(self, seconds: float) -> None:
        if seconds < PAUSED * self._usual:
            self._usual = min(self._usual, seconds)
            self._working += seconds
        else:
            self._working += self._usual

    def _say(self) -> None:
        self._told_at = time.monotonic()
        self._tell(
            {
                "stage": self._stage,
                "step": self._done,
                "steps": self._steps,
                "loss": self._loss,
                "seconds": self.seconds,
                "left_s": self._left(),
            }
        )

    def _left(self) -> float | None:
        # Of the batches; what is scored after them takes a while more.
        done = self._done - self._done_before
        if done < FEW_STEPS:
            return None
        return round(self._working / done * max(0, self._steps - self._done), 1)
