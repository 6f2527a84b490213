"""Pause before a disk is full, and warn when that of the microscope soon will be.

A disk that runs full in the midst of a write is survived, but other programs write there too: the
microscope's own first of all.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0
WARN_EVERY_S = 3600.0
STATE_RESERVE = 100e6  # bytes that the ledger may need


class DiskSpace:
    """Remember what was found lately; asking a share each time would hold everything up."""

    def __init__(self) -> None:
        self.trouble = ""
        self.room_text = ""  # for `status`
        self._look_at = 0.0
        self._warn_at: dict[Path, float] = {}

    def why_none(self, output: Path, reserve: float, state: Path, now: float) -> str:
        """Say why nothing should be written now; "" when there is room.

        Parameters
        ----------
        output, state : Path
        reserve : float, bytes
            That are kept free on the disk of `output`.
        now : float
            Of a monotonic clock, in s.
        """
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            room = free_bytes(output)
            self.room_text = (
                f"{room / 1e9:,.1f} GB free for masks in {output}" if room is not None else ""
            )
            self.trouble = next(
                (
                    f"the disk of {folder} has {free / 1e6:,.0f} MB left, and {least / 1e6:,.0f} "
                    "MB are to stay free (output: reserve); free some space and it continues"
                    for folder, least in ((output, reserve), (state, STATE_RESERVE))
                    if (free := free_bytes(folder)) is not None and free < least
                ),
                "",
            )
        return self.trouble

    def warn(self, watched: Sequence[Path], reserve: float, now: float) -> None:
        """Say, at most once an hour for each, that the disk of a watched folder is nearly full."""
        for folder in watched:
            if now < self._warn_at.get(folder, 0.0):
                continue
            self._warn_at[folder] = now + LOOK_EVERY_S
            free = free_bytes(folder)
            if free is not None and free < reserve:
                self._warn_at[folder] = now + WARN_EVERY_S
                logger.warning(
                    "the disk that the microscope writes to (%s) has %s MB left; nothing is ever "
                    "deleted there: make room before it is full",
                    folder,
                    f"{free / 1e6:,.0f}",
                )


def free_bytes(folder: Path) -> int | None:
    """Return the bytes that may still be written where a folder lies; None: nobody knows."""
    for place in (folder, *folder.parents):
        try:
            found = os.statvfs(place)
        except FileNotFoundError:
            continue  # it is not made yet
        except OSError:
            return None
        return found.f_bavail * found.f_frsize
    return None
