"""The daemon: take files in, hand jobs to workers, record outcomes, and end well.

One thread does all of this. Watchers and the readers of the workers' pipes are threads that only
put what they learn into one inbox; this one takes from it, and alone writes the ledger.
"""

import logging
import os
import signal
import socket
import sqlite3
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from sqlite_utils import Database

from cellwatch import __version__
from cellwatch.compute.executor import Worker, boot_id, wait_for_stranded
from cellwatch.config.parse import read_config
from cellwatch.config.schema import Config
from cellwatch.daemon import arriving, workers
from cellwatch.daemon.corrections import events, inbox
from cellwatch.daemon.intake import start_watching
from cellwatch.daemon.jobs import models_of
from cellwatch.daemon.life import Life, Ordinary
from cellwatch.daemon.results import start_watching_results
from cellwatch.daemon.retraining import scheduler as training
from cellwatch.daemon.retraining.nights import Nights
from cellwatch.daemon.retraining.selection import groups_of, overruled, unserved
from cellwatch.daemon.service.reporting import start_reports, write_now
from cellwatch.daemon.service.sdnotify import notify
from cellwatch.daemon.service.signals import Signals, handle_signals
from cellwatch.daemon.service.startup import (
    LEDGER_AGAIN_S,
    claimed_output,
    let_kernels_be_kept,
    opened_ledger,
    refuse_network,
    start_backups,
    when_writable,
)
from cellwatch.errors import CellwatchError, ConfigError
from cellwatch.images.identity import has_fingerprint
from cellwatch.records import AcquisitionState
from cellwatch.storage.ledger import backups, lookup, queue, recovery, revisits, service
from cellwatch.storage.ledger.locking import state_lock
from cellwatch.storage.reports.station import LEDGER_MENDED, RELOAD_ERROR

logger = logging.getLogger(__name__)

TICK_S = 0.25
HEARTBEAT_S = 5.0
STOP_WITHIN_S = 7.0  # for the job in hand; systemd and people expect an answer within ten
REPORT_WITHIN_S = 10.0  # one that is being written when the daemon ends
TOLD_AGAIN_S = 60.0
CLOCK_JUMP_S = 60.0


def run(config: Config, config_path: Path, *, is_once: bool = False) -> dict[str, int]:
    """Run the daemon until a signal ends it, or with `is_once` until everything is done.

    On SIGHUP the configuration is read again: a good one takes the place of the old one, a wrong
    one is reported and changes nothing.

    Parameters
    ----------
    config : Config
    config_path : Path
        Recorded, so that people find it; read again on SIGHUP.
    is_once : bool
        Process what is there and end.

    Returns
    -------
    dict of str to int
        How many acquisitions this life finished (`done`), how many are in each other state now,
        and how many folders are `offline`.

    Raises
    ------
    StateLocked
        When another daemon holds the state folder.
    UnknownModel
        When the configuration names a model that is not there.
    ConfigError
        When the output folder is another station's, or the state folder on a network file system.
    DeviceError
        With `is_once`, when the device is not there.
    """
    models_of(config)
    refuse_network(config.state.folder)
    let_kernels_be_kept(config.state.folder)
    signals = Signals()
    with state_lock(config.state.folder, _now()):
        claimed_output(config)
        mended = backups.mend(config.state.folder, _now())
        if mended:
            logger.error("%s", mended)
        db = opened_ledger(config.state.folder)
        handlers = handle_signals(signals)
        try:
            when_writable(signals, lambda: service.told(db, LEDGER_MENDED, mended))
            while True:
                life = _begin_life(db, config, config_path, is_once=is_once)
                counts = _live(life, signals)
                if life.next_config is None:
                    return counts
                config = life.next_config
                logger.info("the configuration was read again and is in force now")
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            db.close()


def _begin_life(db: Database, config: Config, config_path: Path, *, is_once: bool) -> Life:
    models = models_of(config)
    nights = Nights(db, config, models)
    people = inbox.Inbox(db, config, nights)
    return Life(db, config, config_path, models, is_once, nights, people)


def _live(life: Life, signals: Signals) -> dict[str, int]:
    done_before = lookup.n_in_state(life.db, AcquisitionState.DONE)
    when_writable(signals, lambda: _begin(life))
    threads = _start_threads(life)
    notify("READY=1")
    logger.info("watching %s", ", ".join(str(w.folder) for w in life.config.watch))
    try:
        while not signals.ended.is_set() and life.next_config is None:
            _guarded_turn(life, signals)
            if life.is_once and life.ledger_lost_at is None and _is_everything_done(life):
                break
    finally:
        if life.next_config is None:
            notify("STOPPING=1")
        _end(life)
        for thread in threads:
            thread.join(REPORT_WITHIN_S if thread.name == "reports" else 1.0)
        if life.next_config is None and life.config.report is not None:
            write_now(life.config)
    counts = {state.value: lookup.n_in_state(life.db, state) for state in AcquisitionState}
    counts[AcquisitionState.DONE] -= done_before
    offline = sum(life.watch_named(n) is not None for n in lookup.offline_folders(life.db))
    return {**counts, "offline": offline}


def _start_threads(life: Life) -> list[threading.Thread]:
    config, stop = life.config, life.stop

    def put(event: Ordinary) -> None:
        life.events.put(event, stop)

    threads = [
        start_watching(
            watched,
            lookup.known_files(life.db, watched.name),
            stop,
            put,
            is_once=life.is_once,
            notices=life.notices[watched.name],
            stood=lookup.waiting_files(life.db, watched.name, _now()),
        )
        for watched in config.watch
    ]
    threads += inbox.open_inbox(life.drops, stop, put, _now())
    if not life.is_once:
        state, output = config.state.folder, config.output.folder
        threads.append(start_watching_results(state, output, stop, put))
        threads.append(start_backups(state, stop))
        if config.report is not None:
            threads.append(start_reports(config, stop))
    return threads


def _begin(life: Life) -> None:
    now, config = _now(), life.config
    facts = service.DaemonFacts(
        pid=os.getpid(),
        host=socket.gethostname(),
        boot_id=boot_id(),
        version=__version__,
        device=", ".join(config.device),
        config=str(life.config_path.absolute()),
    )
    stranded = service.daemon_started(life.db, facts, now)
    service.told(life.db, RELOAD_ERROR, "")
    for watched in config.watch:
        folder = str(watched.folder)
        if moved := service.root_moved(life.db, watched.name, folder, has_fingerprint):
            logger.info("'%s' lies in %s now: %d images known", watched.name, folder, moved)
    service.folders_named(life.db, [*(w.name for w in config.watch), *events.named(config)])
    groups = groups_of(config)
    service.groups_named(life.db, {name: group.target.model for name, group in groups.items()})
    for told in [*unserved(life.db, config), *overruled(life.db, config)]:
        logger.warning("%s", told)
    wait_for_stranded(stranded)
    for store in recovery.recover(life.db, now):
        logger.warning("%s was being segmented when the daemon died; it is queued again", store)
    if again := recovery.retry_failed(life.db, now):
        logger.info("images that failed before and are tried again: %d", again)
    queue.set_aside_unwatched(life.db, [watched.name for watched in config.watch], now)
    if not life.is_once:  # which trains nothing
        training.take_up(life.nights, now)


def _reload(life: Life) -> None:
    try:
        config = read_config(life.config_path)
        models_of(config)
        if config.state.folder.resolve() != life.config.state.folder.resolve():
            raise ConfigError(
                f"state: is {config.state.folder} now; only a restart can change that"
            )
        claimed_output(config)
    except CellwatchError as error:
        logger.warning("the configuration is wrong, and the old one stays in force: %s", error)
        service.told(life.db, RELOAD_ERROR, str(error))
        return
    life.next_config = config


def _guarded_turn(life: Life, signals: Signals) -> None:
    # A ledger that is locked, or whose disk is full, is waited for: nothing that was learned is
    # dropped before it is recorded.
    ended = signals.ended
    try:
        if signals.reload.is_set():
            _reload(life)
            signals.reload.clear()
        if life.ledger_lost_at is not None and not life.is_once and life.nights.job is None:
            training.take_up(life.nights, _now())
        _turn(life)
    except sqlite3.OperationalError as error:
        now = time.monotonic()
        life.ledger_lost_at = life.ledger_lost_at or now
        if now - life.ledger_told_at >= TOLD_AGAIN_S:
            life.ledger_told_at = now
            logger.warning(
                "the ledger cannot be written (%s): everything waits until it can. Free space on "
                "the disk of %s, or end the program that holds it",
                error,
                life.config.state.folder,
            )
        ended.wait(LEDGER_AGAIN_S)
        return
    if life.ledger_lost_at is not None:
        lost = time.monotonic() - life.ledger_lost_at
        life.ledger_lost_at, life.ledger_told_at = None, 0.0
        logger.info("the ledger can be written again, after %.0f s", lost)


def _turn(life: Life) -> None:
    life.events.wait(TICK_S)
    workers.listen(life)
    arriving.take_ordinary(life)
    workers.listen(life)
    workers.look_after(life)
    inbox.answer_requests(life.drops, _now())
    inbox.look_after(life.drops)
    if not life.is_once:
        training.turn(life.nights, is_busy=life.is_busy, now=_now(), local_now=_now().astimezone())
    now = time.monotonic()
    life.summaries.sum_up(now)
    if now >= life.heartbeat_at:
        # A clock that counts on while the machine sleeps: sleep is not a jump.
        _look_at_clock(life, time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))
        if not life.is_output_claimed:
            life.is_output_claimed = claimed_output(life.config)
        service.heartbeat(life.db, _now(), life.space.room_text)
        life.heartbeat_at = now + HEARTBEAT_S


def _look_at_clock(life: Life, ahead: float) -> None:
    # Leases, deadlines and pauses are counted by a clock that never jumps; the dates of nights and
    # when something is tried again are not.
    jump = ahead - life.clock_ahead if life.clock_ahead is not None else 0.0
    if abs(jump) > CLOCK_JUMP_S:
        logger.warning(
            "the clock of this machine jumped by %+.0f s: scheduled work may start early or "
            "late; look at its time service (timedatectl)",
            jump,
        )
        revisits.due_at_most(life.db, _now())
    life.clock_ahead = ahead


def _is_everything_done(life: Life) -> bool:
    all_quiet = all(life.quiet.get(w.name, False) for w in life.config.watch)
    if not all_quiet or not life.events.is_empty() or not inbox.is_quiet(life.drops):
        return False
    is_held = any(slot.claimed is not None for slot in life.slots)
    return not is_held and not queue.has_work(life.db, life.turns())


def _end(life: Life) -> None:
    # The jobs in hand may finish; one that takes too long is handed back, uncounted.
    life.stop.set()
    training.stop(life.nights)
    workers_left = life.workers
    try:
        for worker in workers_left:
            worker.close()
        _drain(life, workers_left, time.monotonic() + STOP_WITHIN_S)
        for worker in workers_left:
            worker.kill()
            worker.wait(1.0)
            for acquisition_id in worker.in_hand:
                recovery.hand_back(life.db, acquisition_id, _now())
                logger.info("handed back acquisition %d", acquisition_id)
        for slot in life.slots:
            if slot.claimed is not None:
                recovery.hand_back(life.db, slot.claimed.acquisition_id, _now())
        if life.next_config is None:
            service.daemon_stopped(life.db, _now())
    except sqlite3.OperationalError as error:
        # The next start finds what was in flight, and masks that were not recorded yet.
        logger.warning("that the daemon ended cannot be recorded in the ledger: %s", error)
        for worker in workers_left:
            worker.kill()
    life.summaries.sum_up(time.monotonic(), is_over=True)


def _drain(life: Life, left_over: list[Worker], until: float) -> None:
    # A worker that dies now is not a death of its images: they are handed back.
    ended: set[int] = set()
    while any(worker.in_hand and worker.pid not in ended for worker in left_over):
        left = until - time.monotonic()
        if left <= 0:
            return
        event = life.events.urgent()
        if event is None:
            life.events.wait_urgent(min(left, TICK_S))
        elif event.message is None:
            ended.add(event.worker.pid)
            life.events.drop_urgent()
        else:
            workers.listen_once(life)


def _now() -> datetime:
    return datetime.now(UTC)
