"""Which corrections cannot be learned: most often because they are wrong.

A new kind of cell is at least fitted where it was trained on. What is missed even there, while the
hardest of the folder's earlier images are fitted, contradicts them or is no such thing at all.
"""

from collections.abc import Sequence

import numpy as np

from cellwatch.training.findings import Fit, by_content, mean_of, named

YARDSTICK = 2  # earlier images, the hardest, that others are measured by
MOST = 0.5  # of the new images
AT_LEAST = 3  # images; fewer may be hard by chance


def not_learned(fits: Sequence[Fit], far_worse: float) -> list[Fit]:
    """Return the new images that the candidate misses though it was trained on them, worst first.

    Parameters
    ----------
    fits : sequence of Fit
    far_worse : float
        An image is missed below so many times the AP@0.5 of the two hardest earlier images of its
        folder. A folder with fewer earlier ones has no yardstick.
    """
    found = []
    for watch in sorted({fit.watch for fit in fits}):
        here = [fit for fit in fits if fit.watch == watch]
        earlier = [fit for fit in here if fit.is_earlier]
        known = sorted(by_content(earlier, [fit.average_precision for fit in earlier]).values())
        if len(known) >= YARDSTICK:
            bar = far_worse * float(np.mean(known[:YARDSTICK]))
            found += [fit for fit in here if not fit.is_earlier and fit.average_precision < bar]
    return sorted(found, key=lambda fit: fit.average_precision)


def contradiction(fits: Sequence[Fit], missed: Sequence[Fit]) -> str:
    """Say that most of what is new is not learned, and what to do; "" when it is not so."""
    n_missed = len({fit.content for fit in missed})
    n_new = len({fit.content for fit in fits if not fit.is_earlier})
    if n_missed < AT_LEAST or n_missed <= MOST * n_new:
        return ""
    precision = mean_of(missed, [fit.average_precision for fit in missed])
    return (
        f"{n_missed} of {n_new} new images are missed even by the network that was trained on them "
        f"(AP@0.5 {precision:.3f}): their corrections contradict the earlier ones, or show "
        f"something much harder; look at those of {named(missed)}, and if they are right, correct "
        "more like them"
    )
