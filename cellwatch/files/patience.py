"""Ask a disk whether something is there, and wait for its answer only so long.

A share whose server is gone may hang every question for ever; the thread that asked it is left
alone then, and nobody else waits.
"""

import queue
import threading
from pathlib import Path

from cellwatch.files.members import is_there

ANSWERS_WITHIN_S = 2.0


def is_gone(path: Path, seconds: float = ANSWERS_WITHIN_S) -> bool:
    """Say whether the file of an image, or a folder, is not there; one that hangs is."""
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
    thread = threading.Thread(target=lambda: answers.put(not is_there(path)), daemon=True)
    thread.start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return False
