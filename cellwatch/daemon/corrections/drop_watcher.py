"""Watch the folder of corrections: each dropped file is matched, read, and reported.

A thread watches the two folders. It matches a file by its name, has a child process read it, and
puts what came of it into the supervisor's queue. The supervisor records it, then writes the answer
beside the file: never before.
"""

import logging
import queue as queues
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sqlite_utils import Database

from cellwatch.config.schema import Config
from cellwatch.daemon.corrections.events import (
    FOLDERS,
    SETTLE_S,
    TAKEN,
    DropRead,
    Event,
    FolderLost,
)
from cellwatch.daemon.corrections.flag_watcher import watch_flags
from cellwatch.daemon.corrections.match_result import TAKE_NEW, Matched, Unmatched, overwritten
from cellwatch.daemon.corrections.matching import match_drop
from cellwatch.daemon.corrections.presence import FilesMoved, Presence
from cellwatch.daemon.corrections.reader import Reader
from cellwatch.records import (
    Correction,
    CorrectionAsked,
    CorrectionKind,
    CorrectionRead,
    CorrectionState,
)
from cellwatch.storage.corrections.kept import ORIGINAL
from cellwatch.storage.corrections.names import (
    PICTURES,
    DroppedName,
    has_short_id,
    meant_ending,
    read_name,
)
from cellwatch.storage.ledger import annotations, confirmations, corrections, dropped_files
from cellwatch.storage.ledger.dropped_files import Drop
from cellwatch.storage.ledger.path_text import path_text, text_path
from cellwatch.storage.reports.station import LEDGER, reader
from cellwatch.watching.scanner import look, scan
from cellwatch.watching.settle import Sighting
from cellwatch.watching.watcher import Finished, Scanned, Unfinished, WatchPlan, watch

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 60.0  # for files that were taken away
KEPT = "corrections"  # below the state folder
WAIT_REMEDY = (
    "nothing, if the image is still to come: this file is then taken by itself. Else look whether "
    "it is named after the image"
)
BLOCKED_REMEDY = (
    "nothing to do: cellwatch tries again every minute; the log of the daemon has the details"
)


def start_drop_watcher(
    config: Config,
    stop: threading.Event,
    again: "queues.Queue[Correction]",
    on_event: Callable[[Event], None],
) -> list[threading.Thread]:
    """Watch the folders of corrections and flags, each in a thread.

    Parameters
    ----------
    config : Config
    stop : threading.Event
    again : Queue of Correction
        Corrections to be read again: orphans whose image has come, those that got a region.
    on_event : callable
    """
    threads = []
    if config.corrections is not None:
        folder = config.corrections.folder
        run = _guarded(lambda: _watch_corrections(config, folder, stop, again, on_event))
        threads.append(threading.Thread(target=run, args=(stop,), daemon=True, name="corrections"))
    if config.flags is not None:
        place = config.flags.folder
        run = _guarded(lambda: watch_flags(place, stop, on_event))
        threads.append(threading.Thread(target=run, args=(stop,), daemon=True, name="flags"))
    for thread in threads:
        thread.start()
    return threads


def _guarded(work: Callable[[], None]) -> Callable[[threading.Event], None]:
    def run(stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                work()
            except Exception:
                logger.exception("reading dropped files failed; cellwatch reads them again")
                stop.wait(5.0)

    return run


def _watch_corrections(
    config: Config,
    folder: Path,
    stop: threading.Event,
    again: "queues.Queue[Correction]",
    on_event: Callable[[Event], None],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plan = WatchPlan(folder, TAKEN, SETTLE_S, SETTLE_S, is_archive=False)
    watcher = DropWatcher(config, folder)
    with reader(config.state.folder / LEDGER) as db:
        known = known_corrections(db)  # again whenever the thread starts again
    lost, next_look = "", 0.0
    presence = Presence(config.state.folder / LEDGER, folder)
    try:
        for event in watch(plan, stop, known):
            if isinstance(event, Scanned) and event.reason != lost:
                lost = event.reason
                on_event(FolderLost(FOLDERS[0], folder, lost, event.files))
            if isinstance(event, Scanned) and time.monotonic() >= next_look:
                next_look = time.monotonic() + LOOK_EVERY_S
                if moved := _moved(presence, folder):
                    on_event(moved)
            if isinstance(event, Finished):
                on_event(watcher.look(event.sighting))
            elif isinstance(event, Unfinished) and event.is_given_up:
                drop = watcher.unnamed(event.sighting)
                reason = f"the file is not whole: {event.reason}"
                on_event(DropRead(drop, CorrectionRead(reason=reason, remedy="save it again")))
            while not again.empty():
                row = again.get()
                try:
                    if found := watcher.look_again(row):
                        on_event(found)
                finally:
                    again.task_done()
    finally:
        watcher.close()


def _moved(presence: Presence, folder: Path) -> FilesMoved | None:
    try:
        known, away = presence.looked_up()
        return presence.changes(known, away, list(scan(folder, TAKEN)))
    except OSError:
        return None  # it cannot be listed: `FolderLost` says so


class DropWatcher:
    # What the corrections thread carries from file to file.
    def __init__(self, config: Config, folder: Path) -> None:
        self._config, self._folder = config, folder
        self._reader = Reader()
        self._ledger = config.state.folder / LEDGER
        self._troubled: set[str] = set()

    def close(self) -> None:
        self._reader.close()

    def unnamed(self, sighting: Sighting) -> dropped_files.Drop:
        return dropped_files.Drop(sighting.path, sighting.size, sighting.mtime_ns)

    def look(
        self, sighting: Sighting, orphan_id: int | None = None, was_of: int | None = None
    ) -> DropRead:
        # One file that cannot be looked at waits, and holds up no other. `was_of`: the acquisition
        # that it was of when it began to wait for it.
        try:
            found = self._look(sighting, orphan_id, was_of=was_of)
        except Exception as error:  # noqa: BLE001  # whatever it is: others wait behind it
            self._tell_once(sighting.path, error)
            waiting = f"blocked: it could not be looked at ({type(error).__name__})"
            return DropRead(
                self.unnamed(sighting), None, waiting, BLOCKED_REMEDY, orphan_id, is_blocked=True
            )
        self._troubled.discard(sighting.path)
        return found

    def _tell_once(self, path: str, error: Exception) -> None:
        if path not in self._troubled:
            text = "%s cannot be looked at; cellwatch tries again every minute"
            logger.error(text, path, exc_info=error)
        self._troubled.add(path)

    def _look(
        self,
        sighting: Sighting,
        orphan_id: int | None,
        kept: Path | None = None,
        was_of: int | None = None,
    ) -> DropRead:
        drop = self.unnamed(sighting)
        name = read_name(Path(sighting.path).name)
        if name is None:
            return DropRead(drop, _without_a_name(Path(sighting.path)))
        drop = replace(drop, kind=name.kind)
        with reader(self._ledger) as db:
            found = match_drop(db, self._config, Path(sighting.path), name)
            around = _Around.of(db, drop, name, found)
        if isinstance(found, Unmatched):
            if found.is_waiting:
                return DropRead(drop, None, found.reason, WAIT_REMEDY, orphan_id)
            answer = CorrectionRead(reason=found.reason, remedy=found.remedy)
            return DropRead(drop, answer, orphan_id=orphan_id)
        if was_of not in (None, found.acquisition_id) and not found.plane_sha256:
            answer = CorrectionRead(reason=overwritten(found.image), remedy=TAKE_NEW)
            return DropRead(drop, answer, orphan_id=orphan_id)
        asked = self._asked(kept or self._folder / sighting.path, name, found, around)
        return self._read(asked, drop, found, orphan_id)

    def _asked(
        self, path: Path, name: DroppedName, found: Matched, around: "_Around"
    ) -> CorrectionAsked:
        return CorrectionAsked(
            path=str(path),
            kind=name.kind,
            is_empty=name.is_empty,
            image=found.image,
            axes=found.axes,
            store=found.store,
            target=found.target,
            channels=found.channels,
            plane=found.plane,
            crop=found.crop,
            is_mirrored=found.is_mirrored,
            keep=str(self._config.state.folder / KEPT / uuid.uuid4().hex[:16]),
            region=around.region,
            other=around.other,
            handed_out=found.handed_out,
            normalise=asdict(found.normalise),
            **found.content,
            plane_sha256=found.plane_sha256,
            given_sha256=found.given_sha256,
            is_confirmed=around.is_confirmed,
        )

    def _read(
        self, asked: CorrectionAsked, drop: Drop, found: Matched, orphan_id: int | None
    ) -> DropRead:
        read = self._reader.ask(asked)
        if found.note and not read.reason:
            read = replace(read, notes=(*read.notes, found.note))
        if read.is_blocked:
            drop = replace(drop, acquisition_id=found.acquisition_id)
            reason = f"blocked: {read.reason}"
            return DropRead(drop, None, reason, read.remedy, orphan_id, is_blocked=True)
        return DropRead(found.on(drop, asked.keep), read, orphan_id=orphan_id)

    def look_again(self, row: Correction) -> DropRead | None:
        relative = text_path(row.file)
        orphan = row.id if row.state == CorrectionState.ORPHAN else None
        sighting = look(self._folder, relative, TAKEN)
        if sighting is not None:
            return self.look(sighting, orphan, row.acquisition_id if orphan else None)
        if orphan is not None or not row.folder:
            return None  # it was taken away before its image came
        return self._look_at_kept(row, relative)

    def _look_at_kept(self, row: Correction, relative: str) -> DropRead | None:
        # What cannot be read again is kept as it was read, and is tried again.
        try:
            kept = next(Path(row.folder or "").glob(f"{ORIGINAL}*"), None)
            if kept is None:
                return None
            found = self._look(Sighting(relative, row.size, row.mtime_ns), None, kept)
        except Exception as error:  # noqa: BLE001  # as above
            self._tell_once(relative, error)
            return None
        self._troubled.discard(relative)
        return found if found.read is not None else None


@dataclass(frozen=True, slots=True)
class _Around:
    """What the ledger knows beside a dropped file: its region, another look, a confirmation."""

    region: str
    other: str
    is_confirmed: bool

    @classmethod
    def of(
        cls, db: sqlite3.Connection, drop: Drop, name: DroppedName, found: Matched | Unmatched
    ) -> "_Around":
        region = other = ""
        if name.kind == CorrectionKind.LABELS and isinstance(found, Matched):
            region = annotations.region_of(db, found.on(drop, ""))
            other = annotations.other_look(db, found.on(drop, ""))
        return cls(region, other, confirmations.is_confirmed(db, drop))


def _without_a_name(path: Path) -> CorrectionRead:
    reason = f"the name '{path.name}' does not say what it is"
    if has_short_id(path.name):
        reason = f"'{path.name}' is named as an image that was taken out, not as its labels"
        return CorrectionRead(reason=reason, remedy="delete it here; only the labels are needed")
    meant = meant_ending(path.name)
    remedy = f"if its name should end in {meant}, name" if meant else "name"
    if (suffix := path.suffix.lower()) in PICTURES:
        reason = f"a {suffix} file does not keep the numbers of all ROIs"
        remedy = "save the label image as TIFF or as PNG of 16 bits, and name"
    return CorrectionRead(reason=reason, remedy=f"{remedy} it as below")


def known_corrections(db: Database | sqlite3.Connection) -> dict[str, Sighting]:
    """Return the dropped files that have their verdict, as they were then."""
    return {
        text_path(file): Sighting(text_path(file), size, mtime)
        for file, (size, mtime) in corrections.known_drops(db).items()
    }


def all_answered(db: Database, folder: Path) -> bool:
    """Say whether every file that lies in the corrections folder has been recorded as it is."""
    known = corrections.known_drops(db)
    return all(
        known.get(path_text(seen.path)) == (seen.size, seen.mtime_ns)
        for seen in scan(folder, TAKEN)
    )
