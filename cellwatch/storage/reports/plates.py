"""Plates: how far they are, and how many ROIs each well has."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.ledger.rows import Ledger, records

WELL = re.compile(r"([A-Z]+)(\d+)")


Grid = tuple[list[str], list[int], dict[tuple[str, int], "WellCount"]]


@dataclass(frozen=True, slots=True)
class PlateSummary:
    """A plate as a line.

    Attributes
    ----------
    watch, plate : str
    wells, fields : int
        That have arrived.
    done : int
        Fields that are segmented.
    bad : int
        Fields that failed, or cannot be segmented now.
    rois : int
        Of all targets.
    latest : str
        When the last of its fields arrived.
    """

    watch: str
    plate: str
    wells: int
    fields: int
    done: int
    bad: int
    rois: int
    latest: str


@dataclass(frozen=True, slots=True)
class WellCount:
    """One target in one well.

    Attributes
    ----------
    well, target : str
    fields, done : int
        That have arrived, and are segmented.
    rois : int
        In all fields that are done.
    rois_a_field : float or None
        Their mean; None: no field is done.
    doubtful : int
        Fields in which nothing was found.
    """

    well: str
    target: str
    fields: int
    done: int
    rois: int
    rois_a_field: float | None
    doubtful: int


def has_plates(db: Ledger) -> bool:
    """Say whether the ledger knows plates: a daemon of this version has opened it."""
    sql = "SELECT 1 FROM pragma_table_info('acquisitions') WHERE name = 'plate'"
    return db.execute(sql).fetchone() is not None


def plates(db: Ledger, since: str = "", name: str = "") -> list[PlateSummary]:
    """Return the plates, those whose fields came last first.

    Parameters
    ----------
    db : Ledger
    since : str
        Of which a field arrived, or is not segmented yet, since this time; "": all.
    name : str
        One plate, or what its name ends in; "": all.
    """
    sql = """
        SELECT a.watch, a.plate, count(DISTINCT a.well) AS wells, count(*) AS fields,
               sum(a.state = 'done') AS done,
               sum(a.id IN (SELECT id FROM failures)) AS bad,
               coalesce(sum(t.rois), 0) AS rois, max(a.arrived_at) AS latest
        FROM acquisitions a LEFT JOIN (
            SELECT acquisition_id, sum(rois) AS rois FROM targets WHERE state = 'done'
            GROUP BY acquisition_id) t ON t.acquisition_id = a.id AND a.state = 'done'
        WHERE a.plate IS NOT NULL AND a.superseded_by IS NULL AND a.state != 'skipped'
              AND (?2 = '' OR a.plate = ?2 OR substr(a.plate, -length(?3)) = ?3)
        GROUP BY a.watch, a.plate HAVING latest >= ?1 OR (?1 != '' AND fields > done + bad)
        ORDER BY latest DESC
    """
    text = path_text(name)
    return records(db, PlateSummary, sql, [since, text, f"/{text}"])


def wells(db: Ledger, watch: str, plate: str) -> list[WellCount]:
    """Return what is known of each well of a plate, for each target, in the plate's order.

    Fields that wait for their files have no target yet, and are counted with each.
    """
    sql = """
        WITH fields AS (SELECT * FROM acquisitions
                        WHERE watch = ? AND plate = ? AND superseded_by IS NULL
                              AND state != 'skipped'),
             named AS (SELECT DISTINCT t.name FROM targets t
                       JOIN fields a ON a.id = t.acquisition_id),
             names AS (SELECT name FROM named
                       UNION ALL SELECT '' WHERE NOT EXISTS (SELECT 1 FROM named))
        SELECT a.well, n.name AS target, count(*) AS fields,
               coalesce(sum(a.state = 'done' AND t.state = 'done'), 0) AS done,
               coalesce(sum(CASE WHEN a.state = 'done' THEN t.rois END), 0) AS rois,
               avg(CASE WHEN a.state = 'done' THEN t.rois END) AS rois_a_field,
               coalesce(sum(a.state = 'done' AND t.rois = 0), 0) AS doubtful
        FROM fields a CROSS JOIN names n
        LEFT JOIN targets t ON t.acquisition_id = a.id AND t.name = n.name
        GROUP BY a.well, n.name
    """
    found = records(db, WellCount, sql, [watch, path_text(plate)])
    return sorted(found, key=lambda each: (each.target, place_of(each.well)))


def place_of(well: str) -> tuple[int, int]:
    """Return row and column of a well, from 1.

    Examples
    --------
    >>> place_of("B02"), place_of("AA11")
    ((2, 2), (27, 11))
    """
    match = WELL.fullmatch(well)
    if match is None:
        return 0, 0
    row = 0
    for letter in match[1]:
        row = row * 26 + ord(letter) - ord("A") + 1
    return row, int(match[2])


def grid(counts: Sequence[WellCount]) -> Grid:
    """Return the rows and columns that wells are in, and the wells by these."""
    by_place = {}
    for each in counts:
        match = WELL.fullmatch(each.well)
        if match is not None:
            by_place[match[1], int(match[2])] = each
    rows = sorted({row for row, _ in by_place}, key=lambda name: (len(name), name))
    return rows, sorted({column for _, column in by_place}), by_place
