"""Whose turn it is: urgent images first, folders in turn, and a large queue costs nothing."""

import time
from datetime import timedelta

import pytest

from cellwatch.records import ImageInfo, Outcome, Trouble
from cellwatch.storage.ledger import acquisitions, queue, steering
from cellwatch.storage.ledger.database import open_ledger, transaction
from cellwatch.storage.ledger.turns import Turn

LEASE = timedelta(minutes=5)


@pytest.fixture
def db(tmp_path):
    ledger = open_ledger(tmp_path)
    yield ledger
    ledger.close()


def enqueue(db, now, *names, watch="a"):
    for name in names:
        path = f"/{watch}/{name}"
        arrival = acquisitions.Arrival(watch, path, name, "e", path, 10, 20, ImageInfo(path))
        acquisitions.enqueue(db, arrival, f"/out{path}.zarr", ["cells"], now)


class Supervisor:
    """Claims as the daemon does, and remembers which folder was served last."""

    def __init__(self, db, now, **folders):
        self.db, self.now, self.folders, self.served, self.n = db, now, folders, {}, 0

    def claim(self, **options):
        turns = [Turn(w, *how, served=self.served.get(w, 0)) for w, how in self.folders.items()]
        lease = {"device": "cpu", "worker_pid": 1, "now": self.now, "lease": LEASE}
        claim = queue.claim(self.db, **lease, folders=turns, **options)
        if claim is None:
            return None
        self.n += 1
        self.served[claim.watch] = self.n
        return claim.path

    def claims(self, n):
        return [self.claim() for _ in range(n)]


def test_folders_take_turns_though_one_has_a_backlog(db, now):
    enqueue(db, now, "0", "1", "2", "3")
    enqueue(db, now, "0", "1", watch="b")

    order = Supervisor(db, now, a=(), b=()).claims(7)

    assert order == ["/a/0", "/b/0", "/a/1", "/b/1", "/a/2", "/a/3", None]


def test_a_folder_with_a_higher_priority_goes_first_and_a_bumped_image_before_it(db, now):
    enqueue(db, now, "0", "1")
    enqueue(db, now, "0", "1", watch="b")
    steering.put_first(db, [2])

    order = Supervisor(db, now, a=(), b=(5,)).claims(4)

    assert order == ["/a/1", "/b/0", "/b/1", "/a/0"]


def test_a_folder_may_be_segmented_newest_first(db, now):
    enqueue(db, now, "0", "1", "2")
    steering.put_first(db, [1])

    assert Supervisor(db, now, a=(0, True)).claims(3) == ["/a/0", "/a/2", "/a/1"]


def test_images_of_a_paused_or_unwatched_folder_have_no_turn(db, now):
    enqueue(db, now, "0")
    enqueue(db, now, "0", watch="b")
    enqueue(db, now, "0", watch="gone")
    steering.pause(db, "a", "anna", now)
    supervisor = Supervisor(db, now, a=(), b=())

    assert queue.set_aside_unwatched(db, ["a", "b"], now) == 1
    assert not queue.has_work(db, [Turn("a")])
    assert queue.has_work(db, [Turn("a"), Turn("b")])
    assert supervisor.claims(2) == ["/b/0", None]
    reason = "watched folder 'gone' is not in the configuration any more"
    assert db.table("acquisitions").get(3)["reason"] == reason


def test_what_is_to_be_tried_again_waits_for_its_time_and_goes_after_new_images(db, now):
    enqueue(db, now, "0")
    supervisor = Supervisor(db, now, a=())
    supervisor.claim()
    queue.fail(db, Outcome(1, reason="why", trouble=Trouble.OTHER), now)
    enqueue(db, now, "1")

    assert supervisor.claims(2) == ["/a/1", None]
    supervisor.now = now + timedelta(minutes=2)
    assert supervisor.claim() == "/a/0"


def test_masks_are_moved_before_others_are_written_to_their_place(db, now):
    enqueue(db, now, "0", "1")
    db.table("acquisitions").update(2, {"former_store": "/out/a/0.zarr", "compared_with": "s"})

    assert Supervisor(db, now, a=()).claims(2) == ["/a/1", "/a/0"]


def test_a_claim_from_a_hundred_thousand_takes_no_time(db, now):
    with transaction(db):
        db.execute(
            """
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
            INSERT INTO acquisitions (watch, path, relative_path, experiment, fingerprint, size,
                                      mtime_ns, state, state_since, arrived_at, store)
            SELECT CASE WHEN i % 2 THEN 'a' ELSE 'b' END, i, i, 'e', i, 1, 1, 'queued', ?, ?, i
            FROM n
            """,
            [now.isoformat(), now.isoformat()],
        )
    steering.pause(db, "b", "anna", now)
    supervisor = Supervisor(db, now, a=(), b=())
    began = time.process_time()

    supervisor.claims(20)
    supervisor.claim(is_newest=True)
    queue.has_work(db, [Turn("b")])

    assert time.process_time() - began < 0.5
