"""How long a worker may be silent before it is treated as hanging.

By the number of pixels and the rate that was measured on this machine: a large plane on a slow
processor is not a hang, and a small one that takes minutes is.
"""

from collections import deque

STARTING_S = 300.0  # until it is ready: kernels are compiled, on a slow machine for the first time
LEAST_S = 60.0  # whatever the size
TIMES = 20.0  # longer than expected
FIRST_RATE = 30e-6  # s a pixel, until something was measured
LEAST_RATE = 1e-6  # s a pixel
BYTES_A_SECOND = 5e6  # to read a file, or write what came of it, over a poor network
MEASURED = 20  # planes that the rate is taken over
LEAST_PIXELS = 64 * 64  # of a plane that tells anything


class Deadlines:
    """Remember how fast planes were segmented lately."""

    def __init__(self) -> None:
        self._rates: deque[float] = deque(maxlen=MEASURED)

    @property
    def rate(self) -> float:
        """Return the slowest rate measured lately, in s a pixel."""
        return max(self._rates, default=FIRST_RATE)

    def learn(self, pixels: int, seconds: float) -> None:
        """Take note of how long a plane took."""
        if pixels >= LEAST_PIXELS:
            self._rates.append(max(LEAST_RATE, seconds / pixels))

    def allowed(self, pixels: int, n_bytes: int) -> float:
        """Return how long a worker may be silent over one plane, in s.

        Parameters
        ----------
        pixels : int
            Of a plane.
        n_bytes : int
            That are read before the first plane, or written after the last.

        Examples
        --------
        >>> Deadlines().allowed(1_000_000, 2_000_000)
        660.4
        """
        return LEAST_S + n_bytes / BYTES_A_SECOND + TIMES * self.rate * pixels
