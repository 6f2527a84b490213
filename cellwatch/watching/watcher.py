"""Watch one folder: events as hints, scans as the truth, finished files as one generator."""

import errno
import logging
import os
import queue
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from cellwatch.images.structure import why_file_not_whole
from cellwatch.watching.scanner import is_bare, item_of, look, scan
from cellwatch.watching.settle import SETTLE_S, Settler, Sighting

logger = logging.getLogger(__name__)

TICK_S = 0.25
RESCAN_S = 10.0
OFFLINE_RETRY_S = 5.0
INTERRUPTED_AFTER_S = 600.0  # an incomplete file that does not change for so long was given up
LIMITS = {  # of the kernel, by the error that says so
    errno.EMFILE: ". To raise the limit: sysctl fs.inotify.max_user_instances=1024",
    errno.ENOSPC: ". To raise the limit: sysctl fs.inotify.max_user_watches=1048576",
}
OBSERVE_AGAIN_S = 600.0  # after the kernel refused its events
LIVE = 4096  # hints waiting to be looked at; beyond it a scan is cheaper


@dataclass(frozen=True, slots=True)
class WatchPlan:
    """What to watch and how.

    Attributes
    ----------
    root : Path
    include, exclude, suffixes : sequence of str
    settle_s : float
    interrupted_after_s : float
    why_not_whole : callable
        Says why a file is not complete; "" when it is.
    is_archive : bool
        Whether files stay where they were put, as a microscope's do and a drop folder's do not: an
        empty folder then is a mount point without its disk, and a file with another ctime was
        written to.
    """

    root: Path
    include: Sequence[str]
    exclude: Sequence[str]
    suffixes: Sequence[str]
    settle_s: float = SETTLE_S
    interrupted_after_s: float = INTERRUPTED_AFTER_S
    why_not_whole: Callable[[Path], str] = why_file_not_whole
    is_archive: bool = True


@dataclass(frozen=True, slots=True)
class Finished:
    """A file that nobody writes any more, and that is whole."""

    sighting: Sighting


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A file that is there and not whole.

    Attributes
    ----------
    sighting : Sighting
    reason : str
    is_given_up : bool
        Whether it has stood still for so long that it is treated as interrupted.
    """

    sighting: Sighting
    reason: str
    is_given_up: bool


@dataclass(frozen=True, slots=True)
class Gone:
    """A file that was reported as not whole and is there no more.

    Attributes
    ----------
    path : str
        Relative to the watched folder.
    """

    path: str


@dataclass(frozen=True, slots=True)
class Scanned:
    """The end of a scan.

    Attributes
    ----------
    files : int
    is_quiet : bool
        Whether every file there is has been reported.
    reason : str
        Why the folder could not be listed; "" when it could.
    """

    files: int
    is_quiet: bool
    reason: str = ""


Event = Finished | Unfinished | Gone | Scanned


@dataclass
class _Memory:
    """What the watcher knows: files under observation, and how each was last reported."""

    settler: Settler
    reported: dict[str, Sighting] = field(default_factory=dict)
    unfinished: dict[str, tuple[Sighting, str, bool]] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)  # unfinished ones that are to be looked at again
    has_held: bool = False  # whether files were known or seen in the folder
    place: tuple[int, int] | None = None  # its device and inode when files were seen in this life


def watch(
    plan: WatchPlan,
    stop: threading.Event,
    known: dict[str, Sighting],
    forget: "queue.SimpleQueue[str] | None" = None,
    stood: Sequence[tuple[Sighting, float]] = (),
) -> Iterator[Event]:
    """Report the files of a folder as they are finished, until told to stop.

    Parameters
    ----------
    plan : WatchPlan
    stop : threading.Event
        Ends the generator within a tick.
    known : dict of str to Sighting
        Files that need no report unless they change, by relative path.
    forget : SimpleQueue of str, or None
        Files that are to be seen as new, should they be there: one that was gone when it was to be
        read may come back as it was; one that lists a set has grown with a file of it.
    stood : sequence of (Sighting, float)
        Files that were not whole when it was last watched, and for how many seconds they had stood
        still: their time continues.

    Yields
    ------
    Finished, Unfinished, Gone or Scanned
    """
    hints: queue.SimpleQueue[str] = queue.SimpleQueue()
    memory = _remembered(plan, known, stood)
    observer: BaseObserver | None = None
    next_scan = next_observer = 0.0
    n_lost = _lost.count
    try:
        while not stop.is_set():
            now = time.monotonic()
            _forget(memory, forget)
            if now >= next_observer and (observer is None or not observer.is_alive()):
                observer = _observe(plan.root, hints)
                is_refused = observer is None and plan.root.is_dir()
                next_observer = now + (OBSERVE_AGAIN_S if is_refused else RESCAN_S)
                next_observer = next_observer if plan.root.is_dir() else now
            if _lost.count != n_lost:
                n_lost, next_scan = _lost.count, now  # events were lost: look at everything
            if now >= next_scan or hints.qsize() > LIVE:
                while not hints.empty():
                    hints.get()
                reason, files = _scan_all(plan, memory, now)
                yield from _ripe(plan, memory, now)
                is_quiet = not memory.settler and (forget is None or forget.empty())
                yield Scanned(files, is_quiet, reason)
                next_scan = now + (OFFLINE_RETRY_S if reason else RESCAN_S)
            else:
                yield from _take_hints(plan, memory, hints, now)
                ripe = list(_ripe(plan, memory, now))
                yield from ripe
                if ripe and not memory.settler:
                    next_scan = now  # everything was reported: make sure of it
            stop.wait(TICK_S)
    finally:
        if observer is not None and observer.is_alive():
            observer.stop()
            observer.join()


def _forget(memory: "_Memory", names: "queue.SimpleQueue[str] | None") -> None:
    while names is not None and not names.empty():
        memory.settler.forget(name := names.get())
        memory.reported.pop(name, None)


def _remembered(
    plan: WatchPlan, known: dict[str, Sighting], stood: Sequence[tuple[Sighting, float]]
) -> _Memory:
    memory = _Memory(Settler(plan.settle_s), reported=dict(known), has_held=bool(known))
    for sighting, seconds in (each for each in stood if each[0].path not in known):
        memory.settler.see(_seen(plan, sighting), time.monotonic() - seconds)
    return memory


def _scan_all(plan: WatchPlan, memory: _Memory, now: float) -> tuple[str, int]:
    files = 0
    try:
        for sighting in scan(plan.root, plan.include, plan.exclude, plan.suffixes):
            files += 1
            _see(plan, memory, sighting, now)
    except OSError as error:
        return f"{plan.root} cannot be listed: {error.strerror or error}", files
    if not files and memory.has_held and _is_offline(plan, memory):
        return f"{plan.root} holds none of the files known: its disk may not be mounted", 0
    if files:
        memory.has_held, memory.place = True, _place_of(plan.root)
    # What it takes to be whole may lie in another file that has come: the metadata of a set.
    memory.again = set(memory.unfinished)
    return "", files


def _is_offline(plan: WatchPlan, memory: _Memory) -> bool:
    # Without its disk a folder is the mount point. The same one as before was emptied by somebody.
    if not plan.is_archive or (memory.place is not None and memory.place == _place_of(plan.root)):
        return False
    return is_bare(plan.root) or memory.place is not None


def _place_of(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _take_hints(
    plan: WatchPlan, memory: _Memory, hints: "queue.SimpleQueue[str]", now: float
) -> Iterator[Event]:
    paths = {item_of(hints.get(), plan.suffixes) for _ in range(hints.qsize())}
    watched = [s.path for s in memory.settler.settled(float("inf"))]
    for relative in paths.union(watched):
        sighting = look(plan.root, relative, plan.include, plan.exclude, plan.suffixes)
        if sighting:
            _see(plan, memory, sighting, now)
        elif not _is_offline(plan, memory):
            memory.settler.forget(relative)
            if memory.unfinished.pop(relative, None):
                yield Gone(relative)


def _see(plan: WatchPlan, memory: _Memory, sighting: Sighting, now: float) -> None:
    known, seen = memory.reported.get(sighting.path), _seen(plan, sighting)
    if known is None or not known.is_like(seen):
        memory.settler.see(seen, now)


def _seen(plan: WatchPlan, sighting: Sighting) -> Sighting:
    return sighting if plan.is_archive else replace(sighting, ctime_ns=None)


def _ripe(plan: WatchPlan, memory: _Memory, now: float) -> Iterator[Event]:
    for sighting in memory.settler.settled(now):
        given_up = memory.settler.quiet_for(sighting.path, now) >= plan.interrupted_after_s
        is_known = memory.unfinished.get(sighting.path, (None,))[0] == sighting
        if is_known and not given_up and sighting.path not in memory.again:
            continue  # it is not whole and has not changed since it was looked at
        memory.again.discard(sighting.path)
        reason = plan.why_not_whole(plan.root / sighting.path)
        seen_again = look(plan.root, sighting.path, plan.include, plan.exclude, plan.suffixes)
        if seen_again is None or _seen(plan, seen_again) != sighting:
            continue  # it changed while it was looked at
        if not reason:
            memory.settler.forget(sighting.path)
            memory.unfinished.pop(sighting.path, None)
            memory.reported[sighting.path] = sighting
            yield Finished(sighting)
            continue
        if given_up:  # a change will bring it back
            memory.settler.forget(sighting.path)
            memory.reported[sighting.path] = sighting
        if memory.unfinished.get(sighting.path) != (sighting, reason, given_up):
            memory.unfinished[sighting.path] = (sighting, reason, given_up)
            yield Unfinished(sighting, reason, given_up)


def _observe(root: Path, hints: "queue.SimpleQueue[str]") -> BaseObserver | None:
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
            "%s: no events from the kernel (%s); scanning every %g s%s",
            root,
            error.strerror or error,
            RESCAN_S,
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
