"""What the watchers of dropped files and flags report to the supervisor."""

from dataclasses import dataclass
from pathlib import Path

from cellwatch.config.schema import Config
from cellwatch.daemon.corrections.presence import FilesMoved
from cellwatch.records import CorrectionRead
from cellwatch.storage.corrections import answer_files
from cellwatch.storage.corrections.names import PICTURES, SUFFIXES
from cellwatch.storage.ledger import dropped_files, flags
from cellwatch.watching.names import ALWAYS_EXCLUDED, FileFilter

SETTLE_S = 1.0  # people expect the answer within seconds; a copy that continues starts it again


# Masks are wanted here, our own answers are not.
HIDDEN = (
    *(p for p in ALWAYS_EXCLUDED if "_" not in p and ".zarr" not in p),
    f"*{answer_files.ACCEPTED}",
    f"*{answer_files.REJECTED}",
)


TAKEN = FileFilter(("**",), HIDDEN, (*SUFFIXES, *PICTURES))  # from the corrections folder
FOLDERS = ("corrections/", "flags/")  # as `status` names them


@dataclass(frozen=True, slots=True)
class DropRead:
    """A dropped file and what was found.

    Attributes
    ----------
    drop : Drop
    read : CorrectionRead or None
        None: its image is not there yet; `waiting` says why.
    waiting, remedy : str
    orphan_id : int or None
        The row under which it waited before.
    is_blocked : bool
        Whether it waits for a disk or a share, not for its image.
    """

    drop: dropped_files.Drop
    read: CorrectionRead | None
    waiting: str = ""
    remedy: str = ""
    orphan_id: int | None = None
    is_blocked: bool = False


@dataclass(frozen=True, slots=True)
class FlagDropped:
    """A flag that was dropped as a file."""

    flag: flags.Flag


@dataclass(frozen=True, slots=True)
class FolderLost:
    """A folder that people drop files into could not be listed, or can be again.

    Attributes
    ----------
    name : str
    folder : Path
    reason : str
        "": it is there again.
    files : int
    """

    name: str
    folder: Path
    reason: str
    files: int


Event = DropRead | FlagDropped | FolderLost | FilesMoved


def named(config: Config) -> list[str]:
    """Return the folders that people drop into, as `status` names them."""
    sections = (config.corrections, config.flags)
    return [name for name, section in zip(FOLDERS, sections, strict=True) if section is not None]
