"""Read-only reports on flags, corrections, training and models, with the standard library alone."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from cellwatch.files.stems import meant_by, stem_key
from cellwatch.storage.ledger.lookup import CURRENT
from cellwatch.storage.ledger.path_text import path_text

Row = dict[str, Any]  # Any: what SQLite holds
GROUPS = "groups"  # of the station's facts: those of the configuration, as JSON
GROUP_MODELS = "group_models"  # by group the model that the configuration names, as JSON


def has_loop(db: sqlite3.Connection) -> bool:
    """Say whether a daemon of this version has opened the ledger."""
    sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'corrections'"
    return db.execute(sql).fetchone() is not None


def unread(db: sqlite3.Connection) -> list[Row]:
    """Return the files that look like images and are not read: by suffix, how many, and one."""
    if not has_marks(db):
        return []
    sql = """
        SELECT u.suffix, sum(u.files) AS files, min(f.path || '/' || u.example) AS example
        FROM unread u JOIN folders f ON f.name = u.watch AND f.state != 'unwatched'
        GROUP BY u.suffix ORDER BY u.suffix
    """
    return [dict(row) for row in db.execute(sql)]


def has_marks(db: sqlite3.Connection) -> bool:
    """Say whether a daemon of this version has opened the ledger."""
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'unread'").fetchone() is not None


def acquisitions_named(db: sqlite3.Connection, name: str) -> list[Row]:
    """Return the current acquisitions that a path, a file name or a stem means."""
    stems = [path_text(stem_key(f"{name}.x")), path_text(stem_key(name))]
    return meant_by(path_text(name), acquisitions(db, "a.stem IN (?, ?)", stems))


def acquisitions(db: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[Row]:
    """Return current acquisitions with the numbers of their targets and of images named alike."""
    sql = f"""
        SELECT a.*, (SELECT count(*) FROM targets t WHERE t.acquisition_id = a.id) AS n_targets,
               (SELECT count(*) FROM acquisitions b
                WHERE b.stem = a.stem AND {CURRENT.replace("a.", "b.")}) AS n_alike,
               (SELECT group_concat(coalesce(f.why, ''), '; ') FROM flags f
                WHERE f.acquisition_id = a.id AND f.lowered_at IS NULL AND f.why IS NOT NULL)
               AS flagged_why
        FROM acquisitions a WHERE {where} AND {CURRENT} ORDER BY a.id
    """
    return [dict(row) for row in db.execute(sql, list(values))]


def standing_on(db: sqlite3.Connection, keys: Sequence[int]) -> list[Row]:
    """Return the standing corrections of some acquisitions, oldest first."""
    sql = f"""
        SELECT * FROM corrections WHERE acquisition_id IN ({",".join("?" * len(keys))})
        AND kind = 'labels' AND is_again = 0 AND state IN ('trainable', 'used') ORDER BY id
    """
    return [dict(row) for row in db.execute(sql, list(keys))]


def of_acquisition(db: sqlite3.Connection, key: int) -> Row:
    """Return what people said and did about one acquisition, and the model its experiment keeps."""
    tables = {
        "flags": "SELECT * FROM flags WHERE acquisition_id = ? ORDER BY id",
        "checkouts": "SELECT * FROM checkouts WHERE acquisition_id = ? ORDER BY id",
        "corrections": "SELECT * FROM corrections WHERE acquisition_id = ? ORDER BY id",
        "pins": """
            SELECT p.* FROM pins p JOIN acquisitions a
            ON a.watch = p.watch AND p.experiment IN (a.experiment, a.relative_path, a.path)
            WHERE a.id = ?
        """,
    }
    return {name: [dict(row) for row in db.execute(sql, [key])] for name, sql in tables.items()}


def corrections(db: sqlite3.Connection, group: str = "", *, is_every: bool = False) -> list[Row]:
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
    return [_parsed(row, "notes", "crop") for row in db.execute(sql, [group, group])]


def correction(db: sqlite3.Connection, key: int) -> Row | None:
    """Return one correction with its scores, and the ids that take precedence over it.

    None: there is none.
    """
    from cellwatch.storage.ledger import precedence

    found = [row for row in corrections(db, is_every=True) if row["id"] == key]
    if not found:
        return None
    sql = "SELECT kind, model_id, ap50, ap75, scored_at FROM scores WHERE correction_id = ?"
    scores = [dict(row) for row in db.execute(sql, [key])]
    is_active = found[0]["state"] in ("trainable", "used") and found[0]["kind"] == "labels"
    over = [row["id"] for row in precedence.above(db, key)] if is_active else []
    return {**found[0], "scores": scores, "counts_over_it": over}


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


def groups_known(db: sqlite3.Connection) -> set[str]:
    """Return the groups that have corrections or promotions."""
    promoted = db.execute("SELECT DISTINCT group_name FROM promotions")
    return groups_corrected(db) | {name for (name,) in promoted}


def n_flagged(db: sqlite3.Connection) -> int:
    """Return how many images are flagged, those that are still to come among them."""
    sql = (
        "SELECT count(DISTINCT coalesce(acquisition_id, name)) FROM flags WHERE lowered_at IS NULL"
    )
    return int(db.execute(sql).fetchone()[0])


def n_audited(db: sqlite3.Connection) -> tuple[int, int]:
    """Return how many scores there are, and how many networks were trained."""
    n_scores = db.execute("SELECT count(*) FROM scores").fetchone()[0]
    n_networks = db.execute("SELECT count(DISTINCT model_sha256) FROM trained_on").fetchone()[0]
    return int(n_scores), int(n_networks)


def groups_configured(db: sqlite3.Connection) -> list[str] | None:
    """Return the groups of the configuration that the daemon last read; None: it never said."""
    row = db.execute("SELECT value FROM station WHERE key = ?", [GROUPS]).fetchone()
    return list(json.loads(row[0])) if row else None


def models_configured(db: sqlite3.Connection) -> dict[str, str]:
    """Return by group the model that the configuration named when it was last read."""
    row = db.execute("SELECT value FROM station WHERE key = ?", [GROUP_MODELS]).fetchone()
    return dict(json.loads(row[0])) if row else {}


def group_facts(db: sqlite3.Connection, names: Sequence[str]) -> list[Row]:
    """Return of each group: the model in use, its corrections, its last training."""
    facts = []
    for name in names:
        used = db.execute(
            "SELECT model_id, verdict, decided_at FROM promotions WHERE group_name = ? AND "
            "verdict NOT IN ('declined', 'inconclusive') ORDER BY id DESC LIMIT 1",
            [name],
        ).fetchone()
        counts = dict(
            db.execute(
                "SELECT state, count(*) FROM corrections WHERE group_name = ? "
                "AND kind = 'labels' AND state NOT IN ('rejected', 'orphan') AND reason IS NULL "
                "GROUP BY state",
                [name],
            ).fetchall()
        )
        last = db.execute(
            "SELECT * FROM runs WHERE group_name = ? AND state != 'skipped' "
            "ORDER BY id DESC LIMIT 1",
            [name],
        ).fetchone()
        decided = db.execute(
            "SELECT model_id, verdict, reason, decided_at FROM promotions WHERE group_name = ? "
            "ORDER BY id DESC LIMIT 1",
            [name],
        ).fetchone()
        facts.append(
            {
                "group": name,
                "model": (used["model_id"] or None) if used else None,
                "verdict": used["verdict"] if used and used["model_id"] else None,
                "since": used["decided_at"] if used else None,
                "corrections": counts,
                "last_run": dict(last) if last else None,
                "last_decision": dict(decided) if decided else None,
            }
        )
    return facts


def running(db: sqlite3.Connection) -> Row | None:
    """Return the training that is under way; None: there is none."""
    row = db.execute("SELECT * FROM runs WHERE state = 'running' LIMIT 1").fetchone()
    return dict(row) if row else None


def not_ended(db: sqlite3.Connection, group: str = "") -> list[int]:
    """Return the ids of the trainings of a group ("": of all) that run or wait."""
    sql = "SELECT id FROM runs WHERE state IN ('running', 'waiting') AND ? IN ('', group_name)"
    return [key for (key,) in db.execute(sql, [group])]


def waiting(db: sqlite3.Connection) -> list[Row]:
    """Return the trainings that wait for their turn, oldest first."""
    sql = "SELECT id, group_name, kind, started_at AS asked_at FROM runs WHERE state = 'waiting'"
    return [dict(row) for row in db.execute(f"{sql} ORDER BY id")]


def last_skip(db: sqlite3.Connection, group: str) -> str:
    """Return why the last night of a group was skipped; "": it was not, or had nothing new."""
    row = db.execute(
        "SELECT state, reason FROM runs WHERE group_name = ? ORDER BY id DESC LIMIT 1", [group]
    ).fetchone()
    return str(row["reason"]) if row and row["state"] == "skipped" else ""


def decisions(db: sqlite3.Connection, group: str = "") -> list[Row]:
    """Return what was decided of models, and the trainings that came to nothing, newest first."""
    sql = "SELECT * FROM promotions WHERE ? IN ('', group_name) ORDER BY id DESC"
    decided = [_parsed(row, "numbers") for row in db.execute(sql, [group])]
    sql = """
        SELECT id AS run_id, group_name, model_id, reason, ended_at AS decided_at,
               CASE WHEN is_cancelled THEN 'cancelled' ELSE 'failed' END AS verdict
        FROM runs
        WHERE state = 'failed' AND ? IN ('', group_name) ORDER BY id DESC
    """
    blank = dict.fromkeys(
        column for column, *_ in db.execute("SELECT * FROM promotions LIMIT 0").description
    )
    failed = [{**blank, **dict(row)} for row in db.execute(sql, [group])]
    return sorted([*decided, *failed], key=lambda row: str(row["decided_at"]), reverse=True)


def mixed_experiments(db: sqlite3.Connection) -> list[Row]:
    """Return the experiments that were segmented with more than one model.

    `to_redo`: of how many of its images a rerun has not been done yet.
    """
    sql = """
        SELECT m.*, (SELECT count(*) FROM acquisitions a WHERE a.watch = m.watch
                     AND a.experiment = m.experiment AND a.superseded_by IS NULL
                     AND a.state IN ('queued', 'running') AND a.priority < 0) AS to_redo
        FROM mixed_experiments m
    """
    return [dict(row) for row in db.execute(sql)]


def effort(db: sqlite3.Connection, group: str) -> list[Row]:
    """Return what each corrected image cost and was worth, oldest first."""
    sql = """
        SELECT c.id, c.received_at, a.relative_path, c.annotator, c.model_id, c.rois, c.predicted,
               c.added, c.removed, c.changed, c.ap50, c.minutes,
               CASE WHEN max(c.rois, c.predicted) > 0
                    THEN round(1.0 * (c.added + c.removed + c.changed)
                               / max(c.rois + c.removed, 1), 4) END AS share,
               EXISTS (SELECT 1 FROM scores s WHERE s.correction_id = c.id
                       AND s.kind = 'test_then_train') AS is_unseen
        FROM corrections c JOIN acquisitions a ON a.id = c.acquisition_id
        WHERE c.group_name = ? AND c.kind = 'labels' AND c.is_again = 0
              AND c.state IN ('trainable', 'used') ORDER BY c.id
    """
    return [dict(row) for row in db.execute(sql, [group])]


def nights(db: sqlite3.Connection, group: str) -> list[Row]:
    """Return each training of a group with what was decided by it, oldest first."""
    sql = """
        SELECT r.id, r.local_date, r.kind, r.state, r.seconds, r.model_id, r.reason,
               r.is_cancelled, p.verdict, p.numbers, coalesce(p.reason, r.reason) AS told
        FROM runs r LEFT JOIN promotions p ON p.run_id = r.id
              AND p.verdict NOT IN ('confirmed', 'revoked')
        WHERE r.group_name = ? AND r.state IN ('ended', 'failed') ORDER BY r.id
    """
    return [_parsed(row, "numbers") for row in db.execute(sql, [group])]


def agreement(db: sqlite3.Connection, group: str) -> Row:
    """Return how well annotators agree: with themselves, and with each other."""
    sql = """
        SELECT avg(CASE WHEN is_again = 1 THEN agreement END) AS own,
               sum(is_again = 1 AND agreement IS NOT NULL) AS second_looks,
               avg(CASE WHEN is_again = 0 THEN agreement END) AS between_annotators
        FROM corrections WHERE group_name = ? AND state IN ('trainable', 'used')
    """
    return dict(db.execute(sql, [group]).fetchone())


def _parsed(row: sqlite3.Row, *columns: str) -> Row:
    found = dict(row)
    for column in columns:
        found[column] = json.loads(found[column]) if found[column] else None
    return found
