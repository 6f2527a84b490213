"""Where work runs: one worker process per device, spoken to over its pipes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from cellwatch.compute.pipe import Message, receive, send
from cellwatch.records import Job, WorkerProcess

ENVIRONMENT = {
    "NUMBA_THREADING_LAYER": "omp",  # the layer that may be entered from any thread
    "PYTHONUTF8": "1",
    # Threads that wait for each other sleep: spinning, they would take the cores from those that
    # still compute whenever another program wants a core too.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Compiled convolutions are kept for the shape in hand alone: the next image has another.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
}
STRANDED_WITHIN_S = 5.0
ENDS_WITHIN_S = 10.0  # a worker that was killed
STUCK = "killed, it does not end: it waits in the kernel for a disk, a share or a device"


@dataclass(frozen=True, slots=True)
class FromWorker:
    """One thing that a worker said.

    Attributes
    ----------
    worker : Worker
    message : mapping or None
        None: its output has ended, so it is dead or dying.
    """

    worker: "Worker"
    message: Message | None


class Worker:
    """A worker process.

    Parameters
    ----------
    device : str
    superseded : Path
        The folder for stores that are replaced.
    on_message : callable
        Called from a thread with each message and, at the end, once with None.
    precision : str
        As the configuration has it: `auto` is resolved on the device.
    """

    def __init__(
        self,
        device: str,
        superseded: Path,
        on_message: Callable[[FromWorker], None],
        precision: str = "auto",
    ) -> None:
        command = [sys.executable, "-m", "cellwatch.compute.worker", device]
        self._process = subprocess.Popen(
            [*command, str(superseded), str(os.getpid()), precision],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **ENVIRONMENT},
            start_new_session=True,  # Ctrl-C is for the supervisor alone
        )
        self.device = device
        self.is_ready = False
        self.is_unfit = False  # its device is not there
        self.why_over = ""  # why it ends by itself and another one follows
        self.is_stuck = False  # it was killed, and does not end
        self.acquisition_id: int | None = None  # that it computes
        self.publishing_id: int | None = None  # whose masks it writes meanwhile
        self._on_message = on_message
        self._gone_by = float("inf")
        threading.Thread(target=self._read, daemon=True, name=f"worker-{self.pid}").start()

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def is_idle(self) -> bool:
        """Say whether it can be given a job."""
        return self.is_ready and self.acquisition_id is None

    @property
    def in_hand(self) -> list[int]:
        """Return the ids of the acquisitions that it was given and has not answered."""
        both = (self.publishing_id, self.acquisition_id)
        return [one for one in both if one is not None]

    def turn_to_publishing(self) -> None:
        """Note that the job is computed: while its masks are written it can be given another."""
        self.publishing_id, self.acquisition_id = self.acquisition_id, None

    def let_go(self, acquisition_id: int) -> None:
        """Note that an acquisition was answered."""
        if self.publishing_id == acquisition_id:
            self.publishing_id = None
        elif self.acquisition_id == acquisition_id:
            self.acquisition_id = None

    def perform(self, job: Job) -> None:
        """Give it a job; the outcome comes as a message. A worker that just died takes it along."""
        self.acquisition_id = job.acquisition_id
        try:
            send(self._stdin, {"kind": "job", "job": job.to_json()})
        except OSError:
            self.kill()  # its end is reported by the thread that reads

    def close(self) -> None:
        """Let it end by itself after the jobs in hand."""
        try:
            self._stdin.close()
        except OSError:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._gone_by = min(self._gone_by, time.monotonic() + ENDS_WITHIN_S)

    def give_up_if_stuck(self, now: float) -> None:
        """Report the end of a worker that was killed and that the kernel does not let go of.

        It waits in the kernel for a disk or a share, and does nothing more when that answers.
        """
        if now > self._gone_by and not self.is_stuck and self._process.poll() is None:
            self.is_stuck = True
            self._on_message(FromWorker(self, None))

    def wait(self, timeout: float) -> bool:
        """Wait until it has ended; False when it has not."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def how_it_ended(self) -> str:
        """Return the signal or exit code of a worker that ended, or why it is given up."""
        if self.is_stuck and self._process.poll() is None:
            return STUCK
        code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    @property
    def _stdin(self) -> BinaryIO:
        assert self._process.stdin is not None
        return cast("BinaryIO", self._process.stdin)  # a pipe in binary mode is one

    def _read(self) -> None:
        output: Any = self._process.stdout  # Any: IO[bytes], opened as a pipe above
        with output:
            while (message := receive(output)) is not None:
                self._on_message(FromWorker(self, message))
        self._on_message(FromWorker(self, None))


def process_started(pid: int) -> str | None:
    """Return a mark of when a process started, so that a reused pid is not mistaken; None: gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def boot_id() -> str:
    """Return the id of this boot of the machine; "" where the kernel has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def wait_for_stranded(workers: Sequence[WorkerProcess]) -> None:
    """Wait until the workers of a daemon that died have ended too, and end those that have not.

    They die with their parent; until they have, they might still publish.
    """
    until = time.monotonic() + STRANDED_WITHIN_S
    for worker in workers:
        pid, started = worker.pid, worker.started
        while process_started(pid) == started is not None and time.monotonic() < until:
            time.sleep(0.05)
        if started is not None and process_started(pid) == started:
            os.kill(pid, signal.SIGKILL)
