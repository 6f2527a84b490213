"""Finished files become queued acquisitions: a thread per folder looks, the supervisor records."""

import logging
import queue as queues
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sqlite_utils import Database

from cellwatch.config.schema import Watch
from cellwatch.daemon.arrival_facts import arrival_of, known_by_name
from cellwatch.daemon.inspection import FromWatcher, Listed, PartOf, looked_into, wanted_in
from cellwatch.daemon.inspector import Inspector
from cellwatch.daemon.set_arrivals import take_gone, take_part, take_parts
from cellwatch.daemon.share_lister import ShareLister
from cellwatch.daemon.summaries import Later, Summaries
from cellwatch.files.members import container_of
from cellwatch.files.patience import is_gone
from cellwatch.images import sets
from cellwatch.images.suffixes import unread_suffixes
from cellwatch.images.whole import why_not_whole
from cellwatch.records import Acquisition, AcquisitionState, ImageInfo
from cellwatch.storage.ledger import acquisitions, lookup, moves, places, service, set_files
from cellwatch.storage.ledger.path_text import text_path
from cellwatch.storage.masks.paths import store_path
from cellwatch.watching.scanner import LOCAL, Lister
from cellwatch.watching.settle import Sighting
from cellwatch.watching.watcher import (
    INTERRUPTED_AFTER_S,
    Gone,
    Notices,
    Scanned,
    Unfinished,
    WatchPlan,
    watch,
)

logger = logging.getLogger(__name__)

WATCH_AGAIN_S = 5.0
ALIKE = 20  # files with one content that are looked for, of blank images there may be thousands
UNREAD_EVERY_S = 60.0  # how often files of kinds that are not read are counted


def plan_for(
    watched: Watch,
    inspector: Inspector | None = None,
    lister: Lister = LOCAL,
    *,
    is_once: bool,
) -> WatchPlan:
    """Return what a watcher needs of a folder's configuration.

    With `is_once` a file that is not whole when it has settled is given up at once.
    """
    return WatchPlan(
        root=watched.folder,
        wanted=wanted_in(watched),
        settle_s=watched.settle_s,
        interrupted_after_s=watched.settle_s if is_once else INTERRUPTED_AFTER_S,
        why_not_whole=inspector.why_not_whole if inspector is not None else why_not_whole,
        has_events=not watched.is_polled,
        lister=lister,
    )


def start_watching(
    watched: Watch,
    known: dict[str, Sighting],
    stop: threading.Event,
    on_event: Callable[[FromWatcher], None],
    *,
    is_once: bool,
    notices: "Notices | None" = None,
    stood: Sequence[tuple[Sighting, float]] = (),
) -> threading.Thread:
    """Watch one folder in a thread that opens files but never the ledger.

    `notices` and `stood` are as `watch` takes them.
    """
    inspector = Inspector()
    notices = notices if notices is not None else queues.SimpleQueue()
    lister = _lister_for(watched)
    plan = plan_for(watched, inspector, lister, is_once=is_once)

    def run() -> None:
        unread_at, taken = 0.0, set[Path]()
        while not stop.is_set():
            try:
                for event in watch(plan, stop, known, notices, stood):
                    for report in looked_into(watched, event, (inspector, lister), taken):
                        on_event(report)
                        if isinstance(report.event, PartOf) and report.event.index.size:
                            notices.put(report.event.index.path)  # its set has grown
                    if isinstance(event, Scanned):
                        is_time = time.monotonic() >= unread_at
                        pause = max(UNREAD_EVERY_S, event.next_in_s)
                        unread_at = time.monotonic() + pause if is_time else unread_at
                        on_event(
                            FromWatcher(watched, event, unread=_unread(watched, lister, is_time))
                        )
                    if isinstance(event, Scanned) and event.is_quiet:
                        inspector.close_if_idle()
            except Exception as error:
                logger.exception("watching %s failed; it starts again", watched.folder)
                reason = f"watching failed: {type(error).__name__}: {error}"
                on_event(FromWatcher(watched, Scanned(0, False, reason)))
                stop.wait(WATCH_AGAIN_S)
        inspector.close()
        lister.close()

    thread = threading.Thread(target=run, daemon=True, name=f"watch-{watched.name}")
    thread.start()
    return thread


def _lister_for(watched: Watch) -> Lister:
    return ShareLister() if watched.is_polled else LOCAL


def skip_existing(db: Database, watched: Watch, now: datetime) -> int:
    """Record the files that were there before the folder was first watched as skipped.

    Returns
    -------
    int
        How many; 0 unless `existing` says so and the folder is new.
    """
    if watched.existing == "process" or lookup.was_scanned(db, watched.name):
        return 0
    since = None
    if watched.existing.startswith("since:"):
        moment = datetime.fromisoformat(watched.existing[6:])
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e9
    with closing(_lister_for(watched)) as lister:
        old = [
            arrival_of(watched, sighting, "", ImageInfo(sighting.path))
            for sighting in lister.scan(watched.folder, wanted_in(watched))
            if (since is None or sighting.mtime_ns < since)
            and sets.index_by_name(watched.folder / sighting.path) is None
        ]
    reason = f"it was there before the folder was watched (existing: {watched.existing})"
    acquisitions.skip_all(db, old, reason, now)
    return len(old)


def take_in(
    db: Database,
    report: FromWatcher,
    output: Path,
    now: datetime,
    summaries: Summaries | Later | None = None,
) -> str:
    """Record what a watcher reported; return the file that it has to report again, or ""."""
    summaries = summaries or Summaries(logger)
    watched, event = report.watch, report.event
    if isinstance(event, Scanned):
        _take_scan(db, report, event, now)
    elif isinstance(event, PartOf):
        take_part(db, watched, event, now)
    elif isinstance(event, Listed):
        if event.is_apart:
            path = str(watched.folder / event.sighting.path)
            acquisitions.drop_unfinished(db, watched.name, path)
        set_files.note(db, watched.name, event.sighting, event.sighting.path)
        take_parts(db, watched, event.sighting.path, now)
    elif isinstance(event, Gone):
        take_gone(db, watched, event.path, now)
    elif isinstance(event, Unfinished):
        given_up = event.is_given_up
        state = AcquisitionState.INTERRUPTED if given_up else AcquisitionState.WAITING
        arrival = arrival_of(watched, event.sighting, "", known_by_name(watched, event.sighting))
        acquisitions.note_waiting(db, arrival, state, event.reason, now)
        if given_up:
            line = f"{event.sighting.path} is not whole: {event.reason}"
            summaries.say(logging.WARNING, "files that are incomplete", line, time.monotonic())
    elif report.info is not None:
        return _take_finished(db, report, event.sighting, report.info, (output, now, summaries))
    return ""


def _take_scan(db: Database, report: FromWatcher, event: Scanned, now: datetime) -> None:
    watched = report.watch
    # The first scan ends before any file of it can have settled.
    if not event.reason and (skipped := skip_existing(db, watched, now)):
        logger.info("%s: %d files were there before; skipped", watched.folder, skipped)
    service.folder_scanned(
        db,
        watched.name,
        str(watched.folder),
        files=event.files,
        reason=event.reason,
        now=now,
        next_in_s=event.next_in_s,
    )
    if report.unread is not None and not event.reason:
        for suffix in service.unread_found(db, watched.name, report.unread):
            files = report.unread[suffix]
            what = "file" if len(files) == 1 else "files"
            logger.warning(
                "%s: %d %s of a kind that is not read, *%s (%s)",
                watched.folder,
                len(files),
                what,
                suffix,
                files[0],
            )


def _take_finished(
    db: Database,
    report: FromWatcher,
    sighting: Sighting,
    info: ImageInfo,
    where: tuple[Path, datetime, Summaries | Later],
) -> str:
    watched, (output, now, summaries) = report.watch, where
    arrival = arrival_of(watched, sighting, report.fingerprint, info)
    if info.reason:
        acquisitions.note_waiting(db, arrival, AcquisitionState.FAILED, info.reason, now)
        line = f"{arrival.path} cannot be used: {info.reason}"
        summaries.say(logging.WARNING, "files that cannot be used", line, time.monotonic())
        return ""
    if reason := _why_left_alone(db, watched, arrival):
        acquisitions.skip_all(db, [arrival], reason, now)
        return ""
    if experiment := places.experiment_before(db, arrival):
        arrival = replace(arrival, experiment=experiment)
    place = _place(db, arrival, output)
    if known := _moved(db, arrival):
        if known.state == AcquisitionState.RUNNING:
            return arrival.relative_path
        is_folder_gone = is_gone(Path(text_path(known.path)).parent)
        moves.follow(db, arrival, known, place, now, is_folder_gone=is_folder_gone)
        line = f"{known.path} is {arrival.path} now"
        summaries.say(logging.INFO, "files that were moved", line, time.monotonic())
        return ""
    names = [target.name for target in watched.targets()]
    if acquisitions.enqueue(db, arrival, place, names, now) is not None:
        line = f"queued {arrival.path}"
        summaries.say(logging.INFO, "files that are queued", line, time.monotonic())
    return ""


def _moved(db: Database, arrival: acquisitions.Arrival) -> Acquisition | None:
    # The image that this one was before its file was renamed: of its content, and gone.
    if acquisitions.is_known(db, arrival) or acquisitions.why_left_alone(db, arrival):
        return None
    alike = moves.with_content_of(db, arrival, ALIKE)
    return next((a for a in alike if is_gone(Path(text_path(a.path)))), None)


def _why_left_alone(db: Database, watched: Watch, arrival: acquisitions.Arrival) -> str:
    # An image of a file that was there before the folder was watched.
    file = container_of(arrival.relative_path)
    if file == arrival.relative_path:
        return ""
    return acquisitions.why_left_alone(db, replace(arrival, path=str(watched.folder / file)))


def _place(db: Database, arrival: acquisitions.Arrival, output: Path) -> str:
    if before := places.place_of(db, arrival.watch, arrival.path):
        return before
    watched, relative = arrival.watch, arrival.relative_path
    plain = str(output / store_path(watched, relative, arrival.fingerprint, is_free=True))
    if places.place_is_free(db, plain, arrival.path):
        return plain
    return str(output / store_path(watched, relative, arrival.fingerprint, is_free=False))


def _unread(watched: Watch, lister: Lister, is_time: bool) -> Mapping[str, Sequence[str]] | None:
    if not is_time:
        return None
    return lister.unread_in(watched.folder, watched.excluded(), unread_suffixes(watched.include))
