"""What an export wrote into a folder, so that the next one knows its own files from others'."""

import hashlib
import json
import uuid
from collections.abc import Callable
from pathlib import Path

SUPERSEDED = ".superseded"


class Exported:
    """The files that a station has exported into a folder.

    Each station has a list of its own there, a hidden file: several may export into one folder.

    Parameters
    ----------
    folder, state : Path
        Where the pairs go, and the station's state folder.
    """

    def __init__(self, folder: Path, state: Path) -> None:
        self._folder = folder
        whose = hashlib.sha256(str(state.resolve()).encode(errors="surrogateescape")).hexdigest()
        self._list = folder / f".exported-{whose[:8]}.json"
        self._before: list[str] = []
        if self._list.is_file():
            self._before = list(json.loads(self._list.read_text(encoding="utf-8")))
        self._now = list(self._before)

    def set_aside(self, places: set[Path]) -> int:
        """Move what was exported before and is none of these any more; return how many files.

        Parameters
        ----------
        places : set of Path
            Below the folder: the beginnings of the names of active corrections.
        """
        moved = 0
        for name in self._before:
            path = self._folder / name
            if Path(name).with_name(Path(name).stem.rpartition("_")[0]) in places:
                continue
            self._now.remove(name)
            if path.is_file():
                aside = self._folder / SUPERSEDED / name
                aside.parent.mkdir(parents=True, exist_ok=True)
                if aside.exists():
                    aside = aside.with_name(f"{aside.stem}.{uuid.uuid4().hex[:6]}{aside.suffix}")
                path.rename(aside)
                moved += 1
        self.remember()
        return moved

    def place(self, relative: Path) -> Callable[[str], Path]:
        """Return what gives the files of a pair their places, by the ending of each."""
        (self._folder / relative).parent.mkdir(exist_ok=True)

        def with_ending(ending: str) -> Path:
            name = relative.with_name(f"{relative.name}{ending}").as_posix()
            if name not in self._now:
                self._now.append(name)
            return self._folder / name

        return with_ending

    def remember(self) -> None:
        """Write the list down."""
        aside = self._list.with_name(f"{self._list.name}.partial")
        aside.write_text(json.dumps(self._now, indent=0), encoding="utf-8")
        aside.replace(self._list)
