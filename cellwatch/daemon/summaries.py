"""Log lines that may come by the hundreds: the first few singly, then one summary a minute."""

import logging
from dataclasses import dataclass

SINGLY = 10  # lines of a kind in a minute
MINUTE_S = 60.0


@dataclass
class _Kind:
    """What was said of one kind since its minute began."""

    began: float
    count: int = 0
    last: str = ""


class Later:
    """Keep lines until what they report has happened: a transaction may still fail."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, str, str]] = []

    def say(self, level: int, kind: str, line: str, _now: float) -> None:
        """Keep a line."""
        self._lines.append((level, kind, line))

    def say_all(self, summaries: "Summaries", now: float) -> None:
        """Say what was kept."""
        for level, kind, line in self._lines:
            summaries.say(level, kind, line, now)


class Summaries:
    """Say things of a kind singly while they are few, and count them while they are many.

    Parameters
    ----------
    logger : logging.Logger
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._kinds: dict[tuple[int, str], _Kind] = {}

    def say(self, level: int, kind: str, line: str, now: float) -> None:
        """Log a line, or count it.

        Parameters
        ----------
        level : int
            Of logging.
        kind : str
            How the summary calls many of them: "files that are queued".
        line : str
        now : float
            Of a monotonic clock, in s.
        """
        known = self._kinds.setdefault((level, kind), _Kind(now))
        known.count += 1
        known.last = line
        if known.count <= SINGLY:
            self._logger.log(level, "%s", line)
        elif known.count == SINGLY + 1:
            self._logger.log(level, "more %s follow and are summarised each minute", kind)

    def sum_up(self, now: float, *, is_over: bool = False) -> None:
        """Log how many came in the minutes that have ended; with `is_over` in all of them."""
        for (level, kind), known in list(self._kinds.items()):
            if not is_over and now - known.began < MINUTE_S:
                continue
            if known.count > SINGLY:
                more = known.count - SINGLY
                text = "%d more %s in the last minute; the last: %s"
                self._logger.log(level, text, more, kind, known.last)
            del self._kinds[level, kind]
