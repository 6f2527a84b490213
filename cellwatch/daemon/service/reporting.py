"""Rewrite the report while the daemon runs, whenever the ledger has changed."""

import logging
import sqlite3
import threading
import time
from datetime import UTC, datetime

from cellwatch.config.schema import Config
from cellwatch.errors import CellwatchError
from cellwatch.storage.reports import station
from cellwatch.storage.reports.html import write_report

logger = logging.getLogger(__name__)

TICK_S = 1.0
SHARE = 0.01  # of the time that writing it may take


def start_reports(config: Config, stop: threading.Event) -> threading.Thread:
    """Write the report every few minutes, if anything has changed, until told to stop."""

    def run() -> None:
        written, due = "", 0.0
        while not stop.is_set():
            if time.monotonic() >= due and (version := _version(config)) != written:
                began = time.monotonic()
                written = version if write_now(config) else written
                took = time.monotonic() - began
                due = time.monotonic() + max(config.report or 0.0, took / SHARE)
            stop.wait(TICK_S)

    thread = threading.Thread(target=run, daemon=True, name="reports")
    thread.start()
    return thread


def write_now(config: Config) -> bool:
    """Write the report; False: that was not possible, and is tried again."""
    try:
        now = datetime.now(UTC)
        write_report(config.state.folder, config.output.folder, config.name, now)
    except (OSError, CellwatchError, sqlite3.Error) as error:
        logger.debug("the report cannot be written: %s", error)
        return False
    except Exception:
        logger.exception("the report cannot be written")  # and nothing else depends on it
        return True
    return True


def _version(config: Config) -> str:
    # What changes with images, flags, corrections and trainings, but not with a heartbeat.
    try:
        with station.reader(config.state.folder / station.LEDGER) as db:
            return station.last_change(db)
    except (CellwatchError, sqlite3.Error):
        return ""
