"""What an earlier version left behind still works."""

import json
import sqlite3

import pytest

from cellwatch.compute.adoption import asked_for, choice_of
from cellwatch.storage.ledger.database import open_ledger
from cellwatch.storage.reports import station


def test_a_store_of_the_first_version_names_what_was_asked_for():
    facts = {"model": {"id": "nuclei", "sha256": "s"}}

    assert asked_for(facts) == "s"
    assert choice_of(facts.get("choice")) is None


@pytest.mark.timeout(30)
def test_a_ledger_that_no_daemon_has_migrated_yet_can_be_read(tmp_path):
    db = open_ledger(tmp_path)
    db.conn.executescript("""
        DROP VIEW masks;
        DROP VIEW mixed_experiments;
        ALTER TABLE targets DROP COLUMN novelty;
        ALTER TABLE targets DROP COLUMN choice;
        INSERT INTO acquisitions (watch, path, relative_path, experiment, fingerprint, size,
            mtime_ns, state, state_since, arrived_at)
        VALUES ('w', '/a.tif', 'a.tif', 'w', 'f', 1, 1, 'done', 't', 't');
        INSERT INTO targets (acquisition_id, name, state, params) VALUES (1, 'cells', 'done', '{}');
    """)
    db.close()

    with station.reader(next(tmp_path.glob("*.db"))) as connection:
        assert isinstance(connection, sqlite3.Connection)
        row = station.acquisitions_at(connection, "/a.tif")[0]

    assert row["targets"][0]["choice"] is None
    assert json.dumps(row["targets"][0]["params"]) == "{}"


def test_annotators_of_an_earlier_version_are_those_of_today(tmp_path):
    db = open_ledger(tmp_path)
    db.conn.executescript("""
        DROP INDEX scores_by_correction;
        ALTER TABLE checkouts DROP COLUMN plane_sha256;
        DELETE FROM _sqlite_migrations WHERE name LIKE 'm005%';
        INSERT INTO corrections (file, size, mtime_ns, received_at, kind, state, state_since,
            annotator) VALUES ('Anna/a_masks.tif', 1, 1, 't', 'labels', 'trainable', 't', 'Anna'),
                              ('b_masks.tif', 1, 1, 't', 'labels', 'trainable', 't', '');
    """)
    db.close()

    again = open_ledger(tmp_path)

    assert [row["annotator"] for row in again.table("corrections").rows] == ["anna", ""]
    assert "plane_sha256" in again.table("checkouts").columns_dict
    again.close()
