"""Record what the watchers of all folders report: arrivals by the hundreds, the rest singly."""

import logging
import sqlite3
import time
from datetime import UTC, datetime

from cellwatch.daemon.corrections import inbox
from cellwatch.daemon.inspection import FromWatcher
from cellwatch.daemon.intake import take_in
from cellwatch.daemon.life import Life, Ordinary
from cellwatch.daemon.results import EDITED, ResultChanged
from cellwatch.daemon.summaries import Later, Summaries
from cellwatch.files.members import container_of
from cellwatch.storage.ledger import lookup, revisits
from cellwatch.storage.ledger.database import transaction
from cellwatch.watching.watcher import Scanned

logger = logging.getLogger(__name__)

TICK_S = 0.25
BATCH = 200  # arrivals that are recorded in one transaction


def take_ordinary(life: Life) -> None:
    """Record what waits in the inbox, for as long as a tick."""
    # As many as a tick allows; arrivals that follow each other are one transaction, since each of
    # them is forced to disk.
    until = time.monotonic() + TICK_S
    while time.monotonic() < until and (events := life.events.ordinary(BATCH)):
        if life.events.urgent() is not None:
            return
        arrivals = []
        for event in events:
            if not isinstance(event, FromWatcher):
                break
            arrivals.append(event)
        if not arrivals:
            _take(life, events[0])
            life.events.drop(1)
        else:
            life.events.drop(_take_in_all(life, arrivals, until))


def _take_in_all(life: Life, arrivals: list[FromWatcher], until: float) -> int:
    taken = 0
    lines = Later()
    try:
        with transaction(life.db):
            for event in arrivals:
                _take_arrival(life, event, lines)
                taken += 1
                if time.monotonic() > until or life.events.urgent() is not None:
                    break  # the worker has said something: it must not wait for its next job
        lines.say_all(life.summaries, time.monotonic())
    except sqlite3.OperationalError:
        raise
    except Exception:
        # One that cannot be recorded must not keep the others out.
        logger.exception("%s could not be recorded", arrivals[taken].event)
        for event in arrivals[:taken]:
            _take_arrival(life, event, life.summaries)
        return taken + 1
    return taken


def _take(life: Life, event: Ordinary) -> None:
    if isinstance(event, ResultChanged):
        revisits.mark_output(life.db, event.acquisition_id, event.mark)
        if event.mark:
            what = "was edited" if event.mark == EDITED else "is gone"
            line = f"{event.store} {what} since it was written"
            life.summaries.say(logging.WARNING, "mask stores that changed", line, time.monotonic())
        return
    if isinstance(event, FromWatcher):
        _take_arrival(life, event, life.summaries)
    else:
        inbox.take(life.drops, event, _now())


def _take_arrival(life: Life, event: FromWatcher, summaries: Summaries | Later) -> None:
    name, is_scan = event.watch.name, isinstance(event.event, Scanned)
    is_first = is_scan and not lookup.was_scanned(life.db, name)
    if again := take_in(life.db, event, life.config.output.folder, _now(), summaries):
        life.notices[name].put(container_of(again))
    if is_first:  # files that were there before need not be looked into
        for sighting in lookup.known_files(life.db, name).values():
            life.notices[name].put(sighting)
    life.quiet[name] = isinstance(event.event, Scanned) and event.event.is_quiet
    if is_scan and not life.is_once:
        revisits.redo_with_metadata(life.db, event.watch.name, _now())


def _now() -> datetime:
    return datetime.now(UTC)
