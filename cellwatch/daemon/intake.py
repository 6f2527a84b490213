"""Finished files become queued acquisitions: a thread per folder looks, the supervisor records."""

import logging
import queue as queues
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sqlite_utils import Database

from cellwatch.config.schema import Watch
from cellwatch.errors import UnreadableImage
from cellwatch.records import AcquisitionState, ImageInfo
from cellwatch.storage import arrivals, history
from cellwatch.storage.images import describe
from cellwatch.storage.pathtext import text_path
from cellwatch.storage.places import store_path
from cellwatch.storage.suffixes import SUFFIXES
from cellwatch.watching.identity import fingerprint
from cellwatch.watching.names import experiment_of
from cellwatch.watching.scanner import scan
from cellwatch.watching.settle import Sighting
from cellwatch.watching.watcher import (
    INTERRUPTED_AFTER_S,
    Event,
    Finished,
    Gone,
    Scanned,
    Unfinished,
    WatchPlan,
    watch,
)

logger = logging.getLogger(__name__)

WATCH_AGAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class FromWatcher:
    """What one folder's watcher reported, with what was found out about the file.

    Attributes
    ----------
    watch : Watch
    event : Event
    fingerprint : str
        Of a finished file.
    info : ImageInfo or None
        Of a finished file; its `reason` says why it cannot be used. None: not looked at.
    """

    watch: Watch
    event: Event
    fingerprint: str = ""
    info: ImageInfo | None = None


def plan_for(watched: Watch, *, is_once: bool) -> WatchPlan:
    """Return what a watcher needs of a folder's configuration.

    With `is_once` a file that is not whole when it has settled is given up at once.
    """
    return WatchPlan(
        root=watched.folder,
        include=watched.include,
        exclude=watched.excluded(),
        suffixes=SUFFIXES,
        settle_s=watched.settle,
        interrupted_after_s=watched.settle if is_once else INTERRUPTED_AFTER_S,
    )


def start_watching(
    watched: Watch,
    known: dict[str, Sighting],
    stop: threading.Event,
    on_event: Callable[[FromWatcher], None],
    *,
    is_once: bool,
    forget: "queues.SimpleQueue[str] | None" = None,
) -> threading.Thread:
    """Watch one folder in a thread that opens files but never the ledger.

    What is put into `forget` is reported again when it is there.
    """
    plan = plan_for(watched, is_once=is_once)

    def run() -> None:
        while not stop.is_set():
            try:
                for event in watch(plan, stop, known, forget):
                    on_event(_looked_into(watched, event))
            except Exception as error:
                logger.exception("watching %s failed; it starts anew", watched.folder)
                reason = f"watching failed: {type(error).__name__}: {error}"
                on_event(FromWatcher(watched, Scanned(0, False, reason)))
                stop.wait(WATCH_AGAIN_S)

    thread = threading.Thread(target=run, daemon=True, name=f"watch-{watched.name}")
    thread.start()
    return thread


def known_files(db: Database, watched: Watch) -> dict[str, Sighting]:
    """Return the files of a folder that were taken in before, as they were then."""
    rows = db.execute(
        """
        SELECT relative_path, size, mtime_ns FROM acquisitions
        WHERE watch = ? AND superseded_by IS NULL
              AND state NOT IN ('waiting', 'interrupted', 'missing')
              AND NOT (state = 'failed' AND fingerprint = '')
        """,
        [watched.name],
    )
    return {
        text_path(path): Sighting(text_path(path), size, mtime_ns) for path, size, mtime_ns in rows
    }


def skip_existing(db: Database, watched: Watch, now: datetime) -> int:
    """Record the files that were there before the folder was first watched as skipped.

    Returns
    -------
    int
        How many; 0 unless `existing` says so and the folder is new.
    """
    sql = "SELECT 1 FROM folders WHERE name = ? AND scanned_at IS NOT NULL"
    if watched.existing == "process" or db.execute(sql, [watched.name]).fetchone():
        return 0
    since = None
    if watched.existing.startswith("since:"):
        moment = datetime.fromisoformat(watched.existing[6:])
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e9
    found = scan(watched.folder, watched.include, watched.excluded(), SUFFIXES)
    old = [
        _arrival(watched, sighting, "", ImageInfo(sighting.path))
        for sighting in found
        if since is None or sighting.mtime_ns < since
    ]
    reason = f"it was there before the folder was watched (existing: {watched.existing})"
    arrivals.skip_all(db, old, reason, now)
    return len(old)


def take_in(db: Database, report: FromWatcher, output: Path, now: datetime) -> None:
    """Record what a watcher reported."""
    watched, event = report.watch, report.event
    if isinstance(event, Scanned):
        # The first scan ends before any file of it can have settled.
        if not event.reason and (skipped := skip_existing(db, watched, now)):
            logger.info("%s: %d files were there before; skipped", watched.folder, skipped)
        history.folder_scanned(
            db, watched.name, str(watched.folder), files=event.files, reason=event.reason, now=now
        )
    elif isinstance(event, Gone):
        arrivals.note_gone(db, watched.name, str(watched.folder / event.path), now)
    elif isinstance(event, Unfinished):
        given_up = event.is_given_up
        state = AcquisitionState.INTERRUPTED if given_up else AcquisitionState.WAITING
        arrival = _arrival(watched, event.sighting, "", ImageInfo(event.sighting.path))
        arrivals.note_waiting(db, arrival, state, event.reason, now)
        if given_up:
            logger.warning("%s is not whole: %s", event.sighting.path, event.reason)
    elif report.info is not None:
        _take_finished(db, report, event.sighting, report.info, output, now)


def _take_finished(
    db: Database,
    report: FromWatcher,
    sighting: Sighting,
    info: ImageInfo,
    output: Path,
    now: datetime,
) -> None:
    watched = report.watch
    arrival = _arrival(watched, sighting, report.fingerprint, info)
    if info.reason:
        arrivals.note_waiting(db, arrival, AcquisitionState.FAILED, info.reason, now)
        logger.warning("%s cannot be used: %s", arrival.path, info.reason)
        return
    if experiment := arrivals.experiment_before(db, arrival):
        arrival = replace(arrival, experiment=experiment)
    place = _place(db, arrival, output)
    names = [target.name for target in watched.targets()]
    if arrivals.enqueue(db, arrival, place, names, now) is not None:
        logger.info("queued %s", arrival.path)


def _place(db: Database, arrival: arrivals.Arrival, output: Path) -> str:
    if before := arrivals.place_of(db, arrival.watch, arrival.path):
        return before
    watched, relative = arrival.watch, arrival.relative_path
    plain = str(output / store_path(watched, relative, arrival.fingerprint, is_free=True))
    if arrivals.place_is_free(db, plain, arrival.path):
        return plain
    return str(output / store_path(watched, relative, arrival.fingerprint, is_free=False))


def _looked_into(watched: Watch, event: Event) -> FromWatcher:
    if not isinstance(event, Finished):
        return FromWatcher(watched, event)
    path = watched.folder / event.sighting.path
    try:
        name = fingerprint(path)
        return FromWatcher(watched, event, name, describe(path, watched.axes))
    except UnreadableImage as error:
        broken = ImageInfo(str(path), whole=False, reason=error.reason)
        return FromWatcher(watched, event, "", broken)


def _arrival(watched: Watch, sighting: Sighting, content: str, info: ImageInfo) -> arrivals.Arrival:
    return arrivals.Arrival(
        watch=watched.name,
        path=str(watched.folder / sighting.path),
        relative_path=sighting.path,
        experiment=experiment_of(sighting.path, watched.experiment, _local_date(sighting)),
        fingerprint=content,
        size=sighting.size,
        mtime_ns=sighting.mtime_ns,
        info=info,
    )


def _local_date(sighting: Sighting) -> str:
    # By the file's own time: a scan after a night of being switched off finds yesterday's images.
    seconds = min(sighting.mtime_ns, arrivals.LATEST_NS) / 1e9
    return datetime.fromtimestamp(seconds, UTC).astimezone().date().isoformat()
