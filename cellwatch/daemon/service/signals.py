"""What signals ask of the daemon: to end, or to read its configuration again."""

import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)


@dataclass
class Signals:
    """What signals asked for.

    Attributes
    ----------
    ended : threading.Event
        To end.
    reload : threading.Event
        To read the configuration again.
    """

    ended: threading.Event = field(default_factory=threading.Event)
    reload: threading.Event = field(default_factory=threading.Event)


def handle_signals(signals: Signals) -> dict[signal.Signals, Any]:  # Any: what `signal` gives back
    """Have signals set the two events; return the handlers that were there before."""

    def to_end(number: int, _: FrameType | None) -> None:
        logger.info("%s: stopping", signal.Signals(number).name)
        signals.ended.set()

    def to_reload(number: int, _: FrameType | None) -> None:
        logger.info("%s: reading the configuration again", signal.Signals(number).name)
        signals.reload.set()

    wanted: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {
        signal.SIGTERM: to_end,
        signal.SIGINT: to_end,
        signal.SIGHUP: to_reload,
    }
    return {number: signal.signal(number, handler) for number, handler in wanted.items()}
