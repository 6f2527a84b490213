"""What lies in a training's folder, and how a trainer ends: agreed on by it and its parent."""

import shutil
from collections.abc import Sequence
from pathlib import Path

PLAN = "plan.json"  # of all trainings of the run
JOB = "job.json"  # what it is told to do
REPORT = "report.json"  # what came of it
PROGRESS = "progress.json"
FAILURE = "failure.txt"  # why it came to nothing
CANDIDATE = "candidate"  # a model folder
REFUSED = 65  # EX_DATAERR: the corrections are at fault; the reason is in FAILURE
LEFT = 75  # EX_TEMPFAIL: told to leave; it continues when it is started again


def clear(folder: Path) -> None:
    """Remove the networks of a run that is over; what it was told and what it found stay."""
    for part in (*folder.glob("fold*"), folder / "fit"):
        shutil.rmtree(part, ignore_errors=True)


def clear_all(folders: Sequence[str | None]) -> None:
    """Remove the networks of runs that were given up while nothing trained them."""
    for folder in folders:
        if folder:
            clear(Path(folder))
