"""Carry out what a person asked for through a command."""

from collections.abc import Callable
from datetime import datetime

from sqlite_utils import Database

from cellwatch.config.schema import Config
from cellwatch.daemon.requests import corrections, flags, models, steering, training
from cellwatch.daemon.retraining.nights import Nights
from cellwatch.errors import RequestRefused
from cellwatch.storage.ledger.requests import Answer, Request


def carry_out(
    db: Database, config: Config, nights: Nights, request: Request, now: datetime
) -> Answer:
    """Do what was asked.

    Raises
    ------
    CellwatchError
        When it cannot be done; the text says why and what to do.
    """
    kinds: dict[str, Callable[[], Answer]] = {
        "flag": lambda: flags.flag(db, request, now),
        "unflag": lambda: flags.unflag(db, request, now),
        "checkout": lambda: corrections.checkout(db, request.arguments, now),
        "withdraw": lambda: corrections.withdraw(db, config, request.arguments, now),
        "confirm": lambda: corrections.confirm(db, request, now),
        "retrain": lambda: training.retrain(nights, request.arguments, now),
        "cancel": lambda: training.cancel(nights, request, now),
        "session": lambda: training.session(db, config, nights, request.arguments, now),
        "promote": lambda: models.promote(db, config, nights, request, now),
        "rollback": lambda: models.rollback(db, config, nights, request, now),
        "pause": lambda: steering.pause(db, config, request, now),
        "resume": lambda: steering.resume(db, config, request),
        "bump": lambda: steering.bump(db, request),
        "skip": lambda: steering.skip(db, request, now),
        "requeue": lambda: steering.requeue(db, request, now),
        "rerun": lambda: models.rerun(db, config, nights, request, now),
    }
    if request.kind not in kinds:
        raise RequestRefused(f"this daemon does not know '{request.kind}'; is it an older one?")
    return kinds[request.kind]()
