"""Alarms: an experiment's images left the range that they had, from one image to another."""

from dataclasses import dataclass
from datetime import datetime

from sqlite_utils import Database

from cellwatch.storage.ledger.acquisitions import iso
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.rows import Ledger, first, records
from cellwatch.storage.reports.alarms import RaisedAlarm

MEASURES = ("rois", "confidence", "sharpness", "background", "novelty")


@dataclass(frozen=True, slots=True)
class Watched:
    """A target of an experiment."""

    watch: str
    experiment: str
    target: str

    @property
    def named(self) -> str:
        """Return its name for people."""
        return f"{self.watch}/{self.experiment}, {self.target}"


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm to be raised.

    Attributes
    ----------
    of : Watched
    measure : str
        One of `MEASURES`.
    told : str
    acquisition_id : int
        The first image that differs.
    """

    of: Watched
    measure: str
    told: str
    acquisition_id: int


def targets_of(db: Ledger, acquisition_id: int) -> list[Watched]:
    """Return the targets of an acquisition, with its experiment."""
    sql = """
        SELECT a.watch, a.experiment, t.name AS target FROM acquisitions a
        JOIN targets t ON t.acquisition_id = a.id WHERE a.id = ? ORDER BY t.id
    """
    return records(db, Watched, sql, [acquisition_id])


def measured(
    db: Ledger, of: Watched, most: int, before: int | None = None
) -> dict[str, list[float | None]]:
    """Return what was measured on an experiment's latest images, oldest first.

    Parameters
    ----------
    db : Ledger
    of : Watched
    most : int
        Images.
    before : int or None
        Only those that arrived before this acquisition; None: all.
    """
    sql = f"""
        SELECT {", ".join(f"t.{measure}" for measure in MEASURES)} FROM acquisitions a
        JOIN targets t ON t.acquisition_id = a.id AND t.name = ?
        WHERE a.watch = ? AND a.experiment = ? AND a.state = 'done' AND a.superseded_by IS NULL
              AND (? IS NULL OR a.id < ?) ORDER BY a.id DESC LIMIT ?
    """
    values = [of.target, of.watch, of.experiment, before, before, most]
    rows = db.execute(sql, values).fetchall()[::-1]
    return {measure: [row[n] for row in rows] for n, measure in enumerate(MEASURES)}


def first_of_last(db: Ledger, of: Watched, n: int) -> int:
    """Return the first of the latest n images of an experiment."""
    sql = """
        SELECT min(id) FROM (SELECT id FROM acquisitions WHERE watch = ? AND experiment = ?
        AND state = 'done' AND superseded_by IS NULL ORDER BY id DESC LIMIT ?)
    """
    return int(db.execute(sql, [of.watch, of.experiment, n]).fetchone()[0])


def active_for(db: Ledger, of: Watched) -> RaisedAlarm | None:
    """Return the alarm that a target of an experiment has now; None: it has none."""
    sql = """
        SELECT * FROM alarms WHERE watch = ? AND experiment = ? AND target = ?
        AND ended_at IS NULL ORDER BY id DESC LIMIT 1
    """
    return first(db, RaisedAlarm, sql, [of.watch, of.experiment, of.target])


def raise_alarm(db: Database, alarm: Alarm, now: datetime) -> None:
    """Record an alarm."""
    with transaction(db):
        db.table("alarms").insert(
            {
                "watch": alarm.of.watch,
                "experiment": alarm.of.experiment,
                "target": alarm.of.target,
                "measure": alarm.measure,
                "told": alarm.told,
                "acquisition_id": alarm.acquisition_id,
                "raised_at": iso(now),
            }
        )


def end(db: Database, key: int, now: datetime) -> None:
    """Record that an alarm is over."""
    with transaction(db):
        db.table("alarms").update(key, {"ended_at": iso(now)})
