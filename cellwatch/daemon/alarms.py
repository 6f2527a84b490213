"""An alarm while the sample still lives: an experiment's images leave the range that they had.

Focus that is lost, a bubble, a lamp that dies: several images in a row then differ from all before
them, in how many ROIs they have, how sure the network is, how sharp or bright they are.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlite_utils import Database

from cellwatch.storage.ledger import alarms
from cellwatch.storage.ledger.alarms import MEASURES, Alarm

IN_A_ROW = 3  # images that differ before it is an alarm, and that do not before it is over
LEAST = 12  # images that an experiment's range is taken from
MOST = 60
SPREADS = 4.5  # times the usual deviation; three images in a row are hardly ever so far off
MAD_TO_DEVIATION = 1.4826
# Of each measure, what is no alarm however little it varies: a part of the usual value, and a step.
TOLERANCES = {
    "rois": (0.5, 3.0),
    "confidence": (0.0, 0.1),
    "sharpness": (0.25, 0.02),
    "background": (0.3, 5.0),
    "novelty": (0.0, 0.5),
}
TOLD = {
    "rois": "ROIs an image have",
    "confidence": "the confidence has",
    "sharpness": "the sharpness has",
    "background": "the background has",
    "novelty": "the novelty has",
}


@dataclass(frozen=True, slots=True)
class Departure:
    """How the latest images differ from those before.

    Attributes
    ----------
    measure : str
    usual : float
        The median before.
    now : float
        The median of the latest.
    """

    measure: str
    usual: float
    now: float

    @property
    def told(self) -> str:
        """Return it for people."""
        way = "risen" if self.now > self.usual else "fallen"
        return f"{TOLD[self.measure]} {way} from {self.usual:.3g} to {self.now:.3g}"


def watch_over(db: Database, acquisition_id: int, now: datetime) -> list[str]:
    """Look at an experiment after one of its images was finished; return what is to be said.

    One alarm at a time is raised for a target of an experiment; it is over when as many images in a
    row are in the range again.
    """
    said = []
    for target in alarms.targets_of(db, acquisition_id):
        active = alarms.active_for(db, target)
        before = active.acquisition_id if active is not None else None
        values = alarms.measured(db, target, MOST + IN_A_ROW, before=before)
        if active is not None:
            latest = alarms.measured(db, target, IN_A_ROW)
            if len([v for v in values[active.measure] if v is not None]) < LEAST:
                continue  # images before it are being done again
            if departure(active.measure, values[active.measure], latest[active.measure]) is None:
                alarms.end(db, active.id, now)
                said.append(f"{target.named} is as before again ({active.told})")
            continue
        for measure in MEASURES:
            series = values[measure]
            found = departure(measure, series[:-IN_A_ROW], series[-IN_A_ROW:])
            if found is not None:
                first = alarms.first_of_last(db, target, IN_A_ROW)
                alarms.raise_alarm(db, Alarm(target, measure, found.told, first), now)
                said.append(f"ALARM: {target.named}: {found.told} in the last {IN_A_ROW} images")
                break
    return said


def departure(
    measure: str, before: Sequence[float | None], latest: Sequence[float | None]
) -> Departure | None:
    """Return how the latest values leave the range of those before; None: they do not all.

    Examples
    --------
    >>> departure("rois", [20, 22, 19, 21] * 4, [2, 0, 1]).told
    'ROIs an image have fallen from 20.5 to 1'
    >>> departure("rois", [20, 22, 19, 21] * 4, [2, 20, 1]) is None
    True
    """
    known = [value for value in before if value is not None][-MOST:]
    last = [value for value in latest if value is not None]
    if len(known) < LEAST or len(last) < IN_A_ROW:
        return None
    usual = statistics.median(known)
    deviation = MAD_TO_DEVIATION * statistics.median(abs(value - usual) for value in known)
    part, step = TOLERANCES[measure]
    width = max(SPREADS * deviation, part * abs(usual), step)
    is_above, is_below = (all(s * (v - usual) > width for v in last) for s in (1, -1))
    if not (is_above or is_below):
        return None
    return Departure(measure, usual, statistics.median(last))
