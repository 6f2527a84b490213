import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from importlib.resources import files

import pytest
from sqlite_utils import Database

from cellwatch.errors import LedgerOutdated, LedgerTooNew, StateLocked
from cellwatch.storage.ledger.database import open_ledger, transaction
from cellwatch.storage.ledger.locking import holder, is_locked, state_lock
from cellwatch.storage.ledger.migrations import (
    m008_states_instead_of_wording,
    m013_summaries,
)
from cellwatch.storage.ledger.version import VERSION
from cellwatch.storage.reports import learning, station
from cellwatch.storage.reports.station import LEDGER


def test_a_new_ledger_is_durable_and_migrated(tmp_path):
    db = open_ledger(tmp_path)

    pragmas = {p: db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("journal_mode", "synchronous")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}
    assert db.execute("PRAGMA busy_timeout").fetchone()[0] == 30_000
    assert {"acquisitions", "targets", "attempts", "models"} <= set(db.table_names())
    db.close()


def described(db):
    """Return the tables with their columns, and the indexes and views without white space."""
    found = {}
    for kind, name, text in db.execute("SELECT type, name, sql FROM sqlite_master").fetchall():
        if kind == "table" and not name.startswith("_"):
            found[name] = db.execute(f"PRAGMA table_xinfo({name})").fetchall()
            found[f"keys of {name}"] = sorted(db.execute(f"PRAGMA foreign_key_list({name})"))
        elif kind != "table" and text and "_sqlite_" not in name:
            found[name] = "".join(text.split())
    return found


def test_the_schema_that_people_read_is_what_the_migrations_make(tmp_path):
    made, read = open_ledger(tmp_path), sqlite3.connect(":memory:")
    text = files("cellwatch.storage.ledger").joinpath("schema.sql").read_text(encoding="utf-8")

    read.executescript(text)

    assert described(read) == described(made)
    for column in ("plane_key", "part_key"):  # whose expression no pragma shows
        (sql,) = made.execute("SELECT sql FROM sqlite_master WHERE name = 'corrections'").fetchone()
        meant = [said.split(f"{column} TEXT", 1)[1].split("VIRTUAL")[0] for said in (sql, text)]
        assert "".join(meant[0].split()) == "".join(meant[1].split())
    made.close()
    read.close()


def test_opening_twice_changes_nothing(tmp_path):
    open_ledger(tmp_path).close()
    db = open_ledger(tmp_path)

    assert db.execute("SELECT count(*) FROM _sqlite_migrations").fetchone()[0] == VERSION
    db.close()


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(tmp_path):
    db = open_ledger(tmp_path)
    with transaction(db):
        db.table("_sqlite_migrations").insert(
            {"migration_set": "cellwatch", "name": "m999_later", "applied_at": "x"}
        )
    db.close()
    before = (tmp_path / LEDGER).read_bytes()

    with pytest.raises(LedgerTooNew, match=r"newer cellwatch.*m999_later") as caught:
        open_ledger(tmp_path)
    assert caught.value.exit_code == 78
    assert (tmp_path / LEDGER).read_bytes() == before


def test_an_error_in_a_transaction_undoes_all_of_it(tmp_path):
    db = open_ledger(tmp_path)

    def half_done():
        with transaction(db):
            db.execute("INSERT INTO folders (name, path, state) VALUES ('a', '/a', 'watching')")
            raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        half_done()
    assert db.execute("SELECT count(*) FROM folders").fetchone()[0] == 0
    db.close()


def test_a_second_daemon_is_refused_with_the_pid_and_host_of_the_first(tmp_path, now):
    code = textwrap.dedent(f"""
        import sys
        from datetime import datetime, UTC
        from pathlib import Path
        from cellwatch.storage.ledger.locking import state_lock
        with state_lock(Path({str(tmp_path)!r}), datetime.now(UTC)):
            print("held", flush=True)
            sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"

        with (
            pytest.raises(StateLocked, match=f"pid {holder.pid} on") as caught,
            state_lock(tmp_path, now),
        ):
            pass
        assert caught.value.exit_code == 75
        assert is_locked(tmp_path)
        holder.kill()
    assert not is_locked(tmp_path)
    with state_lock(tmp_path, now):
        assert is_locked(tmp_path)


def test_a_command_that_holds_the_state_is_waited_for_not_stopped(tmp_path, now):
    with state_lock(tmp_path, now, "cellwatch retrain"):
        assert holder(tmp_path)["who"] == "cellwatch retrain"
        with (
            pytest.raises(StateLocked, match=r"cellwatch retrain with pid .*wait for it"),
            state_lock(tmp_path, now),
        ):
            pass
    assert holder(tmp_path) == {}


def test_a_stranger_with_sqlite_utils_reads_the_tables(tmp_path):
    open_ledger(tmp_path).close()

    views = Database(tmp_path / LEDGER).view_names()

    assert set(views) == {
        "active_corrections", "failures", "masks", "mixed_experiments", "review_queue",
        "waiting_times",
    }  # fmt: skip


def test_a_ledger_that_is_being_made_is_waited_for(tmp_path):
    begun = sqlite3.connect(tmp_path / LEDGER)
    begun.execute("CREATE TABLE a (b)")  # as far as a first start has come
    begun.close()
    rest = threading.Timer(0.5, lambda: open_ledger(tmp_path).close())
    rest.start()

    with station.reader(tmp_path / LEDGER) as db:
        assert station.counts(db)["done"] == 0
    rest.join()


def test_f100_members_of_the_group_may_write_where_the_umask_lets_them(tmp_path):
    for mask, mode in ((0o007, 0o660), (0o022, 0o644)):
        before = os.umask(mask)
        try:
            open_ledger(tmp_path / f"{mask:o}").close()
        finally:
            os.umask(before)

        assert (tmp_path / f"{mask:o}" / LEDGER).stat().st_mode & 0o777 == mode


def fill_up(db):
    with transaction(db):
        for n in range(10_000):
            db.execute("INSERT INTO station VALUES (?, ?)", [f"key {n}", "x" * 500])


def test_a_transaction_that_a_full_disk_ended_leaves_the_ledger_usable(tmp_path):
    db = open_ledger(tmp_path)
    db.execute("PRAGMA max_page_count = 60")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        fill_up(db)
    db.execute("PRAGMA max_page_count = 100000")

    with transaction(db):
        db.execute("INSERT INTO station VALUES ('kept', 'yes')")

    assert db.execute("SELECT count(*) FROM station").fetchone()[0] == 1


def test_what_a_ledger_of_an_earlier_version_lacks_is_told_with_the_remedy(tmp_path):
    db = open_ledger(tmp_path)
    assert db.execute("PRAGMA user_version").fetchone()[0] == VERSION
    db.conn.execute("ALTER TABLE runs DROP COLUMN is_cancelled")
    db.conn.execute(f"PRAGMA user_version = {VERSION - 1}")
    db.close()

    with station.reader(tmp_path / LEDGER) as reading:
        assert station.counts(reading)["done"] == 0  # what it has can be read
    with (
        pytest.raises(LedgerOutdated, match="restart the daemon"),
        station.reader(tmp_path / LEDGER) as reading,
    ):
        learning.nights(reading, "scope")


def test_what_was_read_off_wording_is_carried_over_into_columns(tmp_path):
    db = open_ledger(tmp_path)
    columns = ("is_in_region", "is_blocked", "is_taken_away")
    for column in columns:
        db.execute(f"ALTER TABLE corrections DROP COLUMN {column}")
    db.execute("ALTER TABLE flags DROP COLUMN is_lowered_by_correction")
    db.execute("ALTER TABLE runs DROP COLUMN is_cancelled")
    drop = {
        "size": 1, "mtime_ns": 1, "received_at": "t", "kind": "labels", "annotator": "",
        "state": "orphan", "state_since": "t", "position": 0, "t": 0, "z": 0,
    }  # fmt: skip
    for n, said in enumerate(
        (
            {"notes": '["only the checked region counts (50% of the plane)"]'},
            {"reason": "blocked: no space left"},
            {"remedy": "it was taken away; put back, it is looked at again"},
        )
    ):
        db.table("corrections").insert({**drop, "file": f"{n}", **said})
    db.conn.commit()

    m008_states_instead_of_wording(db)

    rows = db.execute(f"SELECT {', '.join(columns)} FROM corrections ORDER BY id").fetchall()
    assert rows == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    db.close()


def test_confidences_that_were_measured_otherwise_are_forgotten_and_alarm_nobody(tmp_path):
    db = open_ledger(tmp_path)
    of = {"watch": "w", "experiment": "e", "target": "cells", "told": "x", "raised_at": "t"}
    image = {
        "watch": "w", "path": "/a", "relative_path": "a", "experiment": "e", "fingerprint": "f",
        "size": 1, "mtime_ns": 1, "state": "done", "state_since": "t", "arrived_at": "t",
    }  # fmt: skip
    db.table("acquisitions").insert({"id": 1, **image})
    target = {"acquisition_id": 1, "name": "cells", "state": "done", "confidence": 0.9}
    db.table("targets").insert({**target, "novelty": 0.4})
    for measure in ("rois", "confidence"):
        db.table("alarms").insert({**of, "acquisition_id": 1, "measure": measure})
    for column in ("median_area", "covered", "intensity", "pixel_size_um"):
        db.execute(f"ALTER TABLE targets DROP COLUMN {column}")
    db.conn.commit()

    m013_summaries(db)

    assert db.execute("SELECT confidence, novelty FROM targets").fetchall() == [(None, 0.4)]
    rows = db.execute("SELECT measure, ended_at IS NULL FROM alarms ORDER BY id").fetchall()
    assert rows == [("rois", 1), ("confidence", 0)]
    db.close()
