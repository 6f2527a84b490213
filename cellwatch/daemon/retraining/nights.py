"""What the scheduler of trainings keeps between its turns."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlite_utils import Database

from cellwatch.config.schema import Config
from cellwatch.daemon.model_choice import Place
from cellwatch.daemon.retraining.clock import Turns
from cellwatch.daemon.retraining.selection import Group, groups_of
from cellwatch.records import TrainJob
from cellwatch.storage.ledger import training_runs


@dataclass
class Nights:
    """What the supervisor knows of training.

    Attributes
    ----------
    db : Database
    config : Config
    configured : mapping of str to Place
        The models that the configuration names.
    """

    db: Database
    config: Config
    configured: Mapping[str, Place]
    job: TrainJob | None = None
    process: "subprocess.Popen[bytes] | None" = None
    is_paused: bool = False
    deaths: int = 0
    again_at: float = 0.0
    checked_at: float = 0.0
    missed_at: float = 0.0
    turns: Turns = field(default_factory=lambda: Turns(0.2))

    @property
    def groups(self) -> dict[str, Group]:
        """Return the groups of the configuration."""
        return groups_of(self.config)

    @property
    def is_training(self) -> bool:
        """Say whether a training is under way (running or paused) or waits for its turn."""
        return self.job is not None or bool(training_runs.waiting(self.db))
