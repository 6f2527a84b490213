import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from cellwatch.errors import ConfigError, LedgerBroken
from cellwatch.storage.ledger.backups import KEPT, back_up_if_due, backups, mend, why_damaged
from cellwatch.storage.ledger.database import open_ledger
from cellwatch.storage.ledger.owner import claim_output
from cellwatch.storage.reports.station import LEDGER


def make_ledger(state, value="kept"):
    db = open_ledger(state)
    db.table("station").upsert({"key": "mark", "value": value}, pk="key")
    db.close()


def mark_in(state):
    with closing(sqlite3.connect(state / LEDGER)) as db:
        return db.execute("SELECT value FROM station WHERE key = 'mark'").fetchone()


def spoil(path, how):
    data = path.read_bytes()
    changed = {
        "truncated": data[: len(data) // 3],
        "nuls": b"\0" * len(data),
        "header": b"not a database at all" + data[21:],
        "pages": data[:4096] + b"\xff" * (len(data) - 4096),
        "empty": b"",
    }[how]
    path.write_bytes(changed)


def test_a_backup_is_made_once_a_day_and_the_last_seven_are_kept(tmp_path, now):
    make_ledger(tmp_path)
    for day in range(KEPT + 3):
        moment = now + timedelta(days=day)
        assert back_up_if_due(tmp_path, moment) is not None
        assert back_up_if_due(tmp_path, moment + timedelta(hours=2)) is None

    kept = backups(tmp_path)
    assert len(kept) == KEPT
    assert all(why_damaged(backup) == "" for backup in kept)


@pytest.mark.parametrize("how", ["truncated", "nuls", "header", "pages", "empty"])
def test_f64_a_damaged_ledger_is_set_aside_and_the_newest_backup_takes_its_place(
    tmp_path, now, how
):
    make_ledger(tmp_path)
    back_up_if_due(tmp_path, now)
    spoil(tmp_path / LEDGER, how)

    told = mend(tmp_path, now)

    assert "the ledger was damaged" in told
    assert "took its place" in told
    assert mark_in(tmp_path) == ("kept",)
    assert len(list((tmp_path / "damaged").glob("*.db"))) == 1
    assert mend(tmp_path, now) == ""


def test_f64_without_a_backup_a_new_ledger_is_begun_and_the_old_one_is_kept(tmp_path, now):
    make_ledger(tmp_path)
    spoil(tmp_path / LEDGER, "nuls")
    with pytest.raises(LedgerBroken, match="start the daemon"):
        open_ledger(tmp_path)

    assert "a new one is made" in mend(tmp_path, now)
    assert not (tmp_path / LEDGER).exists()


def test_a_sound_ledger_and_a_station_that_begins_are_left_alone(tmp_path, now):
    assert mend(tmp_path, now) == ""
    make_ledger(tmp_path)
    before = (tmp_path / LEDGER).read_bytes()

    assert mend(tmp_path, now) == ""
    assert (tmp_path / LEDGER).read_bytes() == before


def test_f64_a_damaged_ledger_never_takes_the_place_of_a_sound_backup(tmp_path, now):
    make_ledger(tmp_path)
    sound = back_up_if_due(tmp_path, now)
    spoil(tmp_path / LEDGER, "pages")

    with pytest.raises(sqlite3.DatabaseError):
        back_up_if_due(tmp_path, now + timedelta(days=1))

    assert backups(tmp_path) == [sound]
    assert list((tmp_path / "backups").iterdir()) == [sound]


def test_f64_files_of_other_names_and_of_the_future_keep_no_backup_from_being_made(tmp_path, now):
    make_ledger(tmp_path)
    back_up_if_due(tmp_path, now + timedelta(days=3650))
    (tmp_path / "backups/cellwatch-before-upgrade.db").write_bytes(b"somebody's")

    assert back_up_if_due(tmp_path, now) is not None
    assert len(backups(tmp_path)) == 2


def test_f91_two_machines_never_share_an_output_folder(tmp_path, monkeypatch):
    for machine, state in (("north", "a"), ("south", "b")):  # the same path on each
        monkeypatch.setattr("socket.gethostname", lambda name=machine: name)
        (tmp_path / "state").mkdir()
        if machine == "north":
            claim_output(tmp_path / "masks", tmp_path / "state")
            claim_output(tmp_path / "masks", tmp_path / "state")
            (tmp_path / "state").rename(tmp_path / state)
        else:
            with pytest.raises(ConfigError, match="state on north"):
                claim_output(tmp_path / "masks", tmp_path / "state")
