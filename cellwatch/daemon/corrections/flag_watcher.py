"""Watch the folder of flags: a file there marks an image that a person should look at."""

import threading
from collections.abc import Callable
from pathlib import Path

from cellwatch.daemon.corrections.events import (
    FOLDERS,
    HIDDEN,
    SETTLE_S,
    Event,
    FlagDropped,
    FolderLost,
)
from cellwatch.storage.ledger import flags
from cellwatch.watching.names import FileFilter
from cellwatch.watching.watcher import Finished, Scanned, Unfinished, WatchPlan, watch

FLAG_SUFFIXES = (".flag", ".txt")
FIRST_LINE = 500  # characters of a flag's reason


def watch_flags(folder: Path, stop: threading.Event, on_event: Callable[[Event], None]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plan = WatchPlan(
        folder, FileFilter(("**",), HIDDEN, FLAG_SUFFIXES), SETTLE_S, SETTLE_S, is_archive=False
    )
    lost = ""
    for event in watch(plan, stop, {}):
        if isinstance(event, Scanned) and event.reason != lost:
            lost = event.reason
            on_event(FolderLost(FOLDERS[1], folder, lost, event.files))
        if not isinstance(event, Finished | Unfinished):
            continue  # an empty file is as good as any
        relative = event.sighting.path
        name = Path(relative).name
        for ending in (".flag.txt", ".flag"):
            if name.lower().endswith(ending):
                why = _first_line(folder / relative)
                by = ("flags folder", relative, event.sighting.mtime_ns)
                on_event(FlagDropped(flags.Flag(name[: -len(ending)], why, None, *by)))
                break


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline(FIRST_LINE).strip()
    except OSError:
        return ""
