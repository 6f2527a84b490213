"""Steer the queue: pause and resume, put first, leave out, try again."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlite_utils import Database

from cellwatch.config.schema import Config
from cellwatch.errors import RequestRefused
from cellwatch.files.members import WITH_MEMBERS
from cellwatch.storage.ledger import flags, steering
from cellwatch.storage.ledger.requests import Answer, Request
from cellwatch.storage.reports.pauses import pauses


def pause(db: Database, config: Config, request: Request, now: datetime) -> Answer:
    """Let no further image be begun; those in hand are finished.

    Raises
    ------
    RequestRefused
        When there is no such folder.
    """
    watch = _folder(config, request)
    steering.pause(db, watch, request.asked_by, now)
    text = f"paused{_of(watch)}: images are taken in, and none is begun (cellwatch resume)"
    return Answer(True, text, {"folder": watch})


def resume(db: Database, config: Config, request: Request) -> Answer:
    """End a pause, with the errors of `pause`, and when nothing is paused."""
    watch = _folder(config, request)
    ended = steering.resume(db, watch)
    if not ended:
        others = ", ".join(each.watch or "everything" for each in pauses(db))
        raise RequestRefused(f"nothing is paused{_of(watch)}{others and f'; paused: {others}'}")
    names = ", ".join(name or "everything" for name in ended)
    still = "; everything is still paused" if watch and any(not p.watch for p in pauses(db)) else ""
    return Answer(True, f"resumed {names}{still}", {"folders": ended})


def bump(db: Database, request: Request) -> Answer:
    """Put images that wait before all others.

    Raises
    ------
    RequestRefused
        When no such image is known, or none of them waits.
    """
    return _done(db, request, lambda keys: steering.put_first(db, keys), "will be segmented next")


def skip(db: Database, request: Request, now: datetime) -> Answer:
    """Leave images out that were not begun, with the errors of `bump`."""
    by = request.asked_by
    return _done(db, request, lambda keys: steering.leave_out(db, keys, by, now), "left out")


def requeue(db: Database, request: Request, now: datetime) -> Answer:
    """Have images tried again that failed or were left out, with the errors of `bump`."""
    return _done(db, request, lambda keys: steering.try_again(db, keys, now), "will be tried again")


def _done(
    db: Database, request: Request, change: Callable[[Sequence[int]], int], what: str
) -> Answer:
    name, experiment = request.arguments.get("name", ""), request.arguments.get("experiment", "")
    if experiment:
        keys = steering.of_experiment(db, experiment)
    else:
        keys = flags.acquisitions_named(db, name)
        if not keys and name.lower().endswith(WITH_MEMBERS):
            keys = steering.of_file(db, name)
    if not keys:
        known = f"no experiment '{experiment}'" if experiment else f"no image {name}"
        raise RequestRefused(f"{known} is known (cellwatch status)")
    n = change(keys)
    images = "1 image" if n == 1 else f"{n} images"
    if not n:
        raise RequestRefused(
            f"none of {len(keys)} images is in a state for it (cellwatch explain {name})"
            if name
            else f"none of the {len(keys)} images of '{experiment}' is in a state for it"
        )
    return Answer(True, f"{images} {what}", {"images": n})


def _folder(config: Config, request: Request) -> str:
    watch = str(request.arguments.get("folder", ""))
    names = [each.name for each in config.watch]
    if watch and watch not in names:
        raise RequestRefused(f"no watched folder is named '{watch}'; there are {', '.join(names)}")
    return watch


def _of(watch: str) -> str:
    return f" in '{watch}'" if watch else ""
