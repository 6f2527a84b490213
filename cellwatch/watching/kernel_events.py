"""Events of the kernel as hints: which paths something happened to. None of them is relied upon."""

import errno
import logging
import os
import queue
import warnings
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

logger = logging.getLogger(__name__)

AGAIN_S = 10.0  # after the folder was not there, or the observer ended
REFUSED_AGAIN_S = 600.0  # after the kernel refused its events
LIMITS = {  # of the kernel, by the error that says so
    errno.EMFILE: ". To raise the limit: sysctl fs.inotify.max_user_instances=1024",
    errno.ENOSPC: ". To raise the limit: sysctl fs.inotify.max_user_watches=1048576",
}


class KernelEvents:
    """The kernel's events on a folder, as far as it reports any.

    Parameters
    ----------
    root : Path
    is_asked : bool
        Whether the kernel is asked at all.
    """

    def __init__(self, root: Path, *, is_asked: bool) -> None:
        self._root, self._is_asked = root, is_asked
        self.hints: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._observer: BaseObserver | None = None
        self._next_at, self._lost = 0.0, n_lost()

    @property
    def is_open(self) -> bool:
        """Say whether the kernel was asked."""
        return self._observer is not None

    def open(self, now: float) -> None:
        """Ask the kernel, again where it has stopped answering."""
        is_deaf = self._observer is None or not self._observer.is_alive()
        if not self._is_asked or not is_deaf or now < self._next_at:
            return
        self._observer = observe(self._root, self.hints)
        is_there = self._root.is_dir()
        is_refused = self._observer is None and is_there
        pause = REFUSED_AGAIN_S if is_refused else AGAIN_S
        self._next_at = now + (pause if is_there else 0.0)

    def has_missed(self) -> bool:
        """Say whether events were lost since this was asked last."""
        before, self._lost = self._lost, n_lost()
        return self._lost != before

    def clear(self) -> None:
        """Drop all hints: a scan sees what they meant."""
        while not self.hints.empty():
            self.hints.get()

    def close(self) -> None:
        """Ask no more."""
        if self._observer is not None and self._observer.is_alive():
            self._observer.stop()
            self._observer.join()


def observe(root: Path, hints: "queue.SimpleQueue[str]") -> BaseObserver | None:
    """Begin to write down which paths something happens to; None: the kernel does not tell."""
    if not root.is_dir():
        return None
    # watchdog says so, at length, of each folder that comes with files; the scan misses none.
    warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)
    if _lost not in WATCHDOG.handlers:
        # What watchdog says goes to nobody but `_lost`: an observer that is stopped while it reads
        # calls that an error.
        WATCHDOG.addHandler(_lost)
        WATCHDOG.propagate = False
    try:
        observer = Observer()
        observer.schedule(_Hints(root, hints), str(root), recursive=True)
        observer.start()
    except OSError as error:
        # The scan finds everything; only the seconds until the next one are lost.
        logger.warning(
            "%s: no events from the kernel (%s); scanning instead%s",
            root,
            error.strerror or error,
            LIMITS.get(error.errno or 0, ""),
        )
        return None
    return observer


class _Lost(logging.Handler):
    """Count how often the kernel's queue of events ran over, as watchdog tells."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        if "overflowed" in record.msg:
            self.count += 1
            logger.warning("the kernel dropped events: the watched folders are looked through now")


WATCHDOG = logging.getLogger("watchdog")
_lost = _Lost(logging.WARNING)


class _Hints(FileSystemEventHandler):
    """Write down which paths something happened to."""

    def __init__(self, root: Path, hints: "queue.SimpleQueue[str]") -> None:
        self._root = str(root)
        self._hints = hints

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.is_directory or event.event_type in ("opened", "closed_no_write"):
            return
        for path in (event.src_path, getattr(event, "dest_path", "")):
            text = os.fsdecode(path) if path else ""
            if text.startswith(self._root + os.sep):
                self._hints.put(text[len(self._root) + 1 :])


def n_lost() -> int:
    """Return how often events were dropped, in all watched folders."""
    return _lost.count
