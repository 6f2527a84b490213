"""The reader: a process without torch that decodes what people drop, under limits.

It answers one question at a time over its pipes. One that takes too long, or too much memory, ends
with its process; the next question gets a new one.
"""

from pathlib import Path

from cellwatch.compute.guarded import Guarded, begin, limit_memory
from cellwatch.compute.pipe import receive, send
from cellwatch.errors import UnreadableImage
from cellwatch.images.identity import size_of
from cellwatch.records import CorrectionAsked, CorrectionRead

MEMORY = 6 << 30  # bytes of address space, until the dropped file is decoded
SECONDS = 60.0  # for one file
BYTES_PER_SECOND = 20e6  # of the image, on top: it is read as a whole, to know its content
REMEDY = "save a label TIFF of the size of the image, and drop that"


class Reader:
    """The reader process as the supervisor's thread sees it; started when first asked."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._child = Guarded("cellwatch.daemon.corrections.reader")

    def ask(self, asked: CorrectionAsked) -> CorrectionRead:
        """Have a dropped file read; one over which the reader dies twice is rejected."""
        seconds = self._seconds + _size(asked.image) / BYTES_PER_SECOND
        how = ""
        for _ in range(2):  # somebody else may have killed the first
            answered = self._child.ask(asked.to_json(), seconds)
            if answered.message is not None:
                return CorrectionRead.from_json(answered.message)
            if answered.is_late:
                reason = f"it took longer than {seconds:.3g} s to read"
                return CorrectionRead(reason=reason, remedy=REMEDY)
            how = answered.how
        return CorrectionRead(reason=f"the process that read it died ({how})", remedy=REMEDY)

    def close(self) -> None:
        """End the process."""
        self._child.close()


def _size(image: str) -> int:
    try:
        return size_of(Path(image))
    except (OSError, UnreadableImage):
        return 0


def main() -> None:
    """Read corrections until the input ends."""
    from cellwatch.daemon.corrections.ingest import read_correction

    requests, replies = begin()
    while (message := receive(requests)) is not None:
        asked = CorrectionAsked.from_json(message)
        limit_memory(MEMORY)
        try:
            answer = read_correction(asked)
        except Exception as error:  # noqa: BLE001  any reader may raise anything over a broken file
            reason = f"it cannot be read: {type(error).__name__}: {error}"
            answer = CorrectionRead(reason=reason, remedy=REMEDY)
        send(replies, answer.to_json())


if __name__ == "__main__":
    main()
