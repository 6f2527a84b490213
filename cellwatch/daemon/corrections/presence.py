"""Which dropped files were taken away since they were answered, and which came back."""

import os
from dataclasses import dataclass
from pathlib import Path

from cellwatch.storage.corrections import answer_files
from cellwatch.storage.ledger import corrections
from cellwatch.storage.ledger.path_text import path_text, text_path
from cellwatch.storage.reports.station import reader
from cellwatch.watching.settle import Sighting


@dataclass(frozen=True, slots=True)
class FilesMoved:
    """What became of dropped files, by their name in the ledger.

    Attributes
    ----------
    gone, back : frozenset of str
    """

    gone: frozenset[str]
    back: frozenset[str]


class Presence:
    """Compare the folder with the ledger after each scan of it, in the thread that scans.

    Parameters
    ----------
    ledger, folder : Path
        The ledger's file, and the corrections folder.
    """

    def __init__(self, ledger: Path, folder: Path) -> None:
        self._ledger, self._folder = ledger, folder
        self._missing: frozenset[str] = frozenset()

    def looked_up(self) -> tuple[frozenset[str], frozenset[str]]:
        """Return the files that the ledger has, and those that it calls taken away.

        To be asked before the folder is listed.
        """
        with reader(self._ledger) as db:
            away = frozenset(file for file, _ in corrections.files_taken_away(db))
            return frozenset(corrections.known_drops(db)), away

    def changes(
        self, known: frozenset[str], away: frozenset[str], seen: list[Sighting]
    ) -> FilesMoved | None:
        """Return what changed since the last time; the answers of files that are gone go too.

        Parameters
        ----------
        known, away : frozenset of str
            As `looked_up` gives them.
        seen : list of Sighting
            All that lies in the folder.

        Returns
        -------
        FilesMoved or None
            None: nothing. An empty folder is a mount point without its disk: that says nothing of
            the files; beside a file that its person took away its answer lies still.
        """
        if not seen and self._is_bare():
            return None
        here = {path_text(sighting.path) for sighting in seen}
        missing = known - here
        gone, back = missing - self._missing, (self._missing | away) & here
        self._missing = missing
        for file in gone:
            answer_files.take_back(self._folder / text_path(file))
        return FilesMoved(gone, back) if gone or back else None

    def _is_bare(self) -> bool:
        try:
            with os.scandir(self._folder) as entries:
                return not any(entries)
        except OSError:
            return True
