"""Make files and folders appear whole or not at all.

What is written lies in a hidden folder beside its place (`.NAME.tmp-`), is forced to disk, and is
then renamed. Where something exists already, the two are exchanged in one step and the old one is
set aside, never deleted; on its way out it lies in `.NAME.old-`. These folders are there while
something is written only, and are found by their names: a folder of many results is never listed.
"""

import contextlib
import ctypes
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellwatch.errors import OutputError
from cellwatch.files.atomic import flush

HALF = ".tmp-"  # ends the name of the folder of what is not published yet
OLD = ".old-"  # and of what was published and is on its way out
RENAME_EXCHANGE = 2  # linux/fs.h
AT_FDCWD = -100  # fcntl.h


@contextmanager
def written_aside(path: Path, superseded: Path) -> Iterator[Path]:
    """Give a name to write a file or folder under; publish it when the block ends well.

    Parameters
    ----------
    path : Path
        The final place.
    superseded : Path
        The folder that receives what stood there before.

    Raises
    ------
    OutputError
        When the place cannot be written; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = _new_piece(path, HALF)
    except OSError as error:
        raise OutputError(why_unwritable(path, error)) from error
    try:
        yield aside
        sync_tree(aside)
        _swap_in(aside, path, superseded)
        flush(path.parent)
    except OSError as error:
        raise OutputError(why_unwritable(path, error)) from error
    finally:
        _remove(aside)
        _leave(aside)


def why_unwritable(path: Path, error: OSError) -> str:
    """Say why a place cannot be written, whose it is, and what may be done about it.

    Returns
    -------
    str
        For people: the place, the system's reason, and for one that rights forbid the owner and
        mode of the folder and the user that this process runs as.
    """
    told = f"{path} cannot be written: {error.strerror or error}"
    if error.errno not in (errno.EACCES, errno.EPERM):
        return told
    place = Path(error.filename) if error.filename else path.parent
    while not _is_there(place) and place != place.parent:
        place = place.parent
    try:
        status = place.stat()
    except OSError:
        return told
    return (
        f"{told}. {place} belongs to user {status.st_uid} and group {status.st_gid} with mode "
        f"{status.st_mode & 0o7777:04o}, and cellwatch runs as user {os.geteuid()}: give it the "
        f"right to list and write (chown {os.geteuid()} or chmod u+rwx)"
    )


def _is_there(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:
        return False


def sweep(path: Path, superseded: Path) -> int:
    """Mend what killed writers of `path` left beside it; return how many pieces there were.

    What was never published is removed. What had been published and was on its way out is set
    aside, or put back where nothing took its place.
    """
    half, old = _room_of(path, HALF), _room_of(path, OLD)
    pieces = [piece for room in (half, old) for piece in room.glob("*/*")]
    if half.is_dir():
        _remove(half)
    for piece in old.glob("*/*"):
        if path.exists():
            _set_aside(piece, path, superseded)
        else:
            piece.rename(path)
    with contextlib.suppress(OSError):
        for folder in old.iterdir():  # those of a writer that was killed are empty, or are now
            folder.rmdir()
        old.rmdir()
    return len(pieces)


def _room_of(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}{kind}")


def _new_piece(path: Path, kind: str) -> Path:
    # Each has a folder of its own in the room, which another writer of the same place removes when
    # it finds it empty.
    folder = _room_of(path, kind) / uuid.uuid4().hex[:12]
    while True:
        folder.parent.mkdir(exist_ok=True)
        try:
            folder.mkdir()
        except FileNotFoundError:
            continue
        return folder / "piece"  # not its name: it is no mask store yet, for whoever looks for some


def _leave(piece: Path) -> None:
    # Its folder and its room, unless somebody else has something there.
    with contextlib.suppress(OSError):
        piece.parent.rmdir()
        piece.parent.parent.rmdir()


def move_published(old: Path, new: Path, superseded: Path) -> None:
    """Give a published file or folder another place; what stands there is set aside before.

    So each of the two is, at any moment, in a place of its own.

    Raises
    ------
    OutputError
        When a place cannot be written.
    """
    try:
        new.parent.mkdir(parents=True, exist_ok=True)
        if new.exists():
            leaving = _new_piece(new, OLD)
            new.rename(leaving)
            _set_aside(leaving, new, superseded)
            _leave(leaving)
        old.rename(new)
        flush(new.parent)
        flush(old.parent)
    except OSError as error:
        raise OutputError(why_unwritable(new, error)) from error


def sync_tree(path: Path) -> None:
    """Force a file, or a folder with all it holds, to disk."""
    if path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                flush(Path(folder, name))
            flush(Path(folder))
    else:
        flush(path)


def _swap_in(aside: Path, path: Path, superseded: Path) -> None:
    if not path.exists():
        aside.rename(path)
        return
    # From here on both have names that are never removed, only moved: see `sweep`.
    old = _new_piece(path, OLD)
    try:
        aside.rename(old)
        if not _exchange(old, path):  # a file system without: for a moment nothing is in the place
            new, old = old, _new_piece(path, OLD)
            path.rename(old)
            new.rename(path)
            _leave(new)
        _set_aside(old, path, superseded)
    finally:
        _leave(old)


def _set_aside(old: Path, path: Path, superseded: Path) -> None:
    superseded.mkdir(parents=True, exist_ok=True)
    shutil.move(old, superseded / f"{path.name}.{uuid.uuid4().hex[:8]}")


def _exchange(first: Path, second: Path) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    status = libc.renameat2(
        AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE
    )
    if status == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(second))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
