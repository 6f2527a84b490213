"""Watch one folder: events as hints, scans as the truth, finished files as one generator."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cellwatch.files.members import file_of
from cellwatch.images.structure import why_file_not_whole
from cellwatch.watching.kernel_events import KernelEvents
from cellwatch.watching.names import FileFilter
from cellwatch.watching.scanner import LOCAL, Lister, item_of
from cellwatch.watching.settle import SETTLE_S, Settler, Sighting

TICK_S = 0.1
RESCAN_S = 10.0  # between scans, if these are quick
RESCAN_AT_MOST_S = 600.0
SCAN_SHARE = 0.004  # of the time that scans of a large folder may take beside events of the kernel
SCAN_SHARE_ALONE = 0.1  # and where there are none
OFFLINE_RETRY_S = 5.0
INTERRUPTED_AFTER_S = 600.0  # an incomplete file that does not change for so long was given up
LIVE = 4096  # hints waiting to be looked at; beyond it a scan is cheaper


@dataclass(frozen=True, slots=True)
class WatchPlan:
    """What to watch and how.

    Attributes
    ----------
    root : Path
    wanted : FileFilter
    settle_s : float
    interrupted_after_s : float
    why_not_whole : callable
        Says why a file is not complete; "" when it is.
    is_archive : bool
        Whether files stay where they were put, as a microscope's do and a drop folder's do not: an
        empty folder then is a mount point without its disk, and a file with another ctime was
        written to.
    has_events : bool
        Whether the kernel is asked to report changes; of a share it knows its own alone.
    lister : Lister
        Looks into the folder.
    """

    root: Path
    wanted: FileFilter
    settle_s: float = SETTLE_S
    interrupted_after_s: float = INTERRUPTED_AFTER_S
    why_not_whole: Callable[[Path], str] = why_file_not_whole
    is_archive: bool = True
    has_events: bool = True
    lister: Lister = LOCAL


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
    next_in_s : float
        When the next one is due.
    """

    files: int
    is_quiet: bool
    reason: str = ""
    next_in_s: float = RESCAN_S


Event = Finished | Unfinished | Gone | Scanned
Notices = queue.SimpleQueue[str | Sighting]


@dataclass
class _Memory:
    """What the watcher knows: files under observation, and how each was last reported."""

    settler: Settler
    notices: Notices
    reported: dict[str, Sighting] = field(default_factory=dict)
    unfinished: dict[str, tuple[Sighting, str, bool]] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)  # unfinished ones that are to be looked at again
    unseen: set[str] = field(default_factory=set)  # unfinished ones that the last scan did not find
    has_held: bool = False  # whether files were known or seen in the folder
    place: tuple[int, int] | None = None  # its device and inode when files were seen in this life


def watch(
    plan: WatchPlan,
    stop: threading.Event,
    known: dict[str, Sighting],
    notices: "Notices | None" = None,
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
    notices : Notices or None
        What becomes known of files meanwhile. A path is to be seen as new, should it be there: one
        that was gone when it was to be read may come back as it was; one that lists a set has grown
        with a file of it. A sighting needs no report unless it changes.
    stood : sequence of (Sighting, float)
        Files that were not whole when it was last watched, and for how many seconds they had stood
        still: their time continues.

    Yields
    ------
    Finished, Unfinished, Gone or Scanned
    """
    events = KernelEvents(plan.root, is_asked=plan.has_events)
    memory = _remembered(plan, known, stood, notices or queue.SimpleQueue())
    next_scan = 0.0
    try:
        while not stop.is_set():
            now = time.monotonic()
            _heed(memory)
            events.open(now)
            if events.has_missed():
                next_scan = now  # look at everything
            if now >= next_scan or events.hints.qsize() > LIVE:
                events.clear()
                reason, files = _scan_all(plan, memory, now)
                pause = _until_next_scan(now, reason, has_events=events.is_open)
                if not reason:
                    yield from _vanished(plan, memory)
                    yield from _ripe(plan, memory, now)
                is_quiet = not memory.settler and memory.notices.empty()
                yield Scanned(files, is_quiet, reason, pause)
                next_scan = now + pause
            else:
                ripe = list(_between_scans(plan, memory, events, now))
                yield from ripe
                if any(isinstance(event, Scanned) for event in ripe):
                    next_scan = time.monotonic() + OFFLINE_RETRY_S
                elif any(isinstance(event, _ANSWERS) for event in ripe) and not memory.settler:
                    next_scan = now  # everything was reported: make sure of it
            stop.wait(TICK_S)
    finally:
        events.close()


_ANSWERS = (Finished, Unfinished)


def _between_scans(
    plan: WatchPlan, memory: _Memory, events: KernelEvents, now: float
) -> Iterator[Event]:
    try:
        yield from _take_hints(plan, memory, events.hints, now)
        yield from _ripe(plan, memory, now)
    except OSError as error:  # a share that does not answer: all else waits for it
        yield Scanned(0, False, f"{plan.root}: {error}", OFFLINE_RETRY_S)


def _until_next_scan(began: float, reason: str, *, has_events: bool) -> float:
    # A folder of a million files is looked through more rarely than one of a hundred.
    if reason:
        return OFFLINE_RETRY_S
    share = SCAN_SHARE if has_events else SCAN_SHARE_ALONE
    return min(RESCAN_AT_MOST_S, max(RESCAN_S, (time.monotonic() - began) / share))


def _heed(memory: _Memory) -> None:
    while not memory.notices.empty():
        notice = memory.notices.get()
        if isinstance(notice, str):
            memory.settler.forget(notice)
            memory.reported.pop(notice, None)
        else:
            _know(memory, notice)


def _heed_known(memory: _Memory) -> None:
    # What is to be seen as new stays for the next turn: forgotten here, it would not be reported.
    notices = [memory.notices.get() for _ in range(memory.notices.qsize())]
    for notice in notices:
        if isinstance(notice, str):
            memory.notices.put(notice)
        else:
            _know(memory, notice)


def _know(memory: _Memory, sighting: Sighting) -> None:
    memory.reported[sighting.path] = sighting
    if sighting.is_like(memory.settler.held(sighting.path) or sighting):
        memory.settler.forget(sighting.path)  # a version that was written since settles as ever


def _remembered(
    plan: WatchPlan,
    known: dict[str, Sighting],
    stood: Sequence[tuple[Sighting, float]],
    notices: Notices,
) -> _Memory:
    held = bool(known or stood)
    memory = _Memory(Settler(plan.settle_s), notices, reported=dict(known), has_held=held)
    for sighting, seconds in (each for each in stood if each[0].path not in known):
        memory.settler.see(_seen(plan, sighting), time.monotonic() - seconds)
        memory.unfinished[sighting.path] = (sighting, "", False)
    return memory


def _scan_all(plan: WatchPlan, memory: _Memory, now: float) -> tuple[str, int]:
    files, memory.unseen = 0, set(memory.unfinished)
    try:
        for sighting in plan.lister.scan(plan.root, plan.wanted):
            files += 1
            memory.unseen.discard(sighting.path)
            _see(plan, memory, sighting, now)
    except OSError as error:
        return f"{plan.root} cannot be listed: {error.strerror or error}", files
    if not files and memory.has_held and _is_offline(plan, memory):
        return f"{plan.root} holds none of the files known: its disk may not be mounted", 0
    if files:
        memory.has_held, memory.place = True, plan.lister.place_of(plan.root)
    # What it takes to be whole may lie in another file that has come: the metadata of a set.
    memory.again = set(memory.unfinished)
    return "", files


def _is_offline(plan: WatchPlan, memory: _Memory) -> bool:
    # Without its disk a folder is the mount point. The same one as before was emptied by somebody.
    place = plan.lister.place_of(plan.root)
    if not plan.is_archive or (memory.place is not None and memory.place == place):
        return False
    return plan.lister.is_bare(plan.root) or memory.place is not None


def _take_hints(
    plan: WatchPlan, memory: _Memory, hints: "queue.SimpleQueue[str]", now: float
) -> Iterator[Event]:
    paths = {item_of(hints.get(), plan.wanted.suffixes) for _ in range(hints.qsize())}
    watched = [s.path for s in memory.settler.settled(float("inf"))]
    for relative in paths.union(watched):
        sighting = _look(plan, relative)
        if sighting:
            _see(plan, memory, sighting, now)
        elif not _is_offline(plan, memory):
            yield from _gone(memory, relative)


def _vanished(plan: WatchPlan, memory: _Memory) -> Iterator[Event]:
    # Also where no event of the kernel said so: on a share, or while nobody watched.
    for relative in sorted(memory.unseen & memory.unfinished.keys()):
        is_member = file_of(plan.root / relative) != plan.root / relative
        if not is_member and plan.lister.is_gone(plan.root, relative):
            yield from _gone(memory, relative)


def _gone(memory: _Memory, relative: str) -> Iterator[Event]:
    memory.settler.forget(relative)
    memory.reported.pop(relative, None)  # should it come back, it is new
    if memory.unfinished.pop(relative, None):
        yield Gone(relative)


def _look(plan: WatchPlan, relative: str) -> Sighting | None:
    return plan.lister.look(plan.root, relative, plan.wanted)


def _see(plan: WatchPlan, memory: _Memory, sighting: Sighting, now: float) -> None:
    known, seen = memory.reported.get(sighting.path), _seen(plan, sighting)
    if known is None or not known.is_like(seen):
        memory.settler.see(seen, now)


def _seen(plan: WatchPlan, sighting: Sighting) -> Sighting:
    return sighting if plan.is_archive else replace(sighting, ctime_ns=None)


def _ripe(plan: WatchPlan, memory: _Memory, now: float) -> Iterator[Event]:
    for sighting in memory.settler.settled(now):
        _heed_known(memory)
        if sighting.path not in memory.settler:
            continue  # it became known while others were looked at
        given_up = memory.settler.quiet_for(sighting.path, now) >= plan.interrupted_after_s
        is_known = memory.unfinished.get(sighting.path, (None,))[0] == sighting
        if is_known and not given_up and sighting.path not in memory.again:
            continue  # it is not whole and has not changed since it was looked at
        memory.again.discard(sighting.path)
        reason = plan.why_not_whole(plan.root / sighting.path)
        seen_again = _look(plan, sighting.path)
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
