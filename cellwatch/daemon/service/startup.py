"""What must hold before the daemon's life begins, and is waited for: state, ledger, output."""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlite_utils import Database

from cellwatch.config.schema import Config
from cellwatch.daemon.service.signals import Signals
from cellwatch.errors import ConfigError, OutputError
from cellwatch.files.mounts import file_system_of, is_network
from cellwatch.storage.ledger import backups
from cellwatch.storage.ledger.database import open_ledger
from cellwatch.storage.ledger.owner import claim_output

logger = logging.getLogger(__name__)

LEDGER_BUSY_S = 2.0  # for another process that holds the ledger; then it is tried again
LEDGER_AGAIN_S = 1.0
LEDGER_AT_START_S = 60.0  # for the ledger to be let go of before the daemon gives up starting
BACKUP_EVERY_S = 3600.0  # how often it is asked whether a backup is due


def refuse_network(state: Path) -> None:
    """Refuse a state folder that other machines may write to.

    Raises
    ------
    ConfigError
    """
    if is_network(state):
        raise ConfigError(
            f"state: {state} is on a network file system ({file_system_of(state)}), where SQLite's "
            "locks do not hold and the ledger would be damaged; name a folder on a disk of this "
            "machine (masks may lie on the share)"
        )


def let_kernels_be_kept(state: Path) -> None:
    """Have compiled kernels kept in the state folder where they cannot lie beside the code.

    numba takes the home then; a service may have none. Processes that are started inherit it.
    """
    if not os.access(Path(__file__).parent, os.W_OK):
        os.environ.setdefault("NUMBA_CACHE_DIR", str(state / "numba"))


def opened_ledger(state: Path) -> Database:
    """Open the ledger; a backup program, or a person's tool, may hold it for a while.

    Raises
    ------
    OutputError
        When it is held for longer than a minute, or the disk is full.
    """
    until = time.monotonic() + LEDGER_AT_START_S
    while True:
        try:
            return open_ledger(state, LEDGER_BUSY_S)
        except sqlite3.OperationalError as error:
            if time.monotonic() > until:
                raise OutputError(
                    f"the ledger in {state} cannot be opened for writing: {error}; look which "
                    "program holds it (fuser), or whether the disk is full"
                ) from error
            logger.warning("the ledger cannot be opened yet: %s", error)
            time.sleep(LEDGER_AGAIN_S)


def claimed_output(config: Config) -> bool:
    """Mark the output folder as this station's; False: it cannot be written yet.

    Raises
    ------
    ConfigError
        When it is another station's.
    """
    try:
        claim_output(config.output.folder, config.state.folder)
    except OSError as error:
        # Not mounted, or not writable: each image says so, and waits for it.
        logger.debug("the output folder cannot be marked as this station's yet: %s", error)
        return False
    return True


def when_writable(signals: Signals, work: Callable[[], None]) -> None:
    """Do what writes the ledger as soon as it can be written, within a minute.

    Raises
    ------
    OutputError
        When another program holds it for longer, or a signal ends the daemon meanwhile.
    """
    until = time.monotonic() + LEDGER_AT_START_S
    while True:
        try:
            work()
        except sqlite3.OperationalError as error:
            if time.monotonic() > until or signals.ended.is_set():
                raise OutputError(
                    f"the ledger cannot be written: {error}; look which program holds it (fuser), "
                    "or whether the disk is full"
                ) from error
            logger.warning("the ledger cannot be written yet: %s", error)
            signals.ended.wait(LEDGER_AGAIN_S)
        else:
            return


def start_backups(state: Path, stop: threading.Event) -> threading.Thread:
    """Back the ledger up once a day, in a thread, until told to stop."""

    def run() -> None:
        while not stop.is_set():
            try:
                if made := backups.back_up_if_due(state, datetime.now(UTC)):
                    logger.debug("backed the ledger up as %s", made)
            except (OSError, sqlite3.Error) as error:
                logger.warning("the ledger cannot be backed up: %s; it is tried again", error)
            stop.wait(BACKUP_EVERY_S)

    thread = threading.Thread(target=run, daemon=True, name="backups")
    thread.start()
    return thread
