import ctypes
import logging
import os
import queue
import threading
import time

import numpy as np
import pytest
import tifffile

from cellwatch.watching import watcher
from cellwatch.watching.names import ALWAYS_EXCLUDED, FileFilter
from cellwatch.watching.scanner import is_gone, scan
from cellwatch.watching.settle import Sighting
from cellwatch.watching.watcher import Finished, Gone, Scanned, Unfinished, WatchPlan, watch

PIXELS = np.random.default_rng(0).integers(0, 999, (64, 64)).astype(np.uint16)


class Watching:
    """A watcher in a thread, and what it reported."""

    def __init__(self, root, known=None, notices=None, stood=(), **options):
        plan = WatchPlan(
            root, FileFilter(("**",), ALWAYS_EXCLUDED, (".tif", ".png")), 0.4, **options
        )
        self.events, self._stop, self._notices = [], threading.Event(), notices
        self._stood = stood
        self.when_finished = lambda _: None
        self._thread = threading.Thread(target=self._run, args=(plan, known or {}))

    def _run(self, plan, known):
        for event in watch(plan, self._stop, known, self._notices, self._stood):
            self.events.append(event)
            if isinstance(event, Finished):
                self.when_finished(event.sighting.path)

    def __enter__(self):
        self._thread.start()
        self.until(lambda: self.of(Scanned))
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def of(self, kind):
        return [event for event in list(self.events) if isinstance(event, kind)]

    def finished(self):
        return sorted(event.sighting.path for event in self.of(Finished))

    def until(self, condition, seconds=8.0):
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            time.sleep(0.02)
        return condition()


def test_a_new_file_in_a_new_folder_is_reported_once(tmp_path):
    with Watching(tmp_path) as watching:
        (tmp_path / "day1").mkdir()
        tifffile.imwrite(tmp_path / "day1" / "a.tif", PIXELS)

        assert watching.until(lambda: watching.finished() == ["day1/a.tif"])
        time.sleep(1.0)
        assert watching.finished() == ["day1/a.tif"]


def test_a_file_that_grows_is_reported_when_it_is_whole(tmp_path):
    tifffile.imwrite(tmp_path / "whole.tmp", PIXELS)
    data = (tmp_path / "whole.tmp").read_bytes()
    with Watching(tmp_path) as watching, (tmp_path / "a.tif").open("wb") as file:
        for start in range(0, len(data), 2000):
            file.write(data[start : start + 2000])
            file.flush()
            time.sleep(0.1)
            assert watching.finished() == []
        file.close()

        assert watching.until(lambda: watching.finished() == ["a.tif"])


def test_a_rename_counts_as_an_arrival_and_the_temporary_name_does_not(tmp_path):
    with Watching(tmp_path) as watching:
        tifffile.imwrite(tmp_path / "a.tif.part", PIXELS)
        time.sleep(0.8)
        assert watching.finished() == []
        (tmp_path / "a.tif.part").rename(tmp_path / "a.tif")

        assert watching.until(lambda: watching.finished() == ["a.tif"])


def test_a_truncated_file_waits_with_a_reason_and_is_taken_when_it_is_mended(tmp_path):
    tifffile.imwrite(tmp_path / "whole.tmp", PIXELS)
    data = (tmp_path / "whole.tmp").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[:3000])
    with Watching(tmp_path, interrupted_after_s=1.2) as watching:
        assert watching.until(lambda: watching.of(Unfinished))
        assert watching.of(Unfinished)[0].reason.startswith("the TIFF is cut")
        assert watching.until(lambda: watching.of(Unfinished)[-1].is_given_up)
        assert len(watching.of(Unfinished)) == 2
        (tmp_path / "a.tif").write_bytes(data)

        assert watching.until(lambda: watching.finished() == ["a.tif"])


def test_known_files_are_reported_only_when_they_change(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS)
    status = (tmp_path / "a.tif").stat()
    known = {"a.tif": Sighting("a.tif", status.st_size, status.st_mtime_ns)}
    with Watching(tmp_path, known) as watching:
        time.sleep(1.0)
        assert watching.finished() == []
        os.utime(tmp_path / "a.tif", ns=(1, 1))

        assert watching.until(lambda: watching.finished() == ["a.tif"])


def test_a_folder_that_is_not_there_yet_is_offline_until_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("cellwatch.watching.watcher.OFFLINE_RETRY_S", 0.3)
    with Watching(tmp_path / "later") as watching:
        assert "cannot be listed" in watching.of(Scanned)[0].reason
        (tmp_path / "later").mkdir()
        tifffile.imwrite(tmp_path / "later" / "a.tif", PIXELS)

        assert watching.until(lambda: watching.finished() == ["a.tif"])


def test_lost_events_are_made_good_by_the_scan(tmp_path, monkeypatch):
    monkeypatch.setattr("cellwatch.watching.kernel_events.observe", lambda *_: None)
    monkeypatch.setattr("cellwatch.watching.watcher.RESCAN_S", 0.3)
    with Watching(tmp_path) as watching:
        tifffile.imwrite(tmp_path / "a.tif", PIXELS)

        assert watching.until(lambda: watching.finished() == ["a.tif"])


def test_a_scan_does_not_follow_links_out_of_the_folder_or_take_pipes(tmp_path):
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "out.tif", PIXELS)
    tifffile.imwrite(tmp_path / "in" / "a.tif", PIXELS)
    (tmp_path / "in" / "link.tif").symlink_to(tmp_path / "out.tif")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    os.mkfifo(tmp_path / "in" / "pipe.tif")

    found = scan(tmp_path / "in", FileFilter(("**",), ALWAYS_EXCLUDED, (".tif",)))

    assert [sighting.path for sighting in found] == ["a.tif"]


def test_a_scan_of_a_missing_folder_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(scan(tmp_path / "gone", FileFilter(("**",), (), (".tif",))))


def test_a_file_that_was_gone_when_it_was_to_be_read_is_reported_when_it_is_back(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS)
    notices = queue.SimpleQueue()
    with Watching(tmp_path, notices=notices) as watching:
        assert watching.until(lambda: watching.finished() == ["a.tif"])
        (tmp_path / "a.tif").rename(tmp_path / "aside")
        notices.put("a.tif")
        (tmp_path / "aside").rename(tmp_path / "a.tif")  # the very file

        assert watching.until(lambda: watching.finished() == ["a.tif", "a.tif"], 20.0)


@pytest.mark.timeout(30)
def test_f21_without_an_inotify_instance_the_scan_goes_on(tmp_path, caplog):
    libc = ctypes.CDLL(None, use_errno=True)
    taken = []
    while (handle := libc.inotify_init()) >= 0:  # every one that this user may have
        taken.append(handle)
    try:
        with Watching(tmp_path) as watching:
            tifffile.imwrite(tmp_path / "a.tif", PIXELS)

            assert watching.until(lambda: watching.finished() == ["a.tif"], 15.0)
    finally:
        for handle in taken:
            os.close(handle)
    assert "sysctl fs.inotify.max_user_instances" in caplog.text


def test_f29_links_end_no_scan_and_nothing_is_taken_twice(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS)
    (tmp_path / "self.tif").symlink_to("self.tif")
    (tmp_path / "round").symlink_to(".")
    (tmp_path / "b.tif").symlink_to("a.tif")
    (tmp_path / "nowhere.tif").symlink_to("gone.tif")

    found = list(scan(tmp_path, FileFilter(("**",), ALWAYS_EXCLUDED, (".tif",))))

    assert [sighting.path for sighting in found] == ["a.tif"]


def test_f7_a_file_with_its_old_size_and_time_is_reported_when_its_ctime_is_another(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS)
    status = path.stat()
    known = {"a.tif": Sighting("a.tif", status.st_size, status.st_mtime_ns, status.st_ctime_ns)}
    with Watching(tmp_path, known) as watching:
        time.sleep(0.8)
        assert watching.finished() == []
        tifffile.imwrite(path, PIXELS + 1)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

        assert watching.until(lambda: watching.finished() == ["a.tif"])


@pytest.mark.timeout(40)  # a folder is looked into every ten seconds
@pytest.mark.parametrize("left", [None, "README.txt"])
def test_f25_a_mount_point_without_its_disk_is_offline_and_nothing_is_gone(tmp_path, left):
    root = tmp_path / "scope"
    root.mkdir()
    (root / "a.tif").write_bytes(b"")
    with Watching(root) as watching:
        assert watching.until(lambda: watching.of(Unfinished))
        root.rename(tmp_path / "disk")
        root.mkdir()
        if left:
            (root / left).write_text("mount the share here")
        assert watching.until(lambda: watching.of(Scanned)[-1].reason, 12)

    assert watching.of(Gone) == []
    assert "its disk may not be mounted" in watching.of(Scanned)[-1].reason


def test_f25_a_folder_that_somebody_emptied_is_empty(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"")
    with Watching(tmp_path) as watching:
        assert watching.until(lambda: watching.of(Unfinished))
        (tmp_path / "a.tif").unlink()
        assert watching.until(lambda: watching.of(Gone))

    assert watching.of(Scanned)[-1].reason == ""


def test_a_file_that_became_known_meanwhile_is_not_looked_into_until_it_changes(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS)
    (sighting,) = scan(tmp_path, FileFilter(("**",), (), (".tif",)))
    notices = queue.SimpleQueue()
    looked_into = []

    def look(path):
        looked_into.append(path.name)
        return ""

    tifffile.imwrite(tmp_path / "b.tif", PIXELS)
    with Watching(tmp_path, notices=notices, why_not_whole=look) as watching:
        notices.put(sighting)
        assert watching.until(lambda: watching.finished() == ["b.tif"])
        assert looked_into == ["b.tif"]
        tifffile.imwrite(tmp_path / "a.tif", PIXELS + 1)
        assert watching.until(lambda: watching.finished() == ["a.tif", "b.tif"])


@pytest.mark.timeout(40)
def test_what_is_to_be_seen_as_new_while_it_ripens_is_reported_before_all_is_quiet(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(watcher, "RESCAN_S", 0.4)  # as long as files take to settle
    names = ["a.tif", "z.tif"]
    for name in names:
        tifffile.imwrite(tmp_path / name, PIXELS)
    notices = queue.SimpleQueue()
    with Watching(tmp_path, notices=notices, has_events=False) as watching:
        watching.when_finished = lambda path: notices.put("z.tif") if path == "a.tif" else None
        assert watching.until(lambda: watching.finished() == names)
        quiet = [n for n, e in enumerate(watching.events) if isinstance(e, Scanned) and e.is_quiet]
        last = max(n for n, e in enumerate(watching.events) if isinstance(e, Finished))
    assert not [n for n in quiet if n < last]


def test_a_file_is_gone_only_where_its_folder_can_be_listed(tmp_path):
    (tmp_path / "day1").mkdir()
    (tmp_path / "day1/a.tif").touch()

    assert not is_gone(tmp_path, "day1/a.tif")
    assert is_gone(tmp_path, "day1/b.tif")
    assert is_gone(tmp_path, "day2/deeper/b.tif")
    assert not is_gone(tmp_path / "nowhere", "b.tif")


STOOD = [(Sighting("a.tif", 0, 1), 5.0), (Sighting("given up.tif", 9, 1), float("inf"))]


def test_what_was_not_whole_and_was_deleted_while_nobody_watched_is_gone(tmp_path):
    tifffile.imwrite(tmp_path / "other.tif", PIXELS)
    with Watching(tmp_path, stood=STOOD) as watching:
        assert watching.until(lambda: len(watching.of(Gone)) == 2)

    assert [event.path for event in watching.of(Gone)] == ["a.tif", "given up.tif"]


def test_f25_nothing_is_gone_with_the_disk_on_which_it_lay(tmp_path):
    with Watching(tmp_path, stood=STOOD) as watching:
        assert watching.until(lambda: watching.of(Scanned))

    assert watching.of(Gone) == []
    assert "its disk may not be mounted" in watching.of(Scanned)[-1].reason


def test_on_a_share_a_scan_finds_that_a_file_is_gone_and_that_it_came_back(tmp_path, monkeypatch):
    monkeypatch.setattr(watcher, "RESCAN_S", 0.3)
    tifffile.imwrite(tmp_path / "other.tif", PIXELS)
    (tmp_path / "a.tif").write_bytes(b"II*")
    with Watching(tmp_path, has_events=False, interrupted_after_s=0.5) as watching:
        assert watching.until(lambda: [e for e in watching.of(Unfinished) if e.is_given_up])
        (tmp_path / "a.tif").rename(tmp_path / "a.bak")
        assert watching.until(lambda: watching.of(Gone) == [Gone("a.tif")])
        told = len(watching.of(Unfinished))
        (tmp_path / "a.bak").rename(tmp_path / "a.tif")
        assert watching.until(lambda: len(watching.of(Unfinished)) > told)


def test_f20_when_the_kernel_drops_events_everything_is_looked_at_at_once(tmp_path, caplog):
    with Watching(tmp_path) as watching:
        scans = len(watching.of(Scanned))
        logging.getLogger("watchdog.observers.inotify_c").warning(
            "Inotify queue overflowed; filesystem events were lost"  # as watchdog says it
        )
        assert watching.until(lambda: len(watching.of(Scanned)) > scans, seconds=3)
    assert "the kernel dropped events" in caplog.text


def test_the_time_that_a_file_stood_still_goes_on_with_the_next_daemon(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"")
    status = (tmp_path / "a.tif").stat()
    before = Sighting("a.tif", 0, status.st_mtime_ns, status.st_ctime_ns)

    with Watching(tmp_path, stood=[(before, 599.0)], interrupted_after_s=600.0) as watching:
        assert watching.until(lambda: any(event.is_given_up for event in watching.of(Unfinished)))
