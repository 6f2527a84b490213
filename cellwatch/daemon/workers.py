"""The workers as the supervisor sees them: started, given jobs, listened to, replaced."""

import logging
import math
import time
from datetime import UTC, datetime, timedelta

from cellwatch.compute.deadlines import STARTING_S
from cellwatch.compute.executor import FromWorker, Worker, process_started
from cellwatch.compute.pipe import Message
from cellwatch.daemon import alarms
from cellwatch.daemon.corrections import inbox
from cellwatch.daemon.jobs import (
    are_zeros_final,
    cards_of,
    facts_of,
    has_to_wait,
    is_alone,
    is_choosing,
    job_for,
    plane_of,
    why_no_job,
)
from cellwatch.daemon.life import InFlight, Life, WorkerSlot, claims_of
from cellwatch.daemon.model_choice import models_for, pin_chosen, pin_models, redo_if_repinned
from cellwatch.daemon.retraining import scheduler as training
from cellwatch.errors import CellwatchError, DeviceError, OutputError
from cellwatch.files.members import container_of
from cellwatch.records import Outcome, Trouble, WorkerProcess
from cellwatch.storage.ledger import lookup, moves, queue, recovery, service
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.path_text import text_path
from cellwatch.storage.ledger.queue import Claim

logger = logging.getLogger(__name__)

BYTES_A_PIXEL = 4  # of labels, and of most pixels
NEWEST_EVERY = 4  # one in so many claims is of the newest image: a backlog hides no live one
EVERY = ("auto", "cuda")  # devices that mean every GPU there is
RESPAWN_AFTER_S = 1.0
MAX_DEATHS_AT_START = 5  # of a worker that never becomes ready: then the device is unfit
UNFIT_AGAIN_S = 60.0  # until a device that is unfit is tried again


def look_after(life: Life) -> None:
    """On every device: start a worker where there is none, give it work, end one that hangs."""
    for slot in list(life.slots):
        if slot.worker is None and time.monotonic() >= slot.respawn_at:
            _spawn(life, slot)
        if slot.worker is not None and slot.worker.is_idle:
            give_job(life, slot, slot.worker)
        _end_hanging(slot, time.monotonic())
        if slot.worker is not None:
            slot.worker.give_up_if_stuck(time.monotonic())


def listen(life: Life) -> None:
    """Deal with everything that workers have said."""
    while life.events.urgent() is not None:
        listen_once(life)


def listen_once(life: Life) -> None:
    """Deal with the next thing that a worker has said; it is kept until that is recorded."""
    event = life.events.urgent()
    if event is not None:
        _take(life, event)
        life.events.drop_urgent()


def give_job(life: Life, slot: WorkerSlot, worker: Worker) -> None:
    """Claim the next acquisition and hand it to an idle worker."""
    if not _has_space(life) or life.is_held_for_another(slot):
        return
    # A claim that the ledger holds, and that no worker was given since, goes first.
    claim = slot.claimed or queue.claim(
        life.db,
        is_newest=life.n_claims % NEWEST_EVERY == NEWEST_EVERY - 1,
        device=worker.device,
        worker_pid=worker.pid,
        now=_now(),
        lease=timedelta(seconds=slot.deadlines.allowed(0, 0)),
        folders=life.turns(),
    )
    if claim is None:
        return
    if slot.claimed is None:
        life.n_claims += 1
        life.served[claim.watch] = life.n_claims
    slot.claimed = claim
    watched = life.watch_named(claim.watch)
    reason = why_no_job(claim, watched)
    if watched is None or reason:
        queue.set_aside(life.db, claim.acquisition_id, reason, _now())
        slot.claimed = None
        return
    try:
        models = models_for(life.db, claim, watched, life.config, life.models)
        cards = [card for place in models.values() for card in cards_of(place)]
    except CellwatchError as error:
        queue.set_aside(life.db, claim.acquisition_id, str(error), _now())
        slot.claimed = None
        line = f"{claim.path} is blocked: {error}"
        life.summaries.say(logging.WARNING, "images that are blocked", line, time.monotonic())
        return
    here, elsewhere = claims_of(slot.flights), claims_of(life.elsewhere(slot))
    are_so = {
        "is_alone": is_alone(claim, models, life.config),
        "is_choosing": is_choosing(models, life.config),
    }
    if has_to_wait(claim, here, elsewhere, **are_so):
        return  # it is given as soon as what it waits for is recorded
    pin_models(life.db, claim, models, life.config, _now())
    for card in cards:
        service.model_used(life.db, card, _now())
    final = are_zeros_final(claim, watched, _now())
    twin = moves.store_with_content(life.db, claim)
    job = job_for(claim, watched, life.config, models, are_zeros_final=final, twin=twin)
    pixels, n_bytes = plane_of(claim), _size_of(life, claim)
    allowed = slot.deadlines.allowed(pixels, n_bytes)
    queue.renew(life.db, claim.acquisition_id, _now() + timedelta(seconds=allowed))
    began = time.monotonic()
    slot.job = InFlight(claim, facts_of(job), pixels, n_bytes, began, began + allowed)
    slot.claimed = None
    worker.perform(job)


def _has_space(life: Life) -> bool:
    config, before = life.config, life.space.trouble
    output, now = config.output, time.monotonic()
    trouble = life.space.why_none(output.folder, output.reserve, config.state.folder, now)
    life.space.warn([watched.folder for watched in config.watch], output.reserve, now)
    if trouble != before:
        if trouble or life.workers:  # else the device is the trouble still
            service.daemon_degraded(life.db, trouble)
        logger.warning("%s", trouble or "there is room on the disk again")
    if trouble and life.is_once:
        raise OutputError(trouble)
    return not trouble


def _spawn(life: Life, slot: WorkerSlot) -> None:
    try:
        slot.worker = Worker(
            slot.device, life.superseded, life.events.put_first, precision=life.config.precision
        )
    except OSError as error:
        slot.respawn_at = time.monotonic() + UNFIT_AGAIN_S
        logger.warning("no worker can be started: %s; cellwatch tries again in a minute", error)
        return
    slot.ready_until = time.monotonic() + STARTING_S
    _tell_of_workers(life)


def _tell_of_workers(life: Life) -> None:
    pids = [worker.pid for worker in life.workers]
    service.daemon_workers(life.db, [WorkerProcess(pid, process_started(pid)) for pid in pids])


def _take(life: Life, event: FromWorker) -> None:
    worker, message = event.worker, event.message
    slot = life.slot_of(worker)
    if message is None:
        _ended(life, slot, worker)
    elif slot is None:
        logger.debug("a worker that was given up said %s", message["kind"])
    elif message["kind"] == "ready":
        _ready(life, slot, worker, message)
    elif message["kind"] == "unfit":
        _unfit(life, slot, str(message["reason"]))
    elif message["kind"] == "plane":
        _heard(life, slot)
    elif message["kind"] == "computed":
        _give_time(life, slot, slot.job)
        worker.turn_to_publishing()
        slot.publishing, slot.job = slot.job, None
    else:
        outcome = Outcome.from_json(message["outcome"])
        flight = slot.flight_of(outcome.acquisition_id)
        _record(life, outcome, flight)
        worker.let_go(outcome.acquisition_id)
        slot.let_go(flight)
        _give_time(life, slot, slot.job)  # it may have waited for this one to be written
        if message["ends"]:
            worker.is_ready, worker.why_over = False, str(message["ends"])


def _ready(life: Life, slot: WorkerSlot, worker: Worker, message: Message) -> None:
    worker.is_ready = True
    worker.device = message["device"]
    slot.deaths_at_start, slot.ready_until = 0, float("inf")
    devices = ", ".join(worker.device for worker in life.workers if worker.is_ready)
    service.worker_ready(life.db, devices, message["precision"], life.space.trouble)
    logger.info("the worker on %s is ready (%s)", message["device"], message["precision"])
    if slot.device in EVERY and len(life.slots) == 1:  # of several GPUs it took the first
        more = range(1, message["n_devices"])
        life.slots += [WorkerSlot(f"cuda:{n}", is_asked_for=False) for n in more]


def _heard(life: Life, slot: WorkerSlot) -> None:
    if slot.job is not None:
        slot.deadlines.learn(slot.job.pixels, time.monotonic() - slot.job.said_at)
        _give_time(life, slot, slot.job)


def _give_time(life: Life, slot: WorkerSlot, job: InFlight | None) -> None:
    # From now on, for what comes next.
    if job is None:
        return
    now = time.monotonic()
    allowed = slot.deadlines.allowed(job.pixels, job.n_bytes)
    job.said_at, job.until = now, now + allowed
    queue.renew(life.db, job.claim.acquisition_id, _now() + timedelta(seconds=allowed))


def _record(life: Life, outcome: Outcome, flight: InFlight | None) -> None:
    now = _now()
    acquisition = lookup.acquisition(life.db, outcome.acquisition_id)
    path = acquisition.path
    if outcome.trouble != Trouble.NONE:
        state = queue.fail(life.db, outcome, now)
        if outcome.trouble == Trouble.DEVICE:
            training.leave(life.nights)
        if outcome.trouble == Trouble.MISSING:
            life.notices[acquisition.watch].put(container_of(text_path(acquisition.relative_path)))
        line = f"{path} is {state}: {outcome.reason}"
        life.summaries.say(logging.WARNING, f"images that are {state}", line, time.monotonic())
        return
    if outcome.is_unchanged:
        queue.keep_result(life.db, outcome.acquisition_id, now)
        line = f"{path} is unchanged: its masks remain valid"
        life.summaries.say(logging.INFO, "images that were looked at again", line, time.monotonic())
        return
    queue.finish(life.db, outcome, flight.facts if flight is not None else {}, now)
    if flight is not None:
        pin_chosen(life.db, flight.claim, outcome, life.config, now)
        redo_if_repinned(life.db, flight.claim, outcome, life.config, now)
    inbox.segmented(life.drops, outcome.acquisition_id)
    for said in alarms.watch_over(life.db, outcome.acquisition_id, now):
        logger.warning("%s", said)
    rois = ", ".join(result.counted for result in outcome.targets)
    notes = "; ".join(note for result in outcome.targets for note in result.notes)
    line = f"segmented {path}: {rois} in {outcome.seconds:.1f} s{f' ({notes})' if notes else ''}"
    if outcome.copied_from:
        line = f"{path} holds the same as {outcome.copied_from}, whose masks were copied: {rois}"
    logger.info("%s", line)


def _ended(life: Life, slot: WorkerSlot | None, worker: Worker) -> None:
    how = worker.how_it_ended()
    now = time.monotonic()
    if worker.is_stuck and worker.in_hand:
        for each in worker.in_hand:  # it was not the image's fault: it waits for its disk
            _record(life, Outcome(each, reason=how, trouble=Trouble.SURROUNDINGS), None)
        worker.acquisition_id, worker.publishing_id = None, None
    elif lost := worker.in_hand:
        # Either image may have killed it: each is tried again alone.
        with transaction(life.db):
            states = [recovery.worker_died(life.db, each, how, _now()) for each in lost]
        worker.acquisition_id, worker.publishing_id = None, None
        for state in states:
            logger.warning("the worker died (%s); its acquisition is %s", how, state)
    elif worker.why_over:
        logger.info("the worker is replaced: %s", worker.why_over)
    elif worker.is_unfit or slot is None:
        return
    elif not worker.is_ready:
        slot.deaths_at_start += 1
        logger.warning("the worker died before it was ready (%s)", how)
        if slot.deaths_at_start >= MAX_DEATHS_AT_START:
            reason = (
                f"the worker on {worker.device} died {slot.deaths_at_start} times before it was "
                f"ready ({how}); see the lines above"
            )
            slot.clear()
            _unfit(life, slot, reason)
            return
    else:
        logger.warning("the idle worker died (%s)", how)
    if slot is not None:
        slot.clear()
        slot.respawn_at = now + (0 if worker.why_over else RESPAWN_AFTER_S)
    _tell_of_workers(life)


def _unfit(life: Life, slot: WorkerSlot, reason: str) -> None:
    # The device that the configuration asks for is not there, or does not work: no other takes its
    # place unasked. It may come: a driver is updated, another program ends.
    if life.is_once and slot.is_asked_for:
        raise DeviceError(reason)
    if slot.worker is not None:
        slot.worker.is_unfit = True
    slot.clear()
    if slot.claimed is not None:  # another worker does it
        recovery.hand_back(life.db, slot.claimed.acquisition_id, _now())
        slot.claimed = None
    slot.respawn_at = time.monotonic() + UNFIT_AGAIN_S
    if not slot.is_asked_for:
        life.slots.remove(slot)
        logger.warning("%s is not used: %s", slot.device, reason)
        return
    what = "a device is not used"
    if not any(other.is_ready for other in life.slots):
        what = "no image is segmented at the moment"
        service.daemon_degraded(life.db, reason)
    line = f"{what}: {reason}; cellwatch tries again every minute"
    life.summaries.say(logging.ERROR, "looks at the device", line, time.monotonic())


def _end_hanging(slot: WorkerSlot, now: float) -> None:
    worker = slot.worker
    if worker is None:
        return
    job, what = slot.job, "no plane of %s"
    if slot.publishing is not None:  # which the job that is computed may be waiting for
        job, what = slot.publishing, "the masks of %s are not written"
    if not worker.is_ready and not worker.why_over and now > slot.ready_until:
        logger.warning("the worker is not ready after %g s; it is killed", STARTING_S)
        slot.ready_until = float("inf")
        worker.kill()
    elif job is not None and now > job.until:
        allowed = job.until - job.said_at
        line = f"{what} in %.0f s: the worker hangs, and is killed"
        logger.warning(line, job.claim.path, allowed)
        job.until = float("inf")
        worker.is_ready = False
        worker.kill()


def _size_of(life: Life, claim: Claim) -> int:
    # Read twice, for its digest and its pixels; its labels and its pixels are written.
    size = lookup.acquisition(life.db, claim.acquisition_id).size
    return 2 * size + 2 * BYTES_A_PIXEL * math.prod(claim.shape)


def _now() -> datetime:
    return datetime.now(UTC)
