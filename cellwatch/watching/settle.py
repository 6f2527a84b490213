"""When is a file finished? When nobody has changed it for a while.

Pure: what was seen and when are arguments. Times are of a monotonic clock, so that a clock that is
set does not finish or hold up a file.
"""

from dataclasses import dataclass

SETTLE_S = 2.0  # quiet time on local file systems
NETWORK_SETTLE_S = 10.0  # where other machines write: sizes and times come late
NEVER_SEEN_S = float("inf")


@dataclass(frozen=True, slots=True)
class Sighting:
    """A file as it was seen once.

    Attributes
    ----------
    path : str
        Relative to the watched folder.
    size : int, bytes
    mtime_ns : int
    ctime_ns : int or None
        Changes with every write, also where a copier puts the old mtime back; None: not known.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int | None = None

    def is_like(self, other: "Sighting") -> bool:
        """Say whether nothing tells the two apart; a ctime that is not known tells nothing.

        Examples
        --------
        >>> Sighting("a", 1, 1, 5).is_like(Sighting("a", 1, 1)), Sighting("a", 1, 1, 5).is_like(
        ...     Sighting("a", 1, 1, 6)
        ... )
        (True, False)
        """
        is_same_time = None in (self.ctime_ns, other.ctime_ns) or self.ctime_ns == other.ctime_ns
        is_same_content = (self.size, self.mtime_ns) == (other.size, other.mtime_ns)
        return self.path == other.path and is_same_content and is_same_time


class Settler:
    """Remember since when each file has stood still.

    Parameters
    ----------
    quiet_s : float
        How long size and time must not change.
    """

    def __init__(self, quiet_s: float) -> None:
        self._quiet_s = quiet_s
        self._since: dict[str, tuple[Sighting, float]] = {}

    def see(self, sighting: Sighting, now: float) -> None:
        """Take note of a file; a change starts its clock again."""
        known = self._since.get(sighting.path)
        if known is None or known[0] != sighting:
            self._since[sighting.path] = (sighting, now)

    def forget(self, path: str) -> None:
        """Drop a file that is gone or was taken."""
        self._since.pop(path, None)

    def settled(self, now: float) -> list[Sighting]:
        """Return the files that have stood still for the quiet time, oldest first.

        Of those that were first seen together, as a backlog is, that which was written first.
        """
        ready = [
            (since, sighting.mtime_ns, sighting.path, sighting)
            for sighting, since in self._since.values()
            if now - since >= self._quiet_s
        ]
        return [sighting for *_, sighting in sorted(ready, key=lambda each: each[:3])]

    def held(self, path: str) -> Sighting | None:
        """Return a file under observation as it was seen last."""
        known = self._since.get(path)
        return known[0] if known else None

    def quiet_for(self, path: str, now: float) -> float:
        """Return for how long a file has stood still, in s."""
        known = self._since.get(path)
        return now - known[1] if known else NEVER_SEEN_S

    def __len__(self) -> int:
        """Return the number of files under observation."""
        return len(self._since)

    def __contains__(self, path: str) -> bool:
        """Say whether a file is under observation."""
        return path in self._since
