"""One daemon at a time per state folder.

The daemon holds an exclusive lock on a file beside the ledger as long as it lives; the kernel lets
go of it when the process dies, however it dies.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from cellwatch.errors import OutputError, StateLocked

LOCK = "daemon.lock"
DAEMON = "the daemon"


@contextmanager
def state_lock(state: Path, now: datetime, who: str = DAEMON) -> Iterator[None]:
    """Hold a state folder against every other daemon.

    Parameters
    ----------
    state : Path
    now : datetime
    who : str
        What holds it, for those that wait.

    Raises
    ------
    StateLocked
        When another one holds it; its pid and host are named.
    """
    path = state / LOCK
    try:
        state.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
    except OSError as error:
        raise OutputError(f"the state folder {state} cannot be used: {error.strerror}") from error
    try:
        _lock(handle, path)
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": now.isoformat()}
        os.truncate(handle, 0)
        os.pwrite(handle, json.dumps({"who": who, **facts}).encode(), 0)
        yield
    finally:
        os.close(handle)


def holder(state: Path) -> dict[str, Any]:  # Any: JSON
    """Return who, pid, host and since of what holds a state folder now; empty: nothing does."""
    if not is_locked(state):
        return {}
    try:
        return dict(json.loads((state / LOCK).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {"who": DAEMON}  # it has taken the lock and not yet said so


def is_locked(state: Path) -> bool:
    """Say whether a daemon holds a state folder now."""
    path = state / LOCK
    if not path.exists():
        return False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _lock(handle: int, path: Path) -> None:
    # A report that asks whether the daemon runs holds the lock for a moment too.
    for patience in (0.05, 0.1, 0.2, 0.0):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not patience:
                raise StateLocked(_who_holds(path)) from error
            time.sleep(patience)
        else:
            return


def _who_holds(path: Path) -> str:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        who = f"{said.get('who', DAEMON)} with pid {said['pid']} on {said['host']}"
        is_daemon = said.get("who", DAEMON) == DAEMON
    except (ValueError, KeyError, OSError):
        who, is_daemon = "another daemon", True
    remedy = "stop it first, or give this one another state: folder"
    return f"{who} holds {path.parent}; {remedy if is_daemon else 'it ends by itself: wait for it'}"
