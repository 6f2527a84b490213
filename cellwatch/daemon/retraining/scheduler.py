"""Training as the supervisor sees it: begun when a night is due or somebody asks, one at a time.

The trainer is a process of its own. While images wait it pauses (on the CPU it is stopped, on
a GPU it waits between two batches); when it has ended, its candidate goes into the zoo and
everything it proved into the ledger, in one transaction.
"""

import json
import logging
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from cellwatch.daemon.retraining.clock import Turns, night_due
from cellwatch.daemon.retraining.nights import Nights
from cellwatch.daemon.retraining.outcome import add_candidate, decisions_of
from cellwatch.daemon.retraining.run_folder import (
    CANDIDATE,
    FAILURE,
    LEFT,
    PROGRESS,
    REFUSED,
    REPORT,
    clear,
)
from cellwatch.daemon.retraining.selection import Group, job_of, why_not_yet
from cellwatch.daemon.retraining.trainer_process import close_pipe, pace, say, start_trainer
from cellwatch.errors import CellwatchError, RequestRefused
from cellwatch.records import AskedRun, TrainJob, TrainReport
from cellwatch.storage.ledger import corrections, training_runs

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 2.0
MAX_DEATHS = 3  # of a trainer that dies without a reason
AGAIN_AFTER_S = 60.0  # one that left the GPU to the worker


def take_up(nights: Nights, now: datetime) -> None:
    """Go on with the run that was under way when the daemon ended, however it ended."""
    nights.turns = Turns(nights.config.retrain.share)
    row = training_runs.unfinished(nights.db)
    if row is None:
        return
    group = nights.groups.get(row.group_name)
    if row.job is None and group is not None:  # the daemon ended before it was put together
        asked = AskedRun(row.group_name, row.kind, row.local_date)
        _begin(nights, row.id, asked, group, now)
        return
    try:
        nights.job = TrainJob.from_json(row.job or {})
    except (TypeError, ValueError, KeyError) as error:
        training_runs.fail(nights.db, row.id, f"this version cannot continue it: {error!r}", now)
        return
    logger.info("continuing the training of %s", nights.job.group)


def turn(nights: Nights, *, is_busy: bool, now: datetime, local_now: datetime) -> None:
    """Do what is due: collect a trainer that ended, pause or resume it, begin the next run."""
    _drop_given_up(nights)
    _note_missed(nights, now, local_now)
    if _is_time_to_begin(nights, now):
        _begin_due(nights, now, local_now)
    _carry_on(nights, is_busy=is_busy, now=now)


def turn_asked(nights: Nights, *, now: datetime) -> None:
    """Do what was asked for alone, without a daemon: the nights are the daemon's."""
    _drop_given_up(nights)
    if _is_time_to_begin(nights, now):
        _begin_waiting(nights, now)
    _carry_on(nights, is_busy=False, now=now)


def _drop_given_up(nights: Nights) -> None:
    # Somebody cancelled it: the ledger records that before anything of it is removed.
    job = nights.job
    if job is not None and not training_runs.is_under_way(nights.db, job.run_id):
        stop(nights)
        clear(Path(job.folder))
        nights.job = None
        logger.info("the training of %s is cancelled", job.group)


def _note_missed(nights: Nights, now: datetime, local_now: datetime) -> None:
    # A training that outlasts the day: the next night of its group is not begun, and that is said.
    job = nights.job
    if job is None or time.monotonic() < nights.missed_at or job.group not in nights.groups:
        return
    nights.missed_at = time.monotonic() + CHECK_EVERY_S
    night = night_due(
        nights.config.retrain.at, training_runs.dates_of(nights.db, job.group), local_now
    )
    if not night:
        return
    reason = f"run {job.run_id} of the same group was still under way"
    if training_runs.miss(nights.db, AskedRun(job.group, "night", night), reason, now):
        logger.warning("no training of %s in the night of %s: %s", job.group, night, reason)


def _is_time_to_begin(nights: Nights, now: datetime) -> bool:
    if nights.process is not None and nights.process.poll() is not None:
        _ended(nights, nights.process, now)
    if nights.job is not None or time.monotonic() < nights.checked_at:
        return False
    nights.checked_at = time.monotonic() + CHECK_EVERY_S
    return True


def _carry_on(nights: Nights, *, is_busy: bool, now: datetime) -> None:
    if nights.job is not None and nights.process is None and time.monotonic() >= nights.again_at:
        _go_on(nights, nights.job, now)
    if nights.process is not None:
        may_run = nights.turns.may_run(is_busy, time.monotonic())
        pace(nights, nights.process, is_paused=not may_run)


def ask_for(nights: Nights, asked: AskedRun, now: datetime) -> None:
    """Have a group trained as soon as no other training is under way, in this life or the next.

    Raises
    ------
    RequestRefused
        When there is no such group, or it has nothing to learn from.
    """
    if asked.group not in nights.groups:
        known = ", ".join(nights.groups)
        raise RequestRefused(f"there is no group '{asked.group}'; there are {known}")
    if nights.job is not None and nights.job.group == asked.group:
        raise RequestRefused(
            f"'{asked.group}' is being trained now (run {nights.job.run_id}); cancel it with: "
            f"cellwatch retrain {asked.group} --cancel"
        )
    if any(waiting.group == asked.group for _, waiting in training_runs.waiting(nights.db)):
        raise RequestRefused(f"a training of '{asked.group}' waits for its turn already")
    if not corrections.trainable(nights.db, asked.group):
        raise RequestRefused(
            f"'{asked.group}' has no correction to train on; drop corrected masks into the "
            "corrections folder"
        )
    training_runs.ask(nights.db, asked, now)
    nights.checked_at = 0.0


def is_asked(nights: Nights, group: str) -> bool:
    """Say whether a group is being trained, or was asked for and waits for its turn."""
    if nights.job is not None and nights.job.group == group:
        return True
    return any(waiting.group == group for _, waiting in training_runs.waiting(nights.db))


def leave(nights: Nights) -> None:
    """Have the trainer leave the device; it continues there later."""
    if nights.process is not None:
        say(nights.process, "leave")
        nights.process.send_signal(signal.SIGCONT)


def stop(nights: Nights) -> None:
    """End the trainer with the daemon; the next one continues its run."""
    process = nights.process
    if process is not None:
        process.kill()
        process.wait()
        close_pipe(process)
        nights.process = None


def progress(folder: str | Path) -> dict[str, Any]:  # Any: JSON
    """Return the progress of a trainer; empty when it has reported none yet."""
    try:
        return dict(json.loads((Path(folder) / PROGRESS).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _begin_due(nights: Nights, now: datetime, local_now: datetime) -> None:
    for name, group in nights.groups.items():
        night = night_due(
            nights.config.retrain.at, training_runs.dates_of(nights.db, name), local_now
        )
        if night and _begin_night(nights, AskedRun(name, "night", night), group, now):
            return
    _begin_waiting(nights, now)


def _begin_waiting(nights: Nights, now: datetime) -> None:
    for run_id, asked in training_runs.waiting(nights.db):
        if not training_runs.begin_waiting(nights.db, run_id, now):
            return
        waited = nights.groups.get(asked.group)
        if waited is None:
            reason = f"the configuration has no group '{asked.group}' any more"
            training_runs.fail(nights.db, run_id, reason, now)
        elif _begin(nights, run_id, asked, waited, now):
            return


def _begin_night(nights: Nights, asked: AskedRun, group: Group, now: datetime) -> bool:
    run_id = training_runs.begin(nights.db, asked, now)
    if run_id is None:
        return False
    if reason := why_not_yet(nights.db, group.name, nights.config):
        is_news = training_runs.new_rois(nights.db, group.name, nights.config.retrain.lead)
        training_runs.skip(nights.db, run_id, reason if is_news else "", now)
        return False
    return _begin(nights, run_id, asked, group, now)


def _begin(nights: Nights, run_id: int, asked: AskedRun, group: Group, now: datetime) -> bool:
    db = nights.db
    try:
        job = job_of(db, run_id, asked, group, nights.config, nights.configured, now)
    except CellwatchError as error:
        training_runs.fail(db, run_id, str(error), now)
        logger.warning("%s is not trained: %s", group.name, error)
        return False
    training_runs.plan(db, job)
    nights.job, nights.deaths, nights.again_at = job, 0, 0.0
    n_images = len({item.content_key for item in job.items})
    logger.info("training %s from %s on %d images", job.model_id, job.base.id, n_images)
    return True


def _go_on(nights: Nights, job: TrainJob, now: datetime) -> None:
    # Nothing that goes wrong here may end the daemon, which has images to segment.
    try:
        if (Path(job.folder) / REPORT).exists():
            _collect(nights, job, now)
        else:
            start_trainer(nights, job)
    except OSError as error:
        nights.again_at = time.monotonic() + AGAIN_AFTER_S
        logger.warning(
            "the training of %s waits: %s; free space or repair the folder; it is tried again "
            "every minute",
            job.group,
            error,
        )
    except (CellwatchError, ValueError, KeyError, TypeError) as error:
        _give_up(nights, job, f"its result cannot be taken in: {error!r}", now)


def _ended(nights: Nights, process: "subprocess.Popen[bytes]", now: datetime) -> None:
    code = process.wait()
    close_pipe(process)
    nights.process = None
    job = nights.job
    if job is None:
        return
    folder = Path(job.folder)
    if (folder / REPORT).exists():
        _go_on(nights, job, now)
    elif code == LEFT:
        nights.again_at = time.monotonic() + AGAIN_AFTER_S
        logger.info("the training of %s released the device; it continues later", job.group)
    elif code == REFUSED:
        reason = (folder / FAILURE).read_text(encoding="utf-8")
        _give_up(nights, job, reason, now)
    else:
        nights.deaths += 1
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        logger.warning("the trainer of %s died (%s)", job.group, how)
        if nights.deaths >= MAX_DEATHS:
            _give_up(nights, job, f"the trainer died {nights.deaths} times ({how})", now)


def _give_up(nights: Nights, job: TrainJob, reason: str, now: datetime) -> None:
    training_runs.fail(nights.db, job.run_id, reason, now)
    clear(Path(job.folder))
    nights.job = None
    logger.warning("%s was not trained: %s; the model in use stays", job.group, reason)


def _collect(nights: Nights, job: TrainJob, now: datetime) -> None:
    folder = Path(job.folder)
    report = TrainReport.from_json(json.loads((folder / REPORT).read_text(encoding="utf-8")))
    if job.kind != "session":
        add_candidate(folder / CANDIDATE, nights.config.zoo / report.model_id)
    # The candidate is in its place first: a crash between the two adds nothing twice.
    decisions = decisions_of(nights.db, job, report)
    training_runs.finish(nights.db, job.run_id, report, decisions, now)
    clear(folder)
    nights.job = None
    for decision in decisions:
        logger.info("%s is %s: %s", decision.model.id, decision.verdict, decision.reason)
