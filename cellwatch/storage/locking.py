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

from cellwatch.errors import OutputError, StateLocked

LOCK = "daemon.lock"


@contextmanager
def state_lock(state: Path, now: datetime) -> Iterator[None]:
    """Hold a state folder against every other daemon.

    Raises
    ------
    StateLocked
        When another daemon holds it; its pid and host are named.
    """
    path = state / LOCK
    try:
        state.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
    except OSError as error:
        raise OutputError(f"the state folder {state} cannot be used: {error.strerror}") from error
    try:
        _lock(handle, path)
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": now.isoformat()}
        os.truncate(handle, 0)
        os.pwrite(handle, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(handle)


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
        holder = json.loads(path.read_text(encoding="utf-8"))
        who = f"the daemon with pid {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, OSError):
        who = "another daemon"
    return f"{who} holds {path.parent}; stop it first, or give this one another state: folder"
