"""Watch one folder: events as hints, scans as the truth, finished files as one generator."""

import logging
import os
import queue
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from cellwatch.watching.scanner import item_of, look, scan
from cellwatch.watching.settle import SETTLE_S, Settler, Sighting
from cellwatch.watching.structure import why_not_whole

logger = logging.getLogger(__name__)

TICK_S = 0.25
RESCAN_S = 10.0
OFFLINE_RETRY_S = 5.0
INTERRUPTED_AFTER_S = 600.0  # a file that is not whole and stands still so long was given up
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
    """

    root: Path
    include: Sequence[str]
    exclude: Sequence[str]
    suffixes: Sequence[str]
    settle_s: float = SETTLE_S
    interrupted_after_s: float = INTERRUPTED_AFTER_S


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
        Whether it has stood still for so long that it counts as interrupted.
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


def watch(
    plan: WatchPlan,
    stop: threading.Event,
    known: dict[str, Sighting],
    forget: "queue.SimpleQueue[str] | None" = None,
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
        Files that are to be reported once more, should they be there: one that was gone when it
        was to be read may come back as it was.

    Yields
    ------
    Finished, Unfinished, Gone or Scanned
    """
    hints: queue.SimpleQueue[str] = queue.SimpleQueue()
    memory = _Memory(Settler(plan.settle_s), reported=dict(known))
    observer: BaseObserver | None = None
    next_scan = next_observer = 0.0
    try:
        while not stop.is_set():
            now = time.monotonic()
            while forget is not None and not forget.empty():
                memory.reported.pop(forget.get(), None)
            if now >= next_observer and (observer is None or not observer.is_alive()):
                observer = _observe(plan.root, hints)
                next_observer = now + RESCAN_S if plan.root.is_dir() else now
            if now >= next_scan or hints.qsize() > LIVE:
                while not hints.empty():
                    hints.get()
                reason, files = _scan_all(plan, memory, now)
                yield from _ripe(plan, memory, now)
                yield Scanned(files, len(memory.settler) == 0, reason)
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


def _scan_all(plan: WatchPlan, memory: _Memory, now: float) -> tuple[str, int]:
    files = 0
    try:
        for sighting in scan(plan.root, plan.include, plan.exclude, plan.suffixes):
            files += 1
            _see(memory, sighting, now)
    except OSError as error:
        return f"{plan.root} cannot be listed: {error.strerror or error}", files
    return "", files


def _take_hints(
    plan: WatchPlan, memory: _Memory, hints: "queue.SimpleQueue[str]", now: float
) -> Iterator[Event]:
    paths = {item_of(hints.get(), plan.suffixes) for _ in range(hints.qsize())}
    watched = [s.path for s in memory.settler.settled(float("inf"))]
    for relative in paths.union(watched):
        sighting = look(plan.root, relative, plan.include, plan.exclude, plan.suffixes)
        if sighting:
            _see(memory, sighting, now)
        else:
            memory.settler.forget(relative)
            if memory.unfinished.pop(relative, None):
                yield Gone(relative)


def _see(memory: _Memory, sighting: Sighting, now: float) -> None:
    if memory.reported.get(sighting.path) != sighting:
        memory.settler.see(sighting, now)


def _ripe(plan: WatchPlan, memory: _Memory, now: float) -> Iterator[Event]:
    for sighting in memory.settler.settled(now):
        given_up = memory.settler.quiet_for(sighting.path, now) >= plan.interrupted_after_s
        if not given_up and memory.unfinished.get(sighting.path, (None,))[0] == sighting:
            continue  # it is not whole and has not changed since it was looked at
        reason = why_not_whole(plan.root / sighting.path)
        seen_again = look(plan.root, sighting.path, plan.include, plan.exclude, plan.suffixes)
        if seen_again != sighting:
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
    # An observer that is stopped while it reads calls that an error.
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)
    observer = Observer()
    observer.schedule(_Hints(root, hints), str(root), recursive=True)
    try:
        observer.start()
    except OSError as error:
        # The scan finds everything; only the seconds until the next one are lost.
        logger.warning(
            "%s: no events from the kernel (%s); scanning every %g s. To raise the limit: "
            "sysctl fs.inotify.max_user_watches=1048576",
            root,
            error,
            RESCAN_S,
        )
        return None
    return observer


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
