"""Read-only reports on flags, checkouts and corrections, with the standard library alone."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from cellwatch.files.members import image_name
from cellwatch.files.stems import meant_by, stem_key
from cellwatch.records import (
    ActiveCorrection,
    Checkout,
    Correction,
    ListedAcquisition,
    ListedCorrection,
    Pin,
    RaisedFlag,
)
from cellwatch.storage.ledger.lookup import CURRENT
from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.ledger.rows import records


def acquisitions_named(db: sqlite3.Connection, name: str) -> list[ListedAcquisition]:
    """Return the current acquisitions that a path, a file name or a stem means."""
    stems = [path_text(stem_key(n)) for n in (f"{name}.x", name, image_name(name))]
    return meant_by(path_text(name), acquisitions(db, "a.stem IN (?, ?, ?)", stems))


def acquisitions(
    db: sqlite3.Connection,
    where: str,
    values: Sequence[int | str],
) -> list[ListedAcquisition]:
    """Return current acquisitions with the number of their targets and why they are flagged."""
    sql = f"""
        SELECT a.*, (SELECT count(*) FROM targets t WHERE t.acquisition_id = a.id) AS n_targets,
               (SELECT group_concat(coalesce(f.why, ''), '; ') FROM flags f
                WHERE f.acquisition_id = a.id AND f.lowered_at IS NULL AND f.why IS NOT NULL)
               AS flagged_why
        FROM acquisitions a WHERE {where} AND {CURRENT} ORDER BY a.id
    """
    return records(db, ListedAcquisition, sql, values)


def active_on(db: sqlite3.Connection, keys: Sequence[int]) -> list[ActiveCorrection]:
    """Return the active corrections of some acquisitions, oldest first."""
    sql = f"""
        SELECT * FROM active_corrections
        WHERE acquisition_id IN ({",".join("?" * len(keys))}) ORDER BY id
    """
    return records(db, ActiveCorrection, sql, keys)


@dataclass(frozen=True, slots=True)
class PeoplesPart:
    """What people said and did about one acquisition, and the model that its experiment keeps."""

    flags: list[RaisedFlag] = field(default_factory=list)
    checkouts: list[Checkout] = field(default_factory=list)
    corrections: list[Correction] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)


def of_acquisition(db: sqlite3.Connection, key: int) -> PeoplesPart:
    """Return what people said and did about one acquisition."""
    of = "WHERE acquisition_id = ? ORDER BY id"
    pins = """
        SELECT p.* FROM pins p JOIN acquisitions a
        ON a.watch = p.watch AND p.experiment IN (a.experiment, a.relative_path, a.path)
        WHERE a.id = ?
    """
    return PeoplesPart(
        records(db, RaisedFlag, f"SELECT * FROM flags {of}", [key]),
        records(db, Checkout, f"SELECT * FROM checkouts {of}", [key]),
        records(db, Correction, f"SELECT * FROM corrections {of}", [key]),
        records(db, Pin, pins, [key]),
    )


def corrections(
    db: sqlite3.Connection, group: str = "", *, is_every: bool = False
) -> list[ListedCorrection]:
    """Return corrections, newest first; those that were replaced only with `is_every`."""
    hidden = """AND c.state NOT IN ('superseded', 'withdrawn')
                AND NOT (c.state = 'rejected' AND c.superseded_by IS NOT NULL)"""
    hidden = "" if is_every else hidden
    sql = f"""
        SELECT c.*, a.path, a.relative_path, a.watch, s.side FROM corrections c
        LEFT JOIN acquisitions a ON a.id = c.acquisition_id
        LEFT JOIN sides s ON s.group_name = c.group_name AND s.content_key = c.content_key
        WHERE (? = '' OR c.group_name = ?) {hidden} ORDER BY c.id DESC
    """
    return records(db, ListedCorrection, sql, [group, group])


def correction(db: sqlite3.Connection, key: int) -> ListedCorrection | None:
    """Return one correction; None: there is none."""
    return next((row for row in corrections(db, is_every=True) if row.id == key), None)


@dataclass(frozen=True, slots=True)
class Score:
    """How good the masks of a model were, measured by a correction."""

    kind: str
    model_id: str
    ap50: float
    ap75: float | None
    scored_at: str


def scores_of(db: sqlite3.Connection, key: int) -> list[Score]:
    """Return the scores that a correction gave."""
    sql = "SELECT kind, model_id, ap50, ap75, scored_at FROM scores WHERE correction_id = ?"
    return records(db, Score, sql, [key])


def dropped_in_vain(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many dropped files are rejected or wait for their image, of whatever group."""
    sql = """
        SELECT state, count(*) FROM corrections
        WHERE state IN ('rejected', 'orphan') AND superseded_by IS NULL GROUP BY state
    """
    return dict(db.execute(sql).fetchall())


def groups_corrected(db: sqlite3.Connection) -> set[str]:
    """Return the groups that have corrections."""
    sql = "SELECT DISTINCT group_name FROM corrections WHERE group_name IS NOT NULL"
    return {name for (name,) in db.execute(sql)}


def n_flagged(db: sqlite3.Connection) -> int:
    """Return how many images are flagged, those that are still to come among them."""
    sql = (
        "SELECT count(DISTINCT coalesce(acquisition_id, name)) FROM flags WHERE lowered_at IS NULL"
    )
    return int(db.execute(sql).fetchone()[0])
