"""What the supervisor's one thread is told by others: the workers first, then all else in order.

Arrivals may be many thousands; they wait here, and their watchers wait outside when it is full.
What a worker says never waits behind them. An event is dropped only when it has been dealt with, so
that a ledger that cannot be written for a while loses none.
"""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

ROOM = 2000  # ordinary events
LOOK_AGAIN_S = 0.5

Urgent = TypeVar("Urgent")
Ordinary = TypeVar("Ordinary")


class EventQueue(Generic[Urgent, Ordinary]):
    """Two queues, of which one goes first."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._urgent: deque[Urgent] = deque()
        self._ordinary: deque[Ordinary] = deque()
        self._changed = threading.Condition()

    def put_first(self, event: Urgent) -> None:
        """Add an event that goes before all ordinary ones."""
        with self._changed:
            self._urgent.append(event)
            self._changed.notify_all()

    def put(self, event: Ordinary, stop: threading.Event) -> None:
        """Add an ordinary event; wait while there is no room for it, until `stop` is set."""
        with self._changed:
            while len(self._ordinary) >= self._room and not stop.is_set():
                self._changed.wait(LOOK_AGAIN_S)
            self._ordinary.append(event)
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until there is something, but not longer than so many seconds."""
        with self._changed:
            if not self._urgent and not self._ordinary:
                self._changed.wait(seconds)

    def wait_urgent(self, seconds: float) -> None:
        """Wait until there is an urgent event, but not longer than so many seconds."""
        with self._changed:
            if not self._urgent:
                self._changed.wait(seconds)

    def urgent(self) -> Urgent | None:
        """Return the urgent event that has waited longest, and keep it; None: there is none."""
        with self._changed:
            return self._urgent[0] if self._urgent else None

    def ordinary(self, most: int) -> Sequence[Ordinary]:
        """Return the ordinary events that have waited longest, and keep them."""
        with self._changed:
            return [self._ordinary[n] for n in range(min(most, len(self._ordinary)))]

    def drop_urgent(self) -> None:
        """Remove the urgent event that was dealt with."""
        with self._changed:
            self._urgent.popleft()

    def drop(self, n_events: int) -> None:
        """Remove so many ordinary events that were dealt with."""
        with self._changed:
            for _ in range(n_events):
                self._ordinary.popleft()
            self._changed.notify_all()

    def is_empty(self) -> bool:
        """Say whether nothing waits."""
        with self._changed:
            return not self._urgent and not self._ordinary
