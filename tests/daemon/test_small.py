"""The small parts of the daemon: device, pipe, sd_notify, simulation, process marks."""

import io
import json
import os
import queue
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cellwatch.compute import executor
from cellwatch.compute.device import choose_device, keep_freed_memory
from cellwatch.compute.executor import process_started
from cellwatch.compute.pipe import receive, send
from cellwatch.daemon.service.sdnotify import notify
from cellwatch.errors import DeviceError, UsageError
from cellwatch.images import load, n_planes
from cellwatch.images.identity import content_sha256
from cellwatch.images.whole import why_not_whole
from cellwatch.workflows.simulate import (
    SCENARIOS,
    Optics,
    expose,
    render_cells,
    simulate,
    write_manifest,
)


def test_a_device_that_is_not_there_is_an_error_not_another_device():
    assert choose_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        assert choose_device("auto").type == "cpu"
        with pytest.raises(DeviceError, match="no CUDA device"):
            choose_device("cuda")


def test_the_c_library_takes_the_memory_settings():
    assert keep_freed_memory()


def test_messages_cross_a_pipe_and_a_broken_one_is_the_end():
    stream = io.BytesIO()
    send(stream, {"a": "æ"})
    send(stream, {"b": 2})
    data = stream.getvalue()

    whole, cut = io.BytesIO(data), io.BytesIO(data[:-1])

    assert [receive(whole) for _ in range(3)] == [{"a": "æ"}, {"b": 2}, None]
    assert [receive(cut) for _ in range(2)] == [{"a": "æ"}, None]


def test_f24_a_worker_that_the_kernel_holds_back_is_given_up_and_its_end_is_heard_later(
    tmp_path, monkeypatch
):
    # No process of a test can be made to survive SIGKILL, as one that waits for a share does.
    said = queue.SimpleQueue()
    worker = executor.Worker("cpu", tmp_path, said.put)
    end, worker._process.kill = worker._process.kill, lambda: None
    monkeypatch.setattr(executor, "ENDS_WITHIN_S", 0.1)
    worker.give_up_if_stuck(time.monotonic() + 60)
    assert not worker.is_stuck

    worker.kill()
    worker.give_up_if_stuck(time.monotonic() + 1)
    worker.give_up_if_stuck(time.monotonic() + 2)

    while said.get(timeout=30).message is not None:
        pass
    assert worker.is_stuck
    assert worker.how_it_ended() == executor.STUCK
    end()
    while said.get(timeout=30).message is not None:
        pass
    assert worker.how_it_ended() == "SIGKILL"
    worker.close()


def test_systemd_is_told_when_it_listens(tmp_path, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "s"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "s"))

        assert notify("READY=1")
        assert systemd.recv(100) == b"READY=1"


def test_a_process_is_known_by_its_start():
    assert process_started(os.getpid()) == process_started(os.getpid()) is not None
    assert process_started(2**22 - 1) is None


WITH_SIZE = ("burst", "slow", "rename", "timelapse", "companions", "zarr", "folder", "pause")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_simulated_images_are_as_the_manifest_says(tmp_path, scenario):
    images = simulate(scenario, tmp_path / "to", 2, 96, seed=1, pause_s=0.01)
    write_manifest(tmp_path / "m.json", scenario, 1, images)

    listed = json.loads((tmp_path / "m.json").read_text())
    assert (listed["seed"], listed["scenario"]) == (1, scenario)
    assert len({entry["path"] for entry in listed["images"]}) == len(images) > 0
    for entry in images:
        path = Path(entry.path)
        assert entry.sha256 == content_sha256(path)
        if entry.fate == "aborted":
            assert why_not_whole(path)
            continue
        image = load(path)
        assert why_not_whole(path) == ""
        assert n_planes(image) == entry.planes
        assert image.pixels.any()
        if scenario in WITH_SIZE:
            assert image.info.pixel_size_um == pytest.approx(0.65)


def test_equal_seeds_simulate_equal_images(tmp_path):
    first, second = (simulate("burst", tmp_path / n, 1, 96, seed=3)[0] for n in "ab")

    assert load(tmp_path / first.path).pixels.sum() == load(tmp_path / second.path).pixels.sum()


def test_an_unknown_scenario_lists_the_known(tmp_path):
    with pytest.raises(UsageError, match="burst, slow, rename, timelapse, pause"):
        simulate("confocal", tmp_path, 1, 96, 0)


def test_rendered_nuclei_are_brighter_than_what_lies_between():
    rng = np.random.default_rng(0)
    bright, labels = render_cells(256, Optics(), rng)
    image = expose(bright, Optics(), rng)

    assert labels.max() > 10
    assert np.median(image[labels > 0]) > 1.5 * np.median(image[labels == 0])
