"""The nightly clock: once for each local date, whatever the clocks do.

A night belongs to a local date, not to an instant. So an hour that comes twice in autumn has one
night, one that is left out in spring has one too, and a machine that was switched off at two
catches up once when it is there again.
"""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta

NEVER = "never"


def night_due(at: str, done: Sequence[str], local_now: datetime) -> str:
    """Return the local date whose night is to be run now.

    Parameters
    ----------
    at : str
        Local time of day as HH:MM, or `never`.
    done : sequence of str
        ISO dates of the nights that were run (or found nothing to do).
    local_now : datetime
        On the station's own wall clock.

    Returns
    -------
    str
        ISO date; "" when no night is due. Of several that were missed only the last is caught up.

    Notes
    -----
    Dates beyond tomorrow come from a clock that was wrong for a while; they hold nothing up.

    Examples
    --------
    >>> night_due("02:00", ["2026-11-29"], datetime(2026, 11, 30, 7, 30))
    '2026-11-30'
    >>> night_due("02:00", ["2026-11-30"], datetime(2026, 11, 30, 7, 30))
    ''
    """
    if at == NEVER:
        return ""
    today = local_now.date()
    wall = local_now.replace(tzinfo=None)
    is_past = wall >= datetime.combine(today, time.fromisoformat(at))
    night = today if is_past else today - timedelta(days=1)
    believed = [d for d in map(date.fromisoformat, done) if d <= today + timedelta(days=1)]
    if believed and night <= max(believed):
        return ""
    return night.isoformat()


class Turns:
    """Share a processor between new images and training, hour by hour.

    Training pauses while images wait, but has had its share of every hour by the end of the hour.

    Parameters
    ----------
    share : float
        Of each hour.
    """

    HOUR_S = 3600.0

    def __init__(self, share: float) -> None:
        self._share = share
        self._hour_began = 0.0
        self._ran = 0.0
        self._last = 0.0
        self._was_running = True

    def may_run(self, is_busy: bool, now: float) -> bool:
        """Say whether training may run now.

        Parameters
        ----------
        is_busy : bool
            Whether images wait or are being segmented.
        now : float, s
            On a monotonic clock.
        """
        if self._last and self._was_running:
            self._ran += now - self._last
        if not self._last or now - self._hour_began >= self.HOUR_S:
            self._hour_began, self._ran = now, 0.0
        self._last = now
        left_of_hour = self.HOUR_S - (now - self._hour_began)
        owed = self._share * self.HOUR_S - self._ran
        self._was_running = not is_busy or 0 < owed >= left_of_hour
        return self._was_running
