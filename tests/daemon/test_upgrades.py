"""What an earlier version left behind still works."""

import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
import tifffile

from cellwatch.compute.adoption import asked_for, choice_of
from cellwatch.storage.ledger.database import open_ledger
from cellwatch.storage.reports import station, stories
from tests.daemon.stations import Station

DATA = Path(__file__).parents[1] / "data"


def test_a_store_of_the_first_version_names_what_was_asked_for():
    facts = {"model": {"id": "nuclei", "sha256": "s"}}

    assert asked_for(facts) == "s"
    assert choice_of(facts.get("choice")) is None


class OldStation(Station):
    """Made by version 0.1: five images, three corrections, one checkout, a promotion by hand."""

    def __init__(self, folder):
        with tarfile.open(DATA / "station_0.1.tar.xz") as archive:
            archive.extractall(folder, filter="data")
        self.folder, self.images, self.masks = folder, folder / "images", folder / "masks"
        self.config, self.corrections = folder / "config.yaml", folder / "corrections"

    def kept(self):
        """Return what an upgrade may not change."""
        asked = {
            "images": "SELECT relative_path, experiment, fingerprint, state FROM acquisitions",
            "results": "SELECT acquisition_id, name, state, rois, model_sha256 FROM targets",
            "corrections": "SELECT file, rois, state, content_key FROM corrections",
            "promotions": "SELECT group_name, verdict, model_id, model_sha256 FROM promotions",
            "pins": "SELECT watch, experiment, target, model_id, model_sha256 FROM pins",
            "flags": "SELECT name, why, raised_by, lowered_at FROM flags",
            "checkouts": "SELECT acquisition_id, stem FROM checkouts",
        }
        with closing(sqlite3.connect(self.folder / "state/cellwatch.db")) as db:
            return {name: db.execute(sql).fetchall() for name, sql in asked.items()}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_station_of_version_0_1_goes_on_elsewhere_as_it_was(tmp_path):
    station = OldStation(tmp_path / "station")
    before = station.kept()
    stores = {path: path.stat().st_ino for path in station.masks.rglob("*.zarr")}

    station.command("run", "--once", "--strict")

    assert station.kept() == before
    assert {path: path.stat().st_ino for path in station.masks.rglob("*.zarr")} == stores
    assert "0 problems" in station.command("verify").stderr
    in_use = json.loads(station.command("models", "history", "--json").stdout)[0]
    assert (in_use["model_id"], in_use["verdict"]) == ("hand", "by_hand")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_version_0_1_handed_out_is_accepted_when_it_comes_back(tmp_path):
    station = OldStation(tmp_path / "station")
    labels = tifffile.imread(station.folder / "out/d/d_masks.tif")
    labels[labels == 1] = 0
    tifffile.imwrite(station.corrections / "d_masks.tif", labels)

    station.command("run", "--once")

    answer = json.loads((station.corrections / "d_masks.tif.accepted.json").read_text())
    assert answer["image"] == str(station.images / "exp/d.tif")
    assert answer["against_the_prediction"]["removed"] == 1


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
        row = stories.acquisitions_at(connection, "/a.tif")[0]

    assert row.targets[0].choice is None
    assert row.targets[0].params == {}


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
