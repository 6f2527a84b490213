"""What people bring and ask for, as the supervisor carries it out: drops, flags, requests.

The desk's threads read; everything here runs in the supervisor's one thread and writes the ledger.
"""

import logging
import queue as queues
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from cellwatch.config.schema import Config
from cellwatch.daemon.corrections import answers, drop_watcher
from cellwatch.daemon.corrections.events import Event, FlagDropped, FolderLost, FromDesk
from cellwatch.daemon.corrections.presence import FilesMoved
from cellwatch.daemon.requests.dispatch import carry_out
from cellwatch.daemon.retraining.nights import Nights
from cellwatch.errors import CellwatchError
from cellwatch.files.stems import stem_key
from cellwatch.storage.ledger import annotations, corrections, flags, requests, service
from cellwatch.storage.ledger.database import transaction

logger = logging.getLogger(__name__)

AGAIN_EVERY_S = 60.0


@dataclass
class Office:
    """What the supervisor knows of people.

    Attributes
    ----------
    db : Database
    config : Config
    nights : Nights
    again : Queue of rows
        Corrections that the desk is to read again.
    seen_version : int
        Of the ledger, when requests were last looked for.
    again_at : float, s
        When those that wait for a disk are tried again, on the monotonic clock.
    """

    db: Database
    config: Config
    nights: Nights
    again: "queues.Queue[dict[str, Any]]" = field(default_factory=queues.Queue)
    seen_version: int = -1
    again_at: float = 0.0

    @property
    def corrections(self) -> Path | None:
        """Return the corrections folder; None: the station has none."""
        section = self.config.corrections
        return section.folder if section is not None else None


def open_office(
    office: Office,
    stop: threading.Event,
    on_event: Callable[[Event], None],
    now: datetime,
) -> list[threading.Thread]:
    """Write the answers that a crash left out, and start to watch the two folders."""
    if office.corrections is not None:
        for row in answers.missing_answers(office.db, office.corrections):
            answers.answer(office.db, office.corrections, row)
    for row in corrections.orphans(office.db):
        office.again.put(row)
    if matched := flags.match_waiting(office.db):
        logger.info("%d flags found their image", matched)
    return drop_watcher.start_desk(office.config, stop, office.again, on_event)


def take(office: Office, event: Event, now: datetime) -> None:
    """Record a drop or a flag, and answer it; one that cannot be recorded stops no other."""
    try:
        _take(office, event, now)
    except (OSError, ValueError, KeyError, TypeError):
        logger.exception("what was dropped could not be taken in; it is looked at again at start")


def _take(office: Office, event: Event, now: datetime) -> None:
    if isinstance(event, FolderLost):
        _note_folder(office, event, now)
        return
    if isinstance(event, FlagDropped):
        found = flags.raise_flag(office.db, event.flag, now)
        if found is not None:
            unknown = "" if found else "; it is not known yet"
            logger.info("%s is flagged%s", event.flag.name, unknown)
        return
    if office.corrections is None:
        return
    if isinstance(event, FilesMoved):
        for row in answers.note_moved(office.db, office.corrections, event, now):
            office.again.put(row)
        return
    row = answers.record(office.db, office.corrections, event, now)
    if row["state"] == "rejected":
        logger.warning("%s is rejected: %s", row["file"], " ".join(row["reason"].split()))
    elif row["state"] == "orphan":
        logger.info("%s waits: %s", row["file"], " ".join(row["reason"].split()))
    else:
        logger.info("%s is accepted: %d ROIs for %s", row["file"], row["rois"], row["group_name"])
        _read_under_region(office, event)


def _note_folder(office: Office, event: FolderLost, now: datetime) -> None:
    service.folder_scanned(
        office.db, event.name, str(event.folder), files=event.files, reason=event.reason, now=now
    )
    if event.reason:
        logger.warning("%s; what is dropped there waits", event.reason)
    else:
        logger.info("%s is there again", event.folder)


def segmented(office: Office, acquisition_id: int) -> None:
    """Have corrections and flags that waited for an image looked at again: it has masks now."""
    stem = office.db.table("acquisitions").get(acquisition_id)["stem"]
    for row in corrections.orphans(office.db):
        if stem and stem_key(row["file"]).startswith(stem):
            office.again.put(row)
    flags.match_waiting(office.db)


def answer_requests(office: Office, now: datetime) -> None:
    """Carry out what commands asked for since the ledger last changed."""
    version = requests.data_version(office.db)
    if version == office.seen_version:
        return
    office.seen_version = version
    for request in requests.pending(office.db):
        # What is done and that it is answered come to pass together: nothing is done twice.
        try:
            with transaction(office.db):
                given = carry_out(office.db, office.config, office.nights, request, now)
                requests.answer(office.db, request.id, given, now)
        except CellwatchError as error:
            given = requests.Answer(is_done=False, text=str(error), facts={})
            requests.answer(office.db, request.id, given, now)
        except (OSError, ValueError, KeyError, TypeError) as error:
            # A request that no command of this version writes must not end the daemon.
            text = f"'{request.kind}' cannot be carried out: {error!r}"
            given = requests.Answer(is_done=False, text=text, facts={})
            requests.answer(office.db, request.id, given, now)
        logger.info("%s asked for %s: %s", request.asked_by, request.kind, given.text)
        office.again_at = 0.0  # what was confirmed is read again at once


def look_after(office: Office) -> None:
    """Every minute: read again what a full disk kept out, or what a region came for."""
    if time.monotonic() < office.again_at or office.corrections is None:
        return
    office.again_at = time.monotonic() + AGAIN_EVERY_S
    for row in corrections.orphans(office.db):
        if row["is_blocked"]:
            office.again.put(row)
    for row in [*annotations.out_of_step(office.db), *corrections.confirmed_anew(office.db)]:
        office.again.put(row)


def is_quiet(office: Office) -> bool:
    """Say whether every dropped file has its answer, as `run --once` waits for."""
    folder = office.corrections
    if folder is None or not folder.is_dir():
        return True
    # Not empty(): a row that was taken is still being read.
    return not office.again.unfinished_tasks and drop_watcher.all_answered(office.db, folder)


def _read_under_region(office: Office, event: FromDesk) -> None:
    # A region that came after its correction: the correction is read again, within the region.
    if event.drop.kind == "region":
        row = annotations.under_region(office.db, event.drop)
        if row is not None:
            office.again.put(row)
