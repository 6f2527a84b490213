"""The situations that a person can understand and repair; everything else is a bug.

Each class below is one situation. The command line turns them into one line and an exit code; the
daemon records them beside the image they belong to. Anything that is not a `CellwatchError` is a
defect of the program and is shown with its traceback.
"""

from pathlib import Path

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3
EXIT_LOCKED = 75
EXIT_CONFIGURATION = 78


class CellwatchError(Exception):
    """Raised when a person, a file or the surroundings are at fault, never for a bug."""

    exit_code = EXIT_FAILED


class UsageError(CellwatchError):
    """Raised when a command's arguments contradict each other or cannot be carried out."""

    exit_code = EXIT_USAGE


class ConfigError(CellwatchError):
    """Raised when the configuration is missing or wrong; its text lists every problem at once."""

    exit_code = EXIT_CONFIGURATION


class StateLocked(CellwatchError):
    """Raised when another daemon holds the state folder."""

    exit_code = EXIT_LOCKED


class LedgerTooNew(CellwatchError):
    """Raised when the ledger was written by a newer cellwatch."""

    exit_code = EXIT_CONFIGURATION


class LedgerOutdated(CellwatchError):
    """Raised when a ledger was written by an earlier version and was not brought up to date."""


class LedgerMissing(CellwatchError):
    """Raised when a report is asked of a station whose daemon has never run."""


class LedgerBroken(CellwatchError):
    """Raised when the ledger is there and SQLite cannot read it."""


class UnreadableImage(CellwatchError, ValueError):
    """Raised when an image cannot be read whole."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[Path | str, str]]:
        """Keep path and reason when the error crosses a process."""
        return type(self), (self.path, self.reason)


class ReadInterrupted(UnreadableImage):
    """Raised when the disk or the share of an image fails while it is read; it may come back."""


class CodecMissing(UnreadableImage):
    """Raised when an image needs a codec that is not installed; the image is not at fault."""


class ChannelError(CellwatchError, ValueError):
    """Raised when the channels asked for are not those of the image, or no choice was made."""


class CalibrationError(CellwatchError, ValueError):
    """Raised when a length in µm is asked for and the pixel size is missing or nonsensical."""


class ParameterError(CellwatchError, ValueError):
    """Raised when a segmentation parameter cannot mean anything."""

    exit_code = EXIT_USAGE


class WeightsError(CellwatchError, ValueError):
    """Raised when a weights file is not the network it should be: keys, shapes, hash or format."""


class UnknownModel(CellwatchError, KeyError):
    """Raised when no model of that id, folder or file exists; never replaced by another."""

    exit_code = EXIT_USAGE

    def __str__(self) -> str:
        """Return the message as it is: KeyError would put quotes around it."""
        return str(self.args[0])


class TrainingError(CellwatchError):
    """Raised when training cannot start or has diverged."""


class BadTrainingData(CellwatchError, ValueError):
    """Raised when a folder of images and masks is not fit to train on or to score with."""


class DeviceError(CellwatchError):
    """Raised when the compute device asked for is not there or has run out of memory."""


class TooLittleMemory(CellwatchError):
    """Raised when an image takes more memory than there is.

    Attributes
    ----------
    is_hopeless : bool
        Whether the machine is too small for it, whatever else runs.
    """

    def __init__(self, reason: str, *, is_hopeless: bool) -> None:
        super().__init__(reason)
        self.is_hopeless = is_hopeless


class StillUnwritten(CellwatchError):
    """Raised when all pixels of an image are 0 and its file may still be filled."""


class MaskStoreError(CellwatchError):
    """Raised when a mask store is not whole or does not fit the image it names."""


class OutputError(CellwatchError, OSError):
    """Raised when results cannot be written where the configuration asks."""


class ExtraMissing(CellwatchError):
    """Raised when a command needs a package of an extra that is not installed."""


class UnsafePickle(CellwatchError, ValueError):
    """Raised when a pickled file would call something, or is not a pickle of plain arrays."""


class DownloadError(CellwatchError, OSError):
    """Raised when a file of the published zoo cannot be fetched, or is not the one it was."""


class RejectedCorrection(CellwatchError, ValueError):
    """Raised when a dropped file is not fit to learn from; carries what to do about it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


class RequestRefused(CellwatchError):
    """Raised when the daemon cannot carry out what a person asked for."""


class RequestUnanswered(CellwatchError):
    """Raised when the daemon runs but has not answered a request in time."""
