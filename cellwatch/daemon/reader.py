"""The reader: a process without torch that decodes what people drop, under limits.

It answers one question at a time over its pipes. One that takes too long, or too much memory, ends
with its process; the next question gets a new one.
"""

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO, cast

from cellwatch.daemon.pipe import receive, send
from cellwatch.records import CorrectionAsked, CorrectionRead

MEMORY = 6 << 30  # bytes of address space, until the dropped file is decoded
SECONDS = 60.0  # for one file
BYTES_PER_SECOND = 20e6  # of the image, on top: it is read as a whole, to know its content
REMEDY = "save a label TIFF of the size of the image, and drop that"


class Reader:
    """The reader process as the supervisor's thread sees it; started when first asked."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, asked: CorrectionAsked) -> CorrectionRead:
        """Have a dropped file read; one over which the reader dies twice is rejected."""
        seconds = self._seconds + _size(asked.image) / BYTES_PER_SECOND
        how = ""
        for _ in range(2):  # somebody else may have killed the first
            answer, is_late = self._answer(asked, seconds)
            if answer is not None:
                return answer
            how = self._end()
            if is_late:
                reason = f"it took longer than {seconds:.3g} s to read"
                return CorrectionRead(reason=reason, remedy=REMEDY)
        return CorrectionRead(reason=f"the process that read it died ({how})", remedy=REMEDY)

    def _answer(self, asked: CorrectionAsked, seconds: float) -> tuple[CorrectionRead | None, bool]:
        process = self._started()
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        try:
            send(cast("BinaryIO", process.stdin), asked.to_json())
            answer = receive(cast("BinaryIO", process.stdout))
        except OSError:
            answer = None
        finally:
            is_late = not timer.is_alive()
            timer.cancel()
        return (CorrectionRead.from_json(answer) if answer is not None else None), is_late

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._end()

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "cellwatch.daemon.reader", str(os.getpid())],
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
        code = process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        self._process = None
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _size(image: str) -> int:
    try:
        return Path(image).stat().st_size
    except OSError:
        return 0


def main() -> None:
    """Read corrections until the input ends."""
    from cellwatch.daemon.correcting import read_correction
    from cellwatch.daemon.processes import die_with_parent

    die_with_parent(int(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the messages
    while (message := receive(requests)) is not None:
        asked = CorrectionAsked.from_json(message)
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        limit = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
        try:
            answer = read_correction(asked)
        except Exception as error:  # noqa: BLE001  any reader may raise anything over a broken file
            reason = f"it cannot be read: {type(error).__name__}: {error}"
            answer = CorrectionRead(reason=reason, remedy=REMEDY)
        send(replies, answer.to_json())


if __name__ == "__main__":
    main()
