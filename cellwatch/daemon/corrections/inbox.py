"""What people bring and ask for, as the supervisor carries it out: drops, flags, requests.

The drop watcher's threads read; everything here runs in the supervisor's one thread and writes the
ledger.
"""

import logging
import queue as queues
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlite_utils import Database

from cellwatch.config.schema import Config
from cellwatch.daemon.corrections import answers, drop_watcher
from cellwatch.daemon.corrections.events import DropRead, Event, FlagDropped, FolderLost
from cellwatch.daemon.corrections.presence import FilesMoved
from cellwatch.daemon.requests.dispatch import carry_out
from cellwatch.daemon.retraining.nights import Nights
from cellwatch.errors import CellwatchError
from cellwatch.files.stems import stem_key
from cellwatch.records import Correction, CorrectionKind, CorrectionState
from cellwatch.storage.corrections.names import read_name
from cellwatch.storage.ledger import (
    annotations,
    checkouts,
    confirmations,
    corrections,
    flags,
    lookup,
    requests,
    service,
)
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.path_text import text_path

logger = logging.getLogger(__name__)

AGAIN_EVERY_S = 60.0


@dataclass
class Inbox:
    """What the supervisor knows of people.

    Attributes
    ----------
    db : Database
    config : Config
    nights : Nights
    again : Queue of Correction
        Corrections that the drop watcher is to read again.
    seen_version : int
        Of the ledger, when requests were last looked for.
    again_at : float, s
        When those that wait for a disk are tried again, on the monotonic clock.
    """

    db: Database
    config: Config
    nights: Nights
    again: "queues.Queue[Correction]" = field(default_factory=queues.Queue)
    seen_version: int = -1
    again_at: float = 0.0

    @property
    def corrections(self) -> Path | None:
        """Return the corrections folder; None: the station has none."""
        section = self.config.corrections
        return section.folder if section is not None else None


def open_inbox(
    inbox: Inbox,
    stop: threading.Event,
    on_event: Callable[[Event], None],
    now: datetime,
) -> list[threading.Thread]:
    """Write the answers that a crash left out, and start to watch the two folders."""
    if inbox.corrections is not None:
        for row in answers.missing_answers(inbox.db, inbox.corrections):
            answers.answer(inbox.db, inbox.corrections, row)
    for row in corrections.orphans(inbox.db):
        inbox.again.put(row)
    if matched := flags.match_waiting(inbox.db):
        logger.info("%d flags found their image", matched)
    return drop_watcher.start_drop_watcher(inbox.config, stop, inbox.again, on_event)


def take(inbox: Inbox, event: Event, now: datetime) -> None:
    """Record a drop or a flag, and answer it; one that cannot be recorded stops no other."""
    try:
        _take(inbox, event, now)
    except (OSError, ValueError, KeyError, TypeError):
        logger.exception(
            "a dropped file or flag could not be recorded; it is read again when the daemon starts"
        )


def _take(inbox: Inbox, event: Event, now: datetime) -> None:
    if isinstance(event, FolderLost):
        _note_folder(inbox, event, now)
        return
    if isinstance(event, FlagDropped):
        found = flags.raise_flag(inbox.db, event.flag, now)
        if found is not None:
            unknown = "" if found else "; it is not known yet"
            logger.info("%s is flagged%s", event.flag.name, unknown)
        return
    if inbox.corrections is None:
        return
    if isinstance(event, FilesMoved):
        for row in answers.note_moved(inbox.db, inbox.corrections, event, now):
            inbox.again.put(row)
        return
    row = answers.record(inbox.db, inbox.corrections, event, now)
    if row.state == CorrectionState.REJECTED:
        logger.warning("%s is rejected: %s", row.file, " ".join((row.reason or "").split()))
    elif row.state == CorrectionState.ORPHAN:
        logger.info("%s waits: %s", row.file, " ".join((row.reason or "").split()))
    else:
        logger.info("%s is accepted: %d ROIs for %s", row.file, row.rois, row.group_name)
        _read_under_region(inbox, event)


def _note_folder(inbox: Inbox, event: FolderLost, now: datetime) -> None:
    service.folder_scanned(
        inbox.db, event.name, str(event.folder), files=event.files, reason=event.reason, now=now
    )
    if event.reason:
        logger.warning("%s; files dropped there wait", event.reason)
    else:
        logger.info("%s is there again", event.folder)


def segmented(inbox: Inbox, acquisition_id: int) -> None:
    """Have corrections and flags that waited for an image looked at again: it has masks now."""
    stem = lookup.acquisition(inbox.db, acquisition_id).stem
    ids = checkouts.short_ids_of_file(inbox.db, acquisition_id)
    for row in corrections.orphans(inbox.db):
        if (stem and stem_key(row.file).startswith(stem)) or _short_id(row) in ids:
            inbox.again.put(row)
    flags.match_waiting(inbox.db)


def _taken_out(inbox: Inbox, short_ids: Collection[str]) -> None:
    # A file may have come back before its checkout was recorded.
    for row in corrections.orphans(inbox.db):
        if _short_id(row) in short_ids:
            inbox.again.put(row)


def _short_id(row: Correction) -> str | None:
    name = read_name(Path(text_path(row.file)).name)
    return name.short_id or None if name else None


def answer_requests(inbox: Inbox, now: datetime) -> None:
    """Carry out what commands asked for since the ledger last changed."""
    version = requests.data_version(inbox.db)
    if version == inbox.seen_version:
        return
    inbox.seen_version = version
    for request in requests.pending(inbox.db):
        # What is done and that it is answered come to pass together: nothing is done twice.
        try:
            with transaction(inbox.db):
                given = carry_out(inbox.db, inbox.config, inbox.nights, request, now)
                requests.answer(inbox.db, request.id, given, now)
        except CellwatchError as error:
            given = requests.Answer(is_done=False, text=str(error), facts={})
            requests.answer(inbox.db, request.id, given, now)
        except (OSError, ValueError, KeyError, TypeError) as error:
            # A request that no command of this version writes must not end the daemon.
            text = f"'{request.kind}' cannot be carried out: {error!r}"
            given = requests.Answer(is_done=False, text=text, facts={})
            requests.answer(inbox.db, request.id, given, now)
        if request.kind == "checkout" and given.is_done:
            _taken_out(inbox, {each.get("short_id") for each in request.arguments["made"]})
        logger.info("%s asked for %s: %s", request.asked_by, request.kind, given.text)
        inbox.again_at = 0.0  # what was confirmed is read again at once


def look_after(inbox: Inbox) -> None:
    """Every minute: read again what a full disk kept out, or what a region came for."""
    if time.monotonic() < inbox.again_at or inbox.corrections is None:
        return
    inbox.again_at = time.monotonic() + AGAIN_EVERY_S
    for row in corrections.orphans(inbox.db):
        if row.is_blocked:
            inbox.again.put(row)
    for row in [*annotations.out_of_step(inbox.db), *confirmations.confirmed_since(inbox.db)]:
        inbox.again.put(row)


def is_quiet(inbox: Inbox) -> bool:
    """Say whether every dropped file has its answer, as `run --once` waits for."""
    folder = inbox.corrections
    if folder is None or not folder.is_dir():
        return True
    # Not empty(): a row that was taken is still being read.
    return not inbox.again.unfinished_tasks and drop_watcher.all_answered(inbox.db, folder)


def _read_under_region(inbox: Inbox, event: DropRead) -> None:
    # A region that came after its correction: the correction is read again, within the region.
    if event.drop.kind == CorrectionKind.REGION:
        row = annotations.under_region(inbox.db, event.drop)
        if row is not None:
            inbox.again.put(row)
