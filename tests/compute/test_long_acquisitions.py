"""An acquisition of many planes is read, segmented and written one plane at a time."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellwatch.compute import acquisition, memory
from cellwatch.compute.outcomes import caught
from cellwatch.compute.pipeline import compute, perform
from cellwatch.core.parameters import SegmentationParams
from cellwatch.errors import OutputError, StillUnwritten, UnreadableImage
from cellwatch.files.digests import fingerprint
from cellwatch.images import planes
from cellwatch.records import ImageInfo, Trouble
from cellwatch.storage.masks.label_tiff import beside
from cellwatch.storage.masks.store import check_store, read_labels, read_provenance
from tests.compute.test_worker import job, models
from tests.discs import disc_picture

__all__ = ["job", "models"]  # the fixtures
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def lapse(job):
    frames = np.stack([disc_picture(n, size=96, n=4)[0] for n in range(6)])
    frames = frames.reshape(3, 2, 96, 96)  # T, Z, Y, X
    tifffile.imwrite(job.path, frames, imagej=True, metadata={"axes": "TZYX"})
    return replace(job, fingerprint=fingerprint(Path(job.path)), also=("tif", "csv"))


@pytest.fixture
def by_planes(monkeypatch):
    monkeypatch.setattr(memory, "PIXELS_IN_MEMORY", 0)
    monkeypatch.setattr(acquisition, "LABELS_IN_MEMORY", 0)


def elsewhere(job, name):
    return replace(job, store=str(Path(job.store).parents[1] / name / "a.tif.zarr"))


def open_files(path):
    return [fd for fd in Path("/proc/self/fd").iterdir() if os.path.realpath(fd) == str(path)]


@pytest.mark.parametrize("include_image", [True, False])
@pytest.mark.parametrize("stitch", [0.0, 0.25])
def test_read_plane_by_plane_it_has_the_same_masks(
    lapse, models, tmp_path, now, monkeypatch, include_image, stitch
):
    params = SegmentationParams(stitch_threshold=stitch).to_json()
    lapse = replace(
        lapse, targets=(replace(lapse.targets[0], params=params),), include_image=include_image
    )
    whole = perform(lapse, models, tmp_path / "old", now)
    monkeypatch.setattr(memory, "PIXELS_IN_MEMORY", 0)
    monkeypatch.setattr(acquisition, "LABELS_IN_MEMORY", 0)
    long = elsewhere(lapse, "long")

    outcome = perform(long, models, tmp_path / "old", now)

    assert outcome.targets == whole.targets
    assert outcome.planes == 6
    first, second = Path(lapse.store), Path(long.store)
    np.testing.assert_array_equal(read_labels(second, "cells"), read_labels(first, "cells"))
    assert check_store(second).problems == ()
    names = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    for name in names:
        if name.name != "zarr.json":  # which has its seconds
            assert (first / name).read_bytes() == (second / name).read_bytes(), name
    for place in (beside, lambda store: store.with_name("a_measurements.csv")):
        assert place(second).read_bytes() == place(first).read_bytes()
    assert open_files(Path(lapse.path)) == []


def test_one_that_is_written_to_before_it_is_published_is_not(
    lapse, models, tmp_path, now, by_planes
):
    found = compute(lapse, models, tmp_path / "old", now)
    tifffile.imwrite(lapse.path, np.zeros((3, 2, 96, 96), np.uint16))

    with pytest.raises(UnreadableImage, match="changed while it was read"):
        found.publish()

    assert not Path(lapse.store).exists()
    assert open_files(Path(lapse.path)) == []


def test_a_failure_lets_the_file_go(lapse, models, tmp_path, now, by_planes):
    def no_model(_):
        raise OSError("the model's disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        compute(lapse, no_model, tmp_path / "old", now)

    assert open_files(Path(lapse.path)) == []


@pytest.mark.parametrize("when", ["while it is segmented", "while it is published"])
def test_a_share_that_fails_while_it_is_read_is_waited_for(
    lapse, models, tmp_path, now, by_planes, monkeypatch, when
):
    lapse = replace(lapse, include_image=True)

    def broken(*_):
        raise OSError(5, "Input/output error")

    def work():
        found = compute(lapse, models, tmp_path / "old", now)
        monkeypatch.setattr(planes.OpenImage, "_page", broken)
        return found.publish()

    if when == "while it is segmented":
        monkeypatch.setattr(planes.OpenImage, "_page", broken)
    outcome = caught(lapse, work)

    assert outcome.trouble == Trouble.SURROUNDINGS  # it is tried again by itself
    assert outcome.reason == "it cannot be read now: Input/output error"
    assert not Path(lapse.store).exists()
    assert open_files(Path(lapse.path)) == []


def test_a_disk_without_room_for_the_labels_is_the_output_folders_fault(
    lapse, models, tmp_path, now, by_planes, monkeypatch
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)

    with pytest.raises(OutputError, match="No space left"):
        perform(lapse, models, tmp_path / "old", now)
    assert not Path(lapse.store).exists()


def test_an_all_black_lapse_is_looked_at_again(lapse, models, tmp_path, now, by_planes):
    tifffile.imwrite(lapse.path, np.zeros((3, 2, 96, 96), np.uint16), imagej=True)
    black = replace(lapse, fingerprint=fingerprint(Path(lapse.path)), are_zeros_final=False)

    with pytest.raises(StillUnwritten):
        perform(black, models, tmp_path / "old", now)


def test_the_memory_of_a_long_one_does_not_grow_with_its_planes():
    def wanted(n):
        return memory.needed(ImageInfo("a.tif", "tiff", "TYX", (n, 2048, 2048), "uint16"))

    assert wanted(40) <= wanted(400) == wanted(4000)
    assert memory.is_read_by_planes(ImageInfo("a.tif", "tiff", "TYX", (400, 2048, 2048), "uint16"))
    wide = ImageInfo("a.tif", "tiff", "CYX", (4, 20_000, 20_000), "uint16")
    assert not memory.is_read_by_planes(wide)  # one plane


def test_what_a_long_one_says_of_itself_is_what_a_short_one_says(
    lapse, models, tmp_path, now, by_planes
):
    perform(lapse, models, tmp_path / "old", now)

    said = read_provenance(Path(lapse.store))
    assert (said["planes"], said["targets"]["cells"]["shape"]) == (6, [1, 3, 2, 96, 96])
