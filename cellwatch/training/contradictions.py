"""Which corrections cannot be learned: most often because they are wrong.

A new kind of cell is at least fitted where it was trained on. What is missed even there, while the
hardest of the folder's earlier images are fitted, contradicts them or is no such thing at all. No
score comes of this: it is a look at images that the network was trained on.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellwatch.training.findings import Found, by_content, mean_of, named

HARDEST = 2  # earlier images, by which new ones are measured
MOST = 0.5  # of a folder's new images
AT_LEAST = 3  # images; fewer may be hard by chance


@dataclass(frozen=True, slots=True)
class Fit:
    """What the candidate finds on an image that it was trained on.

    Attributes
    ----------
    name, watch, content : str
        As of a `PairedImage`.
    found : Found
    is_earlier : bool
        Whether the incumbent was trained on it too.
    """

    name: str
    watch: str
    content: str
    found: Found
    is_earlier: bool = False

    @property
    def average_precision(self) -> float:
        """Return that of what was found."""
        return self.found.average_precision


@dataclass(frozen=True, slots=True)
class Missed:
    """The new images of a folder that the candidate fits badly.

    Attributes
    ----------
    fits : tuple of Fit
        Their parts, worst first.
    bar : float, AP@0.5
        Below this they are treated as missed.
    n_new : int
        How many new images of the folder it was trained on.
    """

    fits: tuple[Fit, ...]
    bar: float
    n_new: int

    @property
    def is_most(self) -> bool:
        """Say whether they are so many that they cannot be hard by chance."""
        n_missed = len({fit.content for fit in self.fits})
        return n_missed >= AT_LEAST and n_missed > MOST * self.n_new

    @property
    def reason(self) -> str:
        """Say what was found, and what to do."""
        fit = mean_of(self.fits, [each.average_precision for each in self.fits])
        return (
            f"{len({each.content for each in self.fits})} of the {self.n_new} new images it was "
            f"trained on are fitted badly all the same (AP@0.5 {fit:.3f}; earlier ones at least "
            f"{self.bar:.3f}): their corrections contradict the earlier ones, or show something "
            f"much harder; look at those of {named(self.fits)}. If they are right, correct more "
            "like them, or: cellwatch models promote"
        )


def not_learned(fits: Sequence[Fit], missed_below: float) -> list[Missed]:
    """Return, by watched folder, the new images that the candidate fits badly.

    Parameters
    ----------
    fits : sequence of Fit
    missed_below : float
        An image is missed below so many times the AP@0.5 of the two hardest earlier images of its
        folder. A folder with fewer earlier ones has nothing to be measured by.
    """
    by_watch: dict[str, list[Fit]] = defaultdict(list)
    for fit in fits:
        by_watch[fit.watch].append(fit)
    found = (_missed_in(here, missed_below) for _, here in sorted(by_watch.items()))
    return [missed for missed in found if missed.fits]


def _missed_in(fits: Sequence[Fit], missed_below: float) -> Missed:
    earlier, new = (_each([f for f in fits if f.is_earlier == is_so]) for is_so in (True, False))
    bar = 0.0
    if len(earlier) >= HARDEST:
        bar = missed_below * float(np.mean(sorted(earlier.values())[:HARDEST]))
    parts = [fit for fit in fits if not fit.is_earlier and new[fit.content] < bar]
    worst_first = sorted(parts, key=lambda fit: fit.average_precision)
    return Missed(tuple(worst_first), bar, len(new))


def _each(fits: Sequence[Fit]) -> dict[str, float]:
    return by_content(fits, [fit.average_precision for fit in fits])
