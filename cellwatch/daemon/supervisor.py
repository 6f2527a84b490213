"""The daemon: take files in, hand jobs to workers, record outcomes, and end well.

One thread does all of this. Watchers and the readers of the workers' pipes are threads that only
put what they learn into one queue; this one takes from it, and alone writes the ledger.
"""

import logging
import os
import queue as queues
import signal
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

from sqlite_utils import Database

from cellwatch import __version__
from cellwatch.config.schema import Config, Watch
from cellwatch.daemon import desk, office
from cellwatch.daemon import nights as training
from cellwatch.daemon.choice import models_for, pin_chosen, pin_models, redo_if_repinned
from cellwatch.daemon.executor import (
    FromWorker,
    Worker,
    boot_id,
    process_started,
    wait_for_stranded,
)
from cellwatch.daemon.intake import (
    FromWatcher,
    known_files,
    start_watching,
    take_in,
)
from cellwatch.daemon.jobs import cards_of, facts_of, job_for, models_of, why_no_job
from cellwatch.daemon.lineup import groups_of, unserved
from cellwatch.daemon.sdnotify import notify
from cellwatch.errors import CellwatchError, DeviceError
from cellwatch.records import AcquisitionState, ModelCard, Outcome, Trouble
from cellwatch.storage import history, queue
from cellwatch.storage.ledger import open_ledger
from cellwatch.storage.locking import state_lock
from cellwatch.storage.pathtext import text_path
from cellwatch.storage.places import SUPERSEDED
from cellwatch.storage.queue import Claim
from cellwatch.watching.watcher import Scanned
from cellwatch.zoo.cards import ModelPlace
from cellwatch.zoo.classifiers import ClassifierPlace

logger = logging.getLogger(__name__)

TICK_S = 0.25
HEARTBEAT_S = 5.0
LEASE = timedelta(minutes=15)  # for each plane; a worker that needs longer hangs
STOP_WITHIN_S = 7.0  # for the job in hand; systemd and people expect an answer within ten
RESPAWN_AFTER_S = 1.0
MAX_DEATHS_AT_START = 5  # of a worker that never becomes ready: then the device is unfit

Event = FromWatcher | FromWorker | desk.Event


@dataclass
class _Life:
    """What the supervisor knows while it runs."""

    db: Database
    config: Config
    models: dict[str, ModelPlace | ClassifierPlace]
    cards: dict[str, list[ModelCard]]
    is_once: bool
    nights: training.Nights
    office: office.Office
    events: "queues.SimpleQueue[Event]" = field(default_factory=queues.SimpleQueue)
    stop: threading.Event = field(default_factory=threading.Event)
    worker: Worker | None = None
    deaths_at_start: int = 0
    respawn_at: float = 0.0
    quiet: dict[str, bool] = field(default_factory=dict)
    # Files that were gone when it was their turn, by watch: they may come back as they were.
    forget: "dict[str, queues.SimpleQueue[str]]" = field(
        default_factory=lambda: defaultdict(queues.SimpleQueue)
    )
    claim: Claim | None = None  # of the job in hand
    facts: dict[str, dict[str, str]] = field(default_factory=dict)  # of the job in hand
    heartbeat_at: float = 0.0
    lease_until: float = float("inf")  # of the job in hand, on the monotonic clock

    @property
    def superseded(self) -> Path:
        return self.config.output.folder / SUPERSEDED

    def watch_named(self, name: str) -> Watch | None:
        return next((w for w in self.config.watch if w.name == name), None)


def run(config: Config, config_path: Path, *, is_once: bool = False) -> dict[str, int]:
    """Run the daemon until a signal ends it, or with `is_once` until everything is done.

    Parameters
    ----------
    config : Config
    config_path : Path
        Recorded, so that people find it.
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
    """
    models = models_of(config)
    with state_lock(config.state.folder, _now()):
        db = open_ledger(config.state.folder)
        try:
            cards = {name: cards_of(place) for name, place in models.items()}
            nights = training.Nights(db, config, models)
            people = office.Office(db, config, nights)
            life = _Life(db, config, models, cards, is_once, nights, people)
            return _live(life, config_path)
        finally:
            db.close()


def _live(life: _Life, config_path: Path) -> dict[str, int]:
    done_before = _count(life.db, AcquisitionState.DONE)
    _begin(life, config_path)
    previous = {s: signal.signal(s, _stopper(life)) for s in (signal.SIGTERM, signal.SIGINT)}
    threads = [
        start_watching(
            watched,
            known_files(life.db, watched),
            life.stop,
            life.events.put,
            is_once=life.is_once,
            forget=life.forget[watched.name],
        )
        for watched in life.config.watch
    ]
    threads += office.open_office(life.office, life.stop, life.events.put, _now())
    notify("READY=1")
    logger.info("watching %s", ", ".join(str(w.folder) for w in life.config.watch))
    try:
        while not life.stop.is_set():
            _turn(life)
            if life.is_once and _is_everything_done(life):
                break
    finally:
        notify("STOPPING=1")
        _end(life)
        for thread in threads:
            thread.join(1.0)
        for number, handler in previous.items():
            signal.signal(number, handler)
    counts = {state.value: _count(life.db, state) for state in AcquisitionState}
    counts[AcquisitionState.DONE] -= done_before
    rows = life.db.execute("SELECT name FROM folders WHERE state = 'offline'").fetchall()
    offline = sum(life.watch_named(name) is not None for (name,) in rows)
    return {**counts, "offline": offline}


def _begin(life: _Life, config_path: Path) -> None:
    now = _now()
    facts = history.DaemonFacts(
        pid=os.getpid(),
        host=socket.gethostname(),
        boot_id=boot_id(),
        version=__version__,
        device=life.config.device,
        config=str(config_path.absolute()),
    )
    stranded = history.daemon_started(life.db, facts, now)
    history.folders_named(life.db, [*(w.name for w in life.config.watch), *desk.named(life.config)])
    history.groups_named(life.db, list(groups_of(life.config)))
    for told in unserved(life.db, life.config):
        logger.warning("%s", told)
    wait_for_stranded(stranded)
    for store in queue.recover(life.db, now):
        logger.warning("%s was in flight when the daemon died; it is queued again", store)
    if again := queue.retry_failed(life.db, now):
        logger.info("%d that failed before are tried again", again)
    if not life.is_once:  # which trains nothing
        training.take_up(life.nights, now)


def _turn(life: _Life) -> None:
    try:
        # A backlog of arrivals must not keep jobs, heartbeat and signals waiting.
        until = time.monotonic() + TICK_S
        _take(life, life.events.get(timeout=TICK_S))
        while time.monotonic() < until and not life.stop.is_set():
            _take(life, life.events.get_nowait())
    except queues.Empty:
        pass
    if life.worker is None and time.monotonic() >= life.respawn_at:
        _spawn(life)
    if life.worker is not None and life.worker.is_idle:
        _give_job(life, life.worker)
    office.answer_requests(life.office, _now())
    office.look_after(life.office)
    if not life.is_once:
        is_busy = life.worker is None or not life.worker.is_idle
        training.turn(life.nights, is_busy=is_busy, now=_now(), local_now=_now().astimezone())
    if time.monotonic() >= life.heartbeat_at:
        history.heartbeat(life.db, _now())
        if time.monotonic() > life.lease_until and life.worker is not None:
            logger.warning("no plane within %s: the worker hangs and is killed", LEASE)
            life.worker.kill()
        life.heartbeat_at = time.monotonic() + HEARTBEAT_S


def _take(life: _Life, event: Event) -> None:
    if isinstance(event, FromWorker):
        _take_from_worker(life, event)
        return
    if isinstance(event, desk.Event):
        office.take(life.office, event, _now())
        return
    take_in(life.db, event, life.config.output.folder, _now())
    if isinstance(event.event, Scanned):
        life.quiet[event.watch.name] = event.event.is_quiet
    else:
        life.quiet[event.watch.name] = False


def _take_from_worker(life: _Life, event: FromWorker) -> None:
    worker, message = event.worker, event.message
    if message is None:
        _worker_ended(life, worker)
    elif message["kind"] == "ready":
        worker.is_ready = True
        worker.device = message["device"]
        life.deaths_at_start = 0
        logger.info("the worker on %s is ready", message["device"])
    elif message["kind"] == "unfit":
        raise DeviceError(message["reason"])
    elif message["kind"] == "plane":
        life.lease_until = time.monotonic() + LEASE.total_seconds()
        if worker.acquisition_id is not None:
            queue.renew(life.db, worker.acquisition_id, _now() + LEASE)
    else:
        worker.acquisition_id = None
        life.lease_until = float("inf")
        _record(life, Outcome.from_json(message["outcome"]))


def _record(life: _Life, outcome: Outcome) -> None:
    now = _now()
    acquisition = life.db.table("acquisitions").get(outcome.acquisition_id)
    path = acquisition["path"]
    if outcome.trouble == Trouble.NONE:
        queue.finish(life.db, outcome, life.facts, now)
        if life.claim is not None:
            pin_chosen(life.db, life.claim, outcome, life.config, now)
            redo_if_repinned(life.db, life.claim, outcome, life.config, now)
        office.segmented(life.office, outcome.acquisition_id)
        rois = ", ".join(f"{t.rois} {t.name}" for t in outcome.targets)
        logger.info("segmented %s: %s in %.1f s", path, rois, outcome.seconds)
        for result in outcome.targets:
            for note in result.notes:
                logger.info("%s: %s", path, note)
    else:
        state = queue.fail(life.db, outcome, now)
        if outcome.trouble == Trouble.SURROUNDINGS and "GPU" in outcome.reason:
            training.leave(life.nights)
        if outcome.trouble == Trouble.MISSING:
            life.forget[acquisition["watch"]].put(text_path(acquisition["relative_path"]))
        logger.warning("%s is %s: %s", path, state, outcome.reason)


def _worker_ended(life: _Life, worker: Worker) -> None:
    how = worker.how_it_ended()
    life.worker = None
    life.lease_until = float("inf")
    life.respawn_at = time.monotonic() + RESPAWN_AFTER_S
    history.daemon_workers(life.db, [])
    if worker.acquisition_id is not None:
        state = queue.worker_died(life.db, worker.acquisition_id, how, _now())
        logger.warning("the worker died (%s); its acquisition is %s", how, state)
    elif not worker.is_ready:
        life.deaths_at_start += 1
        logger.warning("the worker died before it was ready (%s)", how)
        if life.deaths_at_start >= MAX_DEATHS_AT_START:
            raise DeviceError(
                f"the worker on {worker.device} died {life.deaths_at_start} times before it was "
                f"ready ({how}); see the lines above"
            )
    else:
        logger.warning("the idle worker died (%s)", how)


def _spawn(life: _Life) -> None:
    life.worker = Worker(life.config.device, life.superseded, life.events.put)
    started = process_started(life.worker.pid)
    history.daemon_workers(life.db, [{"pid": life.worker.pid, "started": started}])


def _give_job(life: _Life, worker: Worker) -> None:
    claim = queue.claim(
        life.db, device=worker.device, worker_pid=worker.pid, now=_now(), lease=LEASE
    )
    if claim is None:
        return
    watched = life.watch_named(claim.watch)
    reason = why_no_job(claim, watched)
    if watched is None or reason:
        queue.set_aside(life.db, claim.acquisition_id, reason, _now())
        return
    try:
        models = models_for(life.db, claim, watched, life.config, life.models)
    except CellwatchError as error:
        queue.set_aside(life.db, claim.acquisition_id, str(error), _now())
        logger.warning("%s is blocked: %s", claim.path, error)
        return
    pin_models(life.db, claim, models, life.config, _now())
    for place in models.values():
        for card in cards_of(place):
            history.model_used(life.db, card, _now())
    life.claim = claim
    job = job_for(claim, watched, life.config, models)
    life.facts = facts_of(job)
    life.lease_until = time.monotonic() + LEASE.total_seconds()
    worker.perform(job)


def _is_everything_done(life: _Life) -> bool:
    all_quiet = all(life.quiet.get(w.name, False) for w in life.config.watch)
    all_quiet = all_quiet and office.is_quiet(life.office)
    if not all_quiet or not life.events.empty():
        return False
    return not queue.has_work(life.db)


def _end(life: _Life) -> None:
    # The job in hand may finish; one that takes too long is handed back, uncounted.
    life.stop.set()
    training.stop(life.nights)
    worker = life.worker
    if worker is not None:
        worker.close()
        _drain(life, worker, time.monotonic() + STOP_WITHIN_S)
        worker.kill()
        worker.wait(1.0)
        if worker.acquisition_id is not None:
            queue.hand_back(life.db, worker.acquisition_id, _now())
            logger.info("handed back acquisition %d", worker.acquisition_id)
    history.daemon_stopped(life.db, _now())


def _drain(life: _Life, worker: Worker, until: float) -> None:
    while worker.acquisition_id is not None and (left := until - time.monotonic()) > 0:
        try:
            event = life.events.get(timeout=left)
        except queues.Empty:
            return
        if isinstance(event, FromWorker) and event.worker is worker:
            if event.message is None:
                return
            _take_from_worker(life, event)


def _stopper(life: _Life) -> Callable[[int, FrameType | None], None]:
    def stop(number: int, _: FrameType | None) -> None:
        logger.info("%s: stopping", signal.Signals(number).name)
        life.stop.set()

    return stop


def _count(db: Database, state: AcquisitionState) -> int:
    sql = "SELECT count(*) FROM acquisitions WHERE state = ? AND superseded_by IS NULL"
    return int(db.execute(sql, [state.value]).fetchone()[0])


def _now() -> datetime:
    return datetime.now(UTC)
