"""Files of sets, and files that hold several images: what a daemon knows when it starts again."""

import pytest

from cellwatch.storage.ledger import acquisitions, lookup, set_files
from cellwatch.storage.ledger.database import open_ledger
from cellwatch.watching.settle import Sighting
from tests.storage.ledger.test_queue import arrival

INDEX = Sighting("p/9987.HTD", 500, 7)
PART = Sighting("p/a_B02_s1_w1.TIF", 900, 8)


@pytest.fixture
def db(tmp_path):
    ledger = open_ledger(tmp_path)
    yield ledger
    ledger.close()


def test_a_file_with_images_is_known_when_all_of_them_are_recorded(db, now):
    one = arrival("p/9987.HTD/B02/1")
    acquisitions.enqueue(db, one, "/masks/x", ["cells"], now)
    assert lookup.known_files(db, one.watch) == {}  # the daemon may have ended before the others

    set_files.note(db, one.watch, INDEX, INDEX.path)

    assert lookup.known_files(db, one.watch) == {INDEX.path: INDEX}
    assert set_files.count(db, one.watch, INDEX.path) == 0


def test_a_set_that_has_grown_is_looked_at_again_after_a_restart(db, now):
    watch = arrival("x.tif").watch
    set_files.note(db, watch, INDEX, INDEX.path)

    set_files.forget(db, watch, INDEX.path)
    set_files.note(db, watch, PART, INDEX.path)

    assert lookup.known_files(db, watch) == {PART.path: PART}
    assert set_files.count(db, watch, INDEX.path) == 1
