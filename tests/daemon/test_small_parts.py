"""Deadlines, the inbox, summaries, memory: small parts that the daemon stands on."""

import logging
import os
import threading
import time

import numpy as np
import pytest

from cellwatch.compute import memory
from cellwatch.compute.deadlines import FIRST_RATE, LEAST_S, Deadlines
from cellwatch.compute.device import is_out_of_memory
from cellwatch.core.labels import count_rois
from cellwatch.daemon.event_queue import EventQueue
from cellwatch.daemon.inspector import Inspector
from cellwatch.daemon.summaries import SINGLY, Summaries
from cellwatch.errors import TooLittleMemory
from cellwatch.records import ImageInfo, TargetResult


def test_f54_a_deadline_follows_the_pixels_and_the_rate_of_this_machine():
    deadlines = Deadlines()
    assert deadlines.allowed(64 * 64, 1000) < 70
    assert deadlines.allowed(4096 * 4096, 0) > 20 * 4096 * 4096 * FIRST_RATE

    for _ in range(30):
        deadlines.learn(1_000_000, 2.0)

    assert deadlines.allowed(1_000_000, 0) == pytest.approx(LEAST_S + 20 * 2.0)


def test_x2_what_a_worker_says_does_not_wait_behind_arrivals():
    inbox = EventQueue(room=5)
    stop = threading.Event()
    for n in range(5):
        inbox.put(n, stop)
    inbox.put_first("done")

    assert inbox.urgent() == "done"
    inbox.drop_urgent()
    assert list(inbox.ordinary(3)) == [0, 1, 2]
    inbox.drop(2)
    assert list(inbox.ordinary(9)) == [2, 3, 4]


def test_f92_a_full_inbox_makes_its_watchers_wait_until_the_end():
    inbox, stop = EventQueue(room=1), threading.Event()
    inbox.put(0, stop)
    waiting = threading.Thread(target=inbox.put, args=(1, stop))
    waiting.start()
    time.sleep(0.1)
    assert waiting.is_alive()

    inbox.drop(1)

    waiting.join(2.0)
    assert list(inbox.ordinary(9)) == [1]


def test_f93_five_hundred_failing_images_are_a_few_lines(caplog):
    summaries = Summaries(logging.getLogger("cellwatch.test"))
    with caplog.at_level(logging.INFO, "cellwatch.test"):
        for n in range(500):
            summaries.say(logging.WARNING, "images that are failed", f"{n}.tif is failed", 0.1 * n)
        summaries.sum_up(61.0)

    assert len(caplog.records) == SINGLY + 2
    assert "490 more images that are failed in the last minute; the last: 499" in caplog.text


def test_f39_an_image_that_no_memory_holds_is_refused_before_it_is_decoded(monkeypatch):
    info = ImageInfo("a.tif", axes="YX", shape=(40_000, 40_000), dtype="uint8")
    monkeypatch.setattr(memory, "all_memory", lambda: 24 << 30)
    monkeypatch.setattr(memory, "free_memory", lambda: 20 << 30)
    with pytest.raises(TooLittleMemory, match=r"this machine has 19\.2 GiB for it") as found:
        memory.require_memory(info)
    assert found.value.is_hopeless

    monkeypatch.setattr(memory, "free_memory", lambda: 1 << 30)
    with pytest.raises(TooLittleMemory, match="are free now") as found:
        memory.require_memory(ImageInfo("a.tif", axes="YX", shape=(4096, 4096), dtype="uint8"))
    assert not found.value.is_hopeless


def test_f39_decoding_more_than_was_declared_is_an_error_and_no_death(monkeypatch):
    monkeypatch.setattr(memory, "HEADROOM", 64 << 20)
    info = ImageInfo("a.tif", axes="YX", shape=(64, 64), dtype="uint8")

    with pytest.raises(MemoryError), memory.decoding_within(info):
        np.ones(1 << 30, np.uint8)

    assert np.ones(1 << 28, np.uint8).all()


def test_f58_memory_that_runs_out_without_a_death_is_known():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert is_out_of_memory(RuntimeError("can't start new thread"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_f41_a_header_that_takes_too_long_or_too_much_ends_the_inspector_alone(tmp_path):
    inspector = Inspector(seconds=1.0)
    os.mkfifo(tmp_path / "a.tif")

    began = time.monotonic()
    reason = inspector.why_not_whole(tmp_path / "a.tif")

    inspector.close()
    assert "took longer than 1 s to read" in reason
    assert time.monotonic() - began < 5


def test_rois_that_were_joined_over_z_count_once_and_others_say_in_how_many_planes():
    labels = np.zeros((1, 1, 3, 8, 8), np.int32)
    labels[0, 0, :, 2:4, 2:4] = 1
    labels[0, 0, 1, 6:, 6:] = 2

    assert count_rois(labels, is_joined=True) == 2
    assert count_rois(labels) == 4
    told = TargetResult("cells", 4, 30.0, planes_apart=3).counted
    assert told == "4 cells in 3 planes, not joined"
