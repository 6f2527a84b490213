"""What the supervisor knows while it runs."""

import logging
import queue as queues
import threading
from collections import defaultdict
from collections.abc import Sequence
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
from cellwatch.daemon.inspection import FromWatcher
from cellwatch.daemon.results import ResultChanged
from cellwatch.daemon.retraining.nights import Nights
from cellwatch.daemon.summaries import Summaries
from cellwatch.storage.ledger.queue import Claim
from cellwatch.storage.ledger.turns import Turn
from cellwatch.storage.masks.paths import SUPERSEDED
from cellwatch.watching.watcher import Notices
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


def claims_of(flights: Sequence[InFlight]) -> list[Claim]:
    """Return the claims of jobs."""
    return [flight.claim for flight in flights]


@dataclass
class WorkerSlot:
    """A device of the station: the worker on it, and what that has in hand.

    Attributes
    ----------
    device : str
        As the configuration has it.
    worker : Worker or None
        None: it ended, or none could be started.
    job, publishing : InFlight or None
        What it computes, and whose masks it writes meanwhile.
    claimed : Claim or None
        What the ledger holds for it and it was not given yet.
    is_asked_for : bool
        Whether the configuration names it; else it was found beside the first.
    deadlines : Deadlines
        How fast the device is.
    deaths_at_start : int
        Of workers that never became ready.
    respawn_at, ready_until : float
        When a worker may be started again, and when one that is not ready yet hangs, on the
        monotonic clock.
    """

    device: str
    worker: Worker | None = None
    job: InFlight | None = None
    publishing: InFlight | None = None
    claimed: Claim | None = None
    is_asked_for: bool = True
    deadlines: Deadlines = field(default_factory=Deadlines)
    deaths_at_start: int = 0
    respawn_at: float = 0.0
    ready_until: float = float("inf")

    @property
    def flights(self) -> list[InFlight]:
        """Return the jobs in hand."""
        return [flight for flight in (self.publishing, self.job) if flight is not None]

    @property
    def is_ready(self) -> bool:
        """Say whether its worker can be given jobs."""
        return self.worker is not None and self.worker.is_ready

    def flight_of(self, acquisition_id: int) -> InFlight | None:
        """Return the job in hand for an acquisition; None: this worker has none."""
        return next((f for f in self.flights if f.claim.acquisition_id == acquisition_id), None)

    def let_go(self, flight: InFlight | None) -> None:
        """Forget a job that is not in hand any more."""
        self.job = None if self.job is flight else self.job
        self.publishing = None if self.publishing is flight else self.publishing

    def clear(self) -> None:
        """Forget the worker, which has ended, and what it had in hand."""
        self.worker, self.job, self.publishing = None, None, None


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
    slots: list[WorkerSlot] = field(default_factory=list)  # one for each device
    quiet: dict[str, bool] = field(default_factory=dict)
    # By watch, what its watcher does not know: files that were gone when it was their turn, which
    # may come back as they were, and files that are recorded already.
    notices: dict[str, Notices] = field(default_factory=lambda: defaultdict(queues.SimpleQueue))
    space: DiskSpace = field(default_factory=DiskSpace)
    n_claims: int = 0
    served: dict[str, int] = field(default_factory=dict)  # by watch: which claim was its last
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

    def __post_init__(self) -> None:
        self.slots = self.slots or [WorkerSlot(device) for device in self.config.device]

    @property
    def workers(self) -> list[Worker]:
        """Return the workers that live."""
        return [slot.worker for slot in self.slots if slot.worker is not None]

    @property
    def is_busy(self) -> bool:
        """Say whether a worker has something in hand, or none is ready to take anything."""
        ready = [worker for worker in self.workers if worker.is_ready]
        return not ready or any(worker.in_hand for worker in self.workers)

    def is_held_for_another(self, slot: WorkerSlot) -> bool:
        """Say whether a worker takes nothing, since another waits to have the station to itself."""
        first = next((s for s in self.slots if s.claimed and s.claimed.daemon_deaths), slot)
        return first is not slot

    def slot_of(self, worker: Worker) -> WorkerSlot | None:
        """Return where a worker is; None: another has taken its place."""
        return next((slot for slot in self.slots if slot.worker is worker), None)

    def elsewhere(self, slot: WorkerSlot) -> list[InFlight]:
        """Return the jobs that other workers have in hand."""
        return [flight for other in self.slots if other is not slot for flight in other.flights]

    def turns(self) -> list[Turn]:
        """Return when the images of each watched folder take their turn."""
        return [
            Turn(w.name, w.priority, w.order == "newest", self.served.get(w.name, 0))
            for w in self.config.watch
        ]

    def watch_named(self, name: str) -> Watch | None:
        """Return a watched folder by its name; None: there is none any more."""
        return next((w for w in self.config.watch if w.name == name), None)
