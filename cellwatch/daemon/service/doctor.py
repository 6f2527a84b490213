"""Examine a station: its configuration, folders, disks, ledger and daemon, and what waits, and why.

Nothing is left changed by looking. A folder that does not answer is given up after a few seconds.
"""

import errno
import itertools
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cellwatch.compute.machine import Finding, Verdict, examine_machine
from cellwatch.config.parse import read_config
from cellwatch.config.schema import Config
from cellwatch.daemon.diskspace import STATE_RESERVE, free_bytes
from cellwatch.daemon.service.startup import refuse_network
from cellwatch.errors import CellwatchError
from cellwatch.files.mounts import file_system_of, is_network
from cellwatch.images.suffixes import how_to_read
from cellwatch.records import DaemonState
from cellwatch.storage.ledger import backups
from cellwatch.storage.ledger.locking import is_locked
from cellwatch.storage.reports import station
from cellwatch.zoo.classifiers import check_weights, find_either

ANSWER_WITHIN_S = 5.0
COUNTED_WITHIN_S = 2.0
MAX_WATCHES = Path("/proc/sys/fs/inotify/max_user_watches")
CLOCK_SLACK = timedelta(minutes=1)
REASONS = 6  # of which files wait or failed


def examine(path: Path, now: datetime) -> Iterator[Finding]:
    """Look at a station, and at the machine that it is on.

    Parameters
    ----------
    path : Path
        Of the configuration.
    now : datetime
        In UTC.
    """
    try:
        config = read_config(path)
    except CellwatchError as error:
        yield Finding("configuration", Verdict.PROBLEM, str(error))
        yield from examine_machine()
        return
    yield Finding("configuration", Verdict.OK, f"{path} is valid")
    yield from examine_machine(config.device, config.precision, config.state.folder)
    yield from _models(config)
    for watched in config.watch:
        yield _answered(f"watch {watched.name}", watched.folder, _watched)
    for name, section in (("corrections", config.corrections), ("flags", config.flags)):
        if section is not None:
            yield _answered(name, section.folder, _dropped)
    yield _answered(
        "output", config.output.folder, partial(_written, reserve=config.output.reserve)
    )
    state = _answered("state", config.state.folder, _state)
    yield state
    if state.verdict == Verdict.PROBLEM:
        return  # a ledger on a disk that does not answer, or may not be read
    try:
        yield from _ledger(config, now)
    except OSError as error:
        told = f"the ledger cannot be looked at: {error.strerror or error}"
        yield Finding("ledger", Verdict.PROBLEM, told, _rights(config.state.folder, error))


def _models(config: Config) -> Iterator[Finding]:
    names = dict.fromkeys(t.model for watched in config.watch for t in watched.targets())
    for name in names:
        try:
            check_weights(place := find_either(name, config.zoo))
        except (CellwatchError, OSError) as error:
            yield Finding("model", Verdict.PROBLEM, str(error))
        else:
            yield Finding("model", Verdict.OK, f"{place.card.id}: weights as its card says")


def _answered(subject: str, folder: Path, look: Callable[[Path], tuple[str, str, str]]) -> Finding:
    # In a thread of its own: a share whose server is gone may answer never.
    found: list[tuple[str, str, str]] = []

    def run() -> None:
        try:
            found.append(look(folder))
        except CellwatchError as error:
            found.append((Verdict.PROBLEM, str(error), ""))
        except OSError as error:
            told = f"{folder}: {error.strerror or error}"
            found.append((Verdict.PROBLEM, told, _rights(folder, error)))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(ANSWER_WITHIN_S)
    if not found:
        told = f"{folder} does not answer within {ANSWER_WITHIN_S:.0f} s"
        return Finding(subject, Verdict.PROBLEM, told, "see whether its server is up: mount, df")
    verdict, text, remedy = found[0]
    return Finding(subject, Verdict(verdict), text, remedy)


def _rights(folder: Path, error: OSError) -> str:
    if not isinstance(error, PermissionError):
        return ""
    return (
        f"give user {os.geteuid()} the right to list {folder}, and, but for watched folders, to "
        "write there; a service has a user of its own: run this as that user"
    )


def _place(folder: Path) -> str:
    kind, free = file_system_of(folder) or "unknown file system", free_bytes(folder)
    room = f", {free / 1e9:,.1f} GB free" if free is not None else ""
    return f"{folder} ({kind}{room})"


def _watched(folder: Path) -> tuple[str, str, str]:
    if not folder.is_dir():
        return Verdict.NOTE, f"{folder} is not there", "watched as soon as it is: see its mount"
    with os.scandir(folder):  # it can be listed
        pass
    n_folders = _n_folders(folder) if not is_network(folder) else 0
    try:
        limit = int(MAX_WATCHES.read_text(encoding="ascii"))
    except (OSError, ValueError):
        limit = n_folders
    if n_folders > limit:
        told = f"{folder} has {n_folders:,} folders; the kernel reports events of {limit:,}"
        return Verdict.NOTE, told, "sysctl fs.inotify.max_user_watches=1048576"
    is_share = is_network(folder)
    how = "looked through from time to time" if is_share else "the kernel reports new files"
    return Verdict.OK, f"{_place(folder)}: {how}", ""


def _dropped(folder: Path) -> tuple[str, str, str]:
    # Where people drop files: nothing is written there to try it.
    if not folder.is_dir() or os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return _written(folder, is_tried=False)
    raise PermissionError(errno.EACCES, "it cannot be written", str(folder))


def _n_folders(folder: Path) -> int:
    # As many as are found in a while: a large archive takes longer than anybody waits.
    until = time.monotonic() + COUNTED_WITHIN_S
    each = itertools.takewhile(lambda _: time.monotonic() < until, os.walk(folder))
    return sum(1 for _ in each)


def _written(folder: Path, reserve: float = 0.0, *, is_tried: bool = True) -> tuple[str, str, str]:
    if not folder.is_dir():
        if not folder.parent.is_dir():
            told = f"{folder} is not there, nor is {folder.parent}"
            return Verdict.PROBLEM, told, "see whether its disk is mounted"
        if not os.access(folder.parent, os.W_OK):
            raise PermissionError(errno.EACCES, "it is not there, and cannot be made", str(folder))
        return Verdict.OK, f"{folder} is not there yet; the daemon makes it", ""
    if is_tried:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".cellwatch-doctor-"):
            pass
    free = free_bytes(folder)
    if free is not None and free < reserve:
        told = f"{folder}: {free / 1e6:,.0f} MB are free, {reserve / 1e6:,.0f} MB are to stay free"
        return Verdict.PROBLEM, told, "free some space there: until then nothing is segmented"
    return Verdict.OK, f"{_place(folder)}, can be written", ""


def _state(folder: Path) -> tuple[str, str, str]:
    refuse_network(folder)
    return _written(folder, STATE_RESERVE)


def _ledger(config: Config, now: datetime) -> Iterator[Finding]:
    state = config.state.folder
    path = state / station.LEDGER
    if not path.is_file():
        yield Finding("ledger", Verdict.OK, "there is none yet; the daemon makes it at its start")
        return
    if why := backups.why_damaged(path):
        remedy = "start the daemon: it sets it aside and continues with the newest sound backup"
        yield Finding("ledger", Verdict.PROBLEM, f"{path} is damaged ({why})", remedy)
        return
    kept = backups.backups(state)
    newest = f"newest backup {kept[-1].name}" if kept else "no backup yet"
    yield Finding("ledger", Verdict.OK, f"{path} is sound; {newest}")
    try:
        with station.reader(path) as db:
            facts = station.daemon(db)
            yield _daemon(station.daemon_state(facts, now, is_locked=is_locked(state)), facts)
            if (clock := _clock(facts, now)) is not None:
                yield clock
            for key in (station.RELOAD_ERROR, station.LEDGER_MENDED):
                if told := station.told(db, key):
                    yield Finding("daemon", Verdict.NOTE, told)
            for folder in station.folders(db):
                if folder.state != "watching":
                    told = f"{folder.state}: {folder.reason or folder.path}"
                    yield Finding(f"watch {folder.name}", Verdict.PROBLEM, told)
            yield from _waiting(station.troubles(db, REASONS))
            yield from _unread(station.unread(db))
    except CellwatchError as error:
        yield Finding("ledger", Verdict.PROBLEM, str(error))


def _daemon(state: DaemonState, facts: station.DaemonFacts | None) -> Finding:
    if facts is None or state == DaemonState.STOPPED:
        return Finding("daemon", Verdict.NOTE, "it does not run", "start it: cellwatch run")
    told = f"{state}, process {facts.pid} on {facts.device}, cellwatch {facts.version}"
    if state == DaemonState.DEAD:
        beat = datetime.fromisoformat(facts.heartbeat_at or station.EVER)
        told = f"{told}; last sign of life {_local(beat)}"
        remedy = "see its log (journalctl -u 'cellwatch@*'), and start it again: nothing is lost"
        return Finding("daemon", Verdict.PROBLEM, told, remedy)
    verdict = Verdict.PROBLEM if facts.trouble else Verdict.OK
    return Finding("daemon", verdict, f"{told}; {facts.trouble}" if facts.trouble else told)


def _clock(facts: station.DaemonFacts | None, now: datetime) -> Finding | None:
    beat = datetime.fromisoformat((facts.heartbeat_at if facts else None) or station.EVER)
    if beat.astimezone(UTC) <= now + CLOCK_SLACK:
        return None
    told = f"the ledger was written at {_local(beat)}, and now is {_local(now)}"
    return Finding("clock", Verdict.PROBLEM, told, "set the clock: timedatectl")


def _local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def _waiting(troubles: list[station.TroubleCount]) -> Iterator[Finding]:
    for each in troubles:
        told = f"{each.files} {each.state}: {each.reason or 'no reason is known'}"
        remedy = f"for one of them: cellwatch explain {each.example}"
        yield Finding("files", Verdict.NOTE, told, remedy)


def _unread(kinds: list[station.UnreadKind]) -> Iterator[Finding]:
    for kind in kinds:
        told = f"{kind.files} {kind.suffix} are not read, as {kind.example}"
        remedy = how_to_read(kind.suffix)
        yield Finding("files", Verdict.PROBLEM if remedy else Verdict.NOTE, told, remedy)
