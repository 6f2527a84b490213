"""What the supervisor knows while it runs."""

import logging
import queue as queues
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from sqlite_utils import Database

from cellwatch.compute.deadlines import Deadlines
from cellwatch.compute.executor import FromWorker, Worker
from cellwatch.config.schema import Config, Watch
from cellwatch.daemon.corrections import events
from cellwatch.daemon.corrections.inbox import Inbox
from cellwatch.daemon.diskspace import DiskSpace
from cellwatch.daemon.event_queue import EventQueue
from cellwatch.daemon.intake import FromWatcher
from cellwatch.daemon.results import ResultChanged
from cellwatch.daemon.retraining.nights import Nights
from cellwatch.daemon.summaries import Summaries
from cellwatch.storage.ledger.queue import Claim
from cellwatch.storage.masks.paths import SUPERSEDED
from cellwatch.zoo.cards import ModelPlace
from cellwatch.zoo.classifiers import ClassifierPlace

Ordinary = FromWatcher | events.Event | ResultChanged


@dataclass
class InFlight:
    """A job in hand.

    Attributes
    ----------
    claim : Claim
    facts : dict
        What is recorded of each target beside its result.
    pixels : int
        Of a plane.
    n_bytes : int
        Of the file.
    said_at : float
        When the worker last said something, on the monotonic clock.
    until : float
        When it hangs, unless it says something.
    """

    claim: Claim
    facts: dict[str, dict[str, str]]
    pixels: int
    n_bytes: int
    said_at: float
    until: float


@dataclass
class Life:
    """What the supervisor knows from one reading of the configuration to the next."""

    db: Database
    config: Config
    config_path: Path
    models: dict[str, ModelPlace | ClassifierPlace]
    is_once: bool
    nights: Nights
    drops: Inbox
    summaries: Summaries = field(
        default_factory=lambda: Summaries(logging.getLogger("cellwatch.daemon.supervisor"))
    )
    events: EventQueue[FromWorker, Ordinary] = field(default_factory=EventQueue)
    stop: threading.Event = field(default_factory=threading.Event)
    worker: Worker | None = None
    deaths_at_start: int = 0
    respawn_at: float = 0.0
    ready_until: float = float("inf")  # when a worker that is not ready yet hangs
    quiet: dict[str, bool] = field(default_factory=dict)
    # Files that were gone when it was their turn, by watch: they may come back as they were.
    forget: "dict[str, queues.SimpleQueue[str]]" = field(
        default_factory=lambda: defaultdict(queues.SimpleQueue)
    )
    claimed: Claim | None = None  # and not given to the worker yet
    job: InFlight | None = None  # that is computed
    publishing: InFlight | None = None  # whose masks are written meanwhile
    deadlines: Deadlines = field(default_factory=Deadlines)
    space: DiskSpace = field(default_factory=DiskSpace)
    n_claims: int = 0
    is_output_claimed: bool = False  # its mark could be written
    clock_ahead: float | None = None  # of the clock that never jumps, in s
    heartbeat_at: float = 0.0
    next_config: Config | None = None  # a configuration that was read again, and is good
    ledger_lost_at: float | None = None  # since when the ledger cannot be written
    ledger_told_at: float = 0.0

    @property
    def superseded(self) -> Path:
        """Return the folder for stores that are replaced."""
        return self.config.output.folder / SUPERSEDED

    def flight_of(self, acquisition_id: int) -> InFlight | None:
        """Return the job in hand of an acquisition; None: it is in no hand."""
        for flight in (self.job, self.publishing):
            if flight is not None and flight.claim.acquisition_id == acquisition_id:
                return flight
        return None

    def let_go(self, flight: InFlight | None) -> None:
        """Forget a job that is not in hand any more."""
        self.job = None if self.job is flight else self.job
        self.publishing = None if self.publishing is flight else self.publishing

    def watch_named(self, name: str) -> Watch | None:
        """Return a watched folder by its name; None: there is none any more."""
        return next((w for w in self.config.watch if w.name == name), None)
