"""Ask the daemon for something; where none runs, carry it out here under the state lock."""

import getpass
import grp
import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cellwatch.cli.console import print_json
from cellwatch.config.locate import find_config
from cellwatch.errors import (
    EXIT_FAILED,
    CellwatchError,
    OutputError,
    RequestRefused,
    RequestUnanswered,
    UsageError,
)
from cellwatch.storage.reports.station import LEDGER, reader

if TYPE_CHECKING:
    from cellwatch.config.schema import Config
    from cellwatch.storage.ledger.requests import Answer

ANSWER_WITHIN_S = 30.0
LOOK_EVERY_S = 0.1


def ask(
    config: "Config", kind: str, arguments: Mapping[str, Any], wait_s: float = ANSWER_WITHIN_S
) -> "Answer":
    """Have a request carried out and return the answer.

    Raises
    ------
    RequestRefused
        When it cannot be done.
    RequestUnanswered
        When the daemon runs and does not answer.
    """
    from cellwatch.storage.ledger.locking import is_locked
    from cellwatch.storage.ledger.requests import answer_to
    from cellwatch.storage.ledger.requests import ask as write_request

    state = config.state.folder
    if not is_locked(state):
        return _here(config, kind, arguments)
    db = _writable(state)
    try:
        key = write_request(db, kind, arguments, getpass.getuser(), _now())
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            if (given := answer_to(db, key)) is not None:
                return _checked(given)
            if not is_locked(state):
                break  # it ended meanwhile; the next daemon carries it out
            time.sleep(LOOK_EVERY_S)
    finally:
        db.close()
    raise RequestUnanswered(
        f"the daemon has not answered within {wait_s:g} s; request {key} is kept in the ledger and "
        "is carried out when it is there again (cellwatch status)"
    )


def _writable(state: Path) -> Any:  # Any: sqlite_utils' Database, slow to import
    from cellwatch.storage.ledger.database import open_ledger

    ledger = state / LEDGER
    if ledger.exists() and not os.access(ledger, os.W_OK):
        group = str(ledger.stat().st_gid)
        with suppress(KeyError):  # one without a name
            group = grp.getgrgid(int(group)).gr_name
        who = getpass.getuser()
        raise OutputError(
            f"{ledger} may not be written by {who}: members of the group '{group}' may (usermod "
            f"-aG {group} {who}, then log in again); whoever may not can drop files into the "
            "corrections and flags folders"
        )
    return open_ledger(state)


def show(given: "Answer", *, as_json: bool) -> None:
    """Print an answer."""
    if as_json:
        print_json({"text": given.text, **given.facts})
    else:
        typer.echo(given.text)


def read_station(config: Path | None) -> "Config":
    """Read the configuration that a command names."""
    from cellwatch.config.parse import read_config

    return read_config(find_config(config))


def ledger_of(config: "Config") -> AbstractContextManager[sqlite3.Connection]:
    """Open a station's ledger for reading."""
    return reader(config.state.folder / LEDGER)


def refuse_station_folder(config: "Config", folder: Path, what: str) -> None:
    """Refuse a folder of the station: what is written there would be taken for its own."""
    own = [watched.folder for watched in config.watch] + [config.output.folder, config.state.folder]
    own += [section.folder for section in (config.corrections, config.flags) if section]
    for taken in own:
        if folder.resolve().is_relative_to(taken.resolve()):
            raise UsageError(f"{what}: {folder} lies in {taken}, a folder of the station")


def as_known(config: "Config", image: str) -> str:
    """Return an image as the ledger names it: its path below the watched folder, or what was said.

    A path may lead there through `..` or a link, or be the microscope's own, which `paths` maps;
    what is not a file may be a name, or yet to come.
    """
    from cellwatch.config.elsewhere import here

    image = here(config, image)
    path = Path(image)
    if not path.exists():
        return os.path.normpath(path.absolute()) if ".." in path.parts else image
    real = path.parent.resolve() / path.name
    for watched in config.watch:
        root = watched.folder.resolve()
        if real.is_relative_to(root):
            return str(watched.folder / real.relative_to(root))
    # A bare name may be that of an image of the station, though a file of that name lies here too.
    return image if path.name == image else os.path.normpath(path.absolute())


def _here(config: "Config", kind: str, arguments: Mapping[str, Any]) -> "Answer":
    from cellwatch.daemon.jobs import models_of
    from cellwatch.daemon.requests.dispatch import carry_out
    from cellwatch.daemon.retraining.nights import Nights
    from cellwatch.daemon.retraining.run_folder import clear_all
    from cellwatch.storage.ledger.database import open_ledger, transaction
    from cellwatch.storage.ledger.locking import state_lock
    from cellwatch.storage.ledger.requests import Answer, Request, answer
    from cellwatch.storage.ledger.requests import ask as write_request

    with state_lock(config.state.folder, _now(), f"cellwatch {kind}"):
        db = open_ledger(config.state.folder)
        try:
            who = getpass.getuser()
            key = write_request(db, kind, arguments, who, _now())
            try:
                nights = Nights(db, config, models_of(config))
                with transaction(db):
                    request = Request(key, kind, arguments, who)
                    given = carry_out(db, config, nights, request, _now())
                    # Answered before it trains: cut off, the run continues with the next daemon.
                    answer(db, key, given, _now())
            except CellwatchError as error:
                answer(db, key, Answer(False, str(error), {}), _now())
                raise
            if kind == "retrain":
                given = _train_here(nights, db, config, given)
            if kind == "cancel":
                clear_all(given.facts["folders"])
            return _checked(given)
        finally:
            db.close()


def _train_here(nights: Any, db: Any, config: "Config", given: "Answer") -> "Answer":
    # nights, db: as _here has them. Returns what came of it.
    from cellwatch.cli.console import tell
    from cellwatch.daemon.corrections.inbox import Inbox, answer_requests
    from cellwatch.daemon.retraining import scheduler as training
    from cellwatch.storage.ledger import training_runs
    from cellwatch.storage.ledger.requests import Answer

    people = Inbox(db, config, nights)  # who ask meanwhile: this process holds the state folder

    tell("no daemon runs: training here")
    training.take_up(nights, _now())
    last = ""
    try:
        while nights.is_training:
            answer_requests(people, _now())
            training.turn_asked(nights, now=_now())
            if nights.job is not None:
                said = training.progress(nights.job.folder)
                stage = f"{said.get('stage', 'starting')} ({said.get('step', 0)} steps)"
                if stage != last:
                    tell(f"{nights.job.model_id}: {stage}")
                    last = stage
            time.sleep(0.2)
    finally:
        training.stop(nights)
    ended = [training_runs.latest(db, group) for group in given.facts["groups"]]
    text = "\n".join(
        f"{run.group_name}, {run.model_id or 'no model'}: {run.reason}" for run in ended
    )
    is_done = all(run.state == "ended" for run in ended)
    return Answer(is_done, text, {**given.facts, "runs": [run.id for run in ended]})


def _checked(given: "Answer") -> "Answer":
    if not given.is_done:
        raise RequestRefused(given.text)
    return given


def _now() -> datetime:
    return datetime.now(UTC)


def fail(message: str) -> None:
    """Say what went wrong and end with exit code 1."""
    from cellwatch.cli.console import complain

    complain(message)
    raise typer.Exit(EXIT_FAILED)


def learning_station(config: Path | None) -> "Config":
    from cellwatch.daemon.requests.corrections import folder_of

    station = read_station(config)
    folder_of(station)  # says what to add where there is none
    return station


def groups_meant(station: "Config", group: str) -> list[str]:
    from cellwatch.daemon.retraining.selection import groups_of

    known = list(groups_of(station))
    if group and group not in known:
        raise RequestRefused(f"there is no group '{group}'; there are {', '.join(known)}")
    return [group] if group else known
