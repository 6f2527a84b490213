"""A child process that reads what others wrote, under limits of memory and time.

It answers one question at a time over its pipes. A question over which it takes too long, or dies,
ends with the process; the next one gets a new process.
"""

import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, cast

from cellwatch.compute.pipe import Message, receive, send
from cellwatch.compute.processes import die_with_parent

ENDS_WITHIN_S = 5.0  # a process that was killed


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a question.

    Attributes
    ----------
    message : mapping or None
        None: there is no answer.
    how : str
        How the process ended that gave none; "" when it answered.
    is_late : bool
        Whether it was ended because it took too long.
    """

    message: Message | None
    how: str = ""
    is_late: bool = False


class Guarded:
    """The child as the asking thread sees it; started when first asked.

    Parameters
    ----------
    module : str
        Its `main` takes the pid of this process as its only argument.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, question: Message, seconds: float) -> Answered:
        """Ask, and wait for the answer at most so long."""
        process = self._started()
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        try:
            send(cast("BinaryIO", process.stdin), question)
            answer = receive(cast("BinaryIO", process.stdout))
        except OSError:
            answer = None
        finally:
            is_late = not timer.is_alive()
            timer.cancel()
        if answer is not None:
            return Answered(answer)
        return Answered(None, self._end(), is_late)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._end()

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", self._module, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        return self._process

    def _end(self) -> str:
        process = self._process
        assert process is not None
        process.kill()
        try:
            code = process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:  # the kernel itself waits for a disk or a share
            code = -signal.SIGKILL
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):  # what it was still to be told has nobody to read it
                    stream.close()
        self._process = None
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def begin() -> tuple[BinaryIO, BinaryIO]:
    """Make this process a child that answers; return what it is asked on and what it answers on."""
    die_with_parent(int(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the messages
    return sys.stdin.buffer, replies


def limit_memory(n_bytes: int) -> None:
    """Limit the address space of this process, as far as it is not limited further already."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = n_bytes if most == resource.RLIM_INFINITY else min(n_bytes, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
