import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from cellwatch.errors import LedgerBroken
from cellwatch.storage.backups import KEPT, back_up_if_due, backups, mend, why_damaged
from cellwatch.storage.ledger import open_ledger
from cellwatch.storage.reading import LEDGER


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
