"""Everything that the ledger knows of single images: their targets, and the attempts at them."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from cellwatch.records import Acquisition, Attempt, TargetMasks
from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.ledger.rows import records


@dataclass(frozen=True, slots=True)
class AcquisitionStory:
    """An acquisition with its targets and the attempts at it."""

    acquisition: Acquisition
    targets: list[TargetMasks]
    attempts: list[Attempt]


def acquisitions_at(db: sqlite3.Connection, path: str) -> list[AcquisitionStory]:
    """Return what is known of a file, newest first, with targets and attempts."""
    moved = " OR moved_from = ?" if _has_moves(db) else ""
    sql = f"SELECT * FROM acquisitions WHERE path = ? OR store = ?{moved} ORDER BY id DESC"
    return _stories(db, sql, [path] * (3 if moved else 2))


def acquisitions_in(db: sqlite3.Connection, file: str, name: str) -> list[AcquisitionStory]:
    """Return what is known of the images in a file, which holds several, by path or name."""
    sql = "SELECT * FROM acquisitions WHERE instr(path, ?) = 1 OR instr('/' || relative_path, ?)"
    return _stories(db, f"{sql} ORDER BY path, id DESC", [f"{file}/", f"/{name}/"])


def acquisitions_named(db: sqlite3.Connection, name: str) -> list[AcquisitionStory]:
    """Return what is known of files of a name, in whatever folder, newest first."""
    sql = """
        SELECT * FROM acquisitions
        WHERE relative_path = ? OR substr(relative_path, -length(?)) = ? ORDER BY id DESC
    """
    return _stories(db, sql, [name, f"/{name}", f"/{name}"])


def finished(db: sqlite3.Connection) -> list[AcquisitionStory]:
    """Return every acquisition whose masks are recorded, whatever became of it."""
    sql = "SELECT * FROM acquisitions WHERE finished_at IS NOT NULL ORDER BY id"
    return _stories(db, sql, [])


def of_ids(db: sqlite3.Connection, keys: Sequence[int]) -> list[AcquisitionStory]:
    """Return what is known of some acquisitions."""
    marks = ",".join("?" * len(keys))
    return _stories(db, f"SELECT * FROM acquisitions WHERE id IN ({marks}) ORDER BY id", keys)


def of_experiment(db: sqlite3.Connection, experiment: str) -> list[AcquisitionStory]:
    """Return the current images of an experiment."""
    sql = "SELECT * FROM acquisitions WHERE experiment = ? AND superseded_by IS NULL ORDER BY id"
    return _stories(db, sql, [path_text(experiment)])


def by_path(db: sqlite3.Connection) -> dict[str, list[Acquisition]]:
    """Return all that the ledger has of each path, in the order in which it came."""
    found: dict[str, list[Acquisition]] = {}
    for row in records(db, Acquisition, "SELECT * FROM acquisitions ORDER BY id"):
        found.setdefault(row.path, []).append(row)
    return found


def _stories(
    db: sqlite3.Connection, sql: str, values: Sequence[str | int]
) -> list[AcquisitionStory]:
    return [_story(db, row) for row in records(db, Acquisition, sql, values)]


def _story(db: sqlite3.Connection, row: Acquisition) -> AcquisitionStory:
    of = "WHERE acquisition_id = ? ORDER BY id"
    return AcquisitionStory(
        row,
        records(db, TargetMasks, f"SELECT * FROM targets {of}", [row.id]),
        records(db, Attempt, f"SELECT * FROM attempts {of}", [row.id]),
    )


def _has_moves(db: sqlite3.Connection) -> bool:
    """Say whether the ledger knows of files that were moved."""
    sql = "SELECT 1 FROM pragma_table_info('acquisitions') WHERE name = 'moved_from'"
    return db.execute(sql).fetchone() is not None
