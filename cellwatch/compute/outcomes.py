"""Turn whatever goes wrong over a job into an outcome with a recorded reason."""

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cellwatch.compute.device import is_out_of_memory
from cellwatch.errors import (
    CellwatchError,
    CodecMissing,
    DeviceError,
    OutputError,
    ReadInterrupted,
    StillUnwritten,
    TooLittleMemory,
    UnknownModel,
    UnreadableImage,
    WeightsError,
)
from cellwatch.files.members import file_of, is_there
from cellwatch.records import Job, Outcome, Trouble
from cellwatch.watching.scanner import is_bare

logger = logging.getLogger(__name__)

T = TypeVar("T")


def caught(job: Job, work: Callable[[], T]) -> T | Outcome:
    """Do a part of a job, and turn what goes wrong into an outcome with a recorded reason."""
    try:
        return work()
    except (CodecMissing, ReadInterrupted) as error:
        trouble, reason = Trouble.SURROUNDINGS, error.reason
    except UnreadableImage as error:
        trouble, reason = _fault_of(Path(job.path), error, job.root)
    except DeviceError as error:
        trouble, reason = Trouble.DEVICE, str(error)
    except (OutputError, WeightsError, UnknownModel) as error:
        trouble, reason = Trouble.SURROUNDINGS, str(error)
    except TooLittleMemory as error:
        trouble = Trouble.FILE if error.is_hopeless else Trouble.SURROUNDINGS
        reason = str(error)
    except StillUnwritten as error:
        trouble, reason = Trouble.UNWRITTEN, str(error)
    except CellwatchError as error:
        trouble, reason = Trouble.FILE, str(error)
    except Exception as error:  # noqa: BLE001  recorded: one image ends no worker
        trouble, reason = _unexpected(job, error)
    return Outcome(job.acquisition_id, reason=reason, trouble=trouble)


_TOLD: set[tuple[type[BaseException], str, int | None]] = set()


def _unexpected(job: Job, error: Exception) -> tuple[Trouble, str]:
    if is_out_of_memory(error):
        return Trouble.MEMORY, f"memory ran out: {error}"
    if isinstance(error, OSError):  # the file was opened before: what fails is around it
        return Trouble.SURROUNDINGS, f"{error.filename or job.path}: {error.strerror or error}"
    where = traceback.extract_tb(error.__traceback__)[-1]
    first = (type(error), where.filename, where.lineno) not in _TOLD
    _TOLD.add((type(error), where.filename, where.lineno))
    # The whole story once for each place in the code; images that fail there by the hundreds are
    # summed up by the supervisor.
    logger.error("%s: unexpected error", job.path, exc_info=error if first else None)
    return Trouble.OTHER, f"{type(error).__name__}: {error}"


def _fault_of(path: Path, error: UnreadableImage, job_root: str) -> tuple[Trouble, str]:
    if is_there(path):
        return Trouble.FILE, error.reason
    if job_root and is_bare(Path(job_root)):
        return Trouble.SURROUNDINGS, f"{job_root} is empty: its disk may not be mounted"
    if file_of(path).parent.exists():
        return Trouble.MISSING, "the file is gone"
    return Trouble.SURROUNDINGS, f"its folder {file_of(path).parent} cannot be reached"
