import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr

from cellwatch import __version__
from cellwatch.compute.outcomes import caught
from cellwatch.compute.pipeline import perform
from cellwatch.compute.worker import ModelCache
from cellwatch.core.parameters import ALGORITHM_VERSION, SegmentationParams
from cellwatch.core.segment import segment
from cellwatch.errors import UnreadableImage
from cellwatch.files.digests import fingerprint
from cellwatch.records import CONFIDENCE, ChannelChoice, Job, Outcome, TargetJob, Trouble
from cellwatch.storage.masks.store import (
    check_store,
    read_labels,
    read_plane_facts,
    read_provenance,
)
from cellwatch.zoo.catalog import load_model
from tests.discs import disc_picture

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def job(tmp_path, tiny_model):
    path = tmp_path / "images" / "a.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, disc_picture(0)[0])
    target = TargetJob(
        "cells", tiny_model.card.id, str(tiny_model.path), tiny_model.card.sha256,
        ChannelChoice(), SegmentationParams().to_json(),
    )  # fmt: skip
    store = tmp_path / "masks" / "a.tif.zarr"
    return Job(1, str(path), fingerprint(path), str(store), (target,), also=("tif",))


@pytest.fixture
def models():
    return ModelCache(torch.device("cpu"))


def test_a_job_crosses_a_pipe_unchanged(job):
    assert Job.from_json(job.to_json()) == job
    outcome = Outcome(1, reason="x", trouble=Trouble.FILE)
    assert Outcome.from_json(outcome.to_json()) == outcome


def test_each_label_image_says_how_to_make_it_again(job, models, tmp_path, now):
    perform(job, models, tmp_path / "old", now)

    said = read_provenance(Path(job.store))
    facts = said["targets"]["cells"]
    assert said["cellwatch_version"] == __version__
    assert said["source"]["path"] == job.path
    assert facts["algorithm_version"] == ALGORITHM_VERSION
    network = load_model_at(job.targets[0].model_folder)
    plane = tifffile.imread(said["source"]["path"])[None]
    again = segment(plane, network, SegmentationParams.from_json(facts["params"]))
    np.testing.assert_array_equal(read_labels(Path(job.store), "cells")[0, 0, 0], again.labels)


def load_model_at(folder):
    from cellwatch.zoo.cards import find_model

    return load_model(find_model(folder))


def test_a_store_that_holds_this_very_work_is_adopted(job, models, tmp_path, now):
    first = perform(job, models, tmp_path / "old", now)
    written = (Path(job.store) / "zarr.json").stat().st_mtime_ns

    def no_model(_):
        raise AssertionError("the work was done again")

    again = perform(job, no_model, tmp_path / "old", now)

    assert again.targets == first.targets
    assert (Path(job.store) / "zarr.json").stat().st_mtime_ns == written


def test_a_store_of_a_version_that_measured_otherwise_is_made_again_unless_its_image_moved(
    job, models, tmp_path, now
):
    first = perform(job, models, tmp_path / "old", now)
    place = Path(job.store) / "zarr.json"
    place.write_text(place.read_text().replace(CONFIDENCE, "confidence"))

    def no_model(_):
        raise AssertionError("the work was done again")

    moved = perform(replace(job, former_store=job.store), no_model, tmp_path / "old", now)
    again = perform(job, models, tmp_path / "old", now)

    assert moved.targets[0].confidence is None
    assert again.targets == first.targets
    assert again.targets[0].confidence is not None


def test_other_parameters_replace_the_store_and_keep_the_old(job, models, tmp_path, now):
    perform(job, models, tmp_path / "old", now)
    params = {**job.targets[0].params, "cellprob_threshold": 1.0}

    perform(replace(job, targets=(replace(job.targets[0], params=params),)), models,
            tmp_path / "old", now)  # fmt: skip

    facts = read_provenance(Path(job.store))["targets"]["cells"]
    assert facts["params"]["cellprob_threshold"] == 1.0
    assert len(list((tmp_path / "old").glob("*.zarr.*"))) == 1


def test_what_a_killed_worker_left_is_swept(job, models, tmp_path, now):
    left = Path(job.store).parent / ".a.tif.zarr.tmp-/0123456789ab/a.tif.zarr"
    left.mkdir(parents=True)

    perform(job, models, tmp_path / "old", now)

    assert not left.parent.parent.exists()


def test_a_file_that_changed_in_the_queue_is_refused_and_nothing_is_written(
    job, models, tmp_path, now
):
    tifffile.imwrite(job.path, disc_picture(1)[0])

    with pytest.raises(UnreadableImage, match="changed after it was queued"):
        perform(job, models, tmp_path / "old", now)
    assert not Path(job.store).exists()


def test_troubles_are_told_apart(job, models, tmp_path, now):
    def trouble(changed):
        outcome = caught(changed, lambda: perform(changed, models, tmp_path / "old", now))
        return outcome.trouble, outcome.reason

    target = job.targets[0]
    (tmp_path / "file").write_text("")
    wrong_channel = replace(target, channels=ChannelChoice("GFP"))
    wrong_model = replace(target, model_sha256="0")
    odd = replace(target, params={})

    assert trouble(replace(job, path="/gone.tif")) == (Trouble.MISSING, "the file is gone")
    assert trouble(replace(job, store=str(tmp_path / "file/a.zarr")))[0] == Trouble.SURROUNDINGS
    assert trouble(replace(job, targets=(wrong_model,)))[0] == Trouble.SURROUNDINGS
    assert trouble(replace(job, targets=(wrong_channel,)))[0] == Trouble.FILE
    assert trouble(replace(job, targets=(odd,)))[0] == Trouble.OTHER


@pytest.mark.parametrize(
    ("axes", "stitch", "changed", "unchanged"),
    [("TYX", 0.0, None, 3), ("TYX", 0.0, 1, 2), ("ZYX", 0.3, None, 0), ("TZYX", 0.3, 2, 2)],
)
def test_planes_of_a_series_that_grew_are_taken_as_they_were(
    job, models, tmp_path, now, axes, stitch, changed, unchanged
):
    shape = (-1, 2, 128, 128) if axes == "TZYX" else (-1, 128, 128)
    frames = np.stack([disc_picture(seed)[0] for seed in range(6)])
    target = replace(job.targets[0], params=SegmentationParams(stitch_threshold=stitch).to_json())

    def written(frames, store):
        tifffile.imwrite(job.path, frames.reshape(shape), imagej=True, metadata={"axes": axes})
        kept = replace(job, fingerprint=fingerprint(Path(job.path)), targets=(target,), store=store)
        return perform(kept, models, tmp_path / "old", now)

    written(frames[: 4 if axes == "TZYX" else 3], job.store)
    if changed is not None:
        frames[changed] = frames[5]
    again = written(frames, job.store)
    afresh = written(frames, str(tmp_path / "masks/afresh.tif.zarr"))

    facts, others = (
        read_provenance(Path(store))["targets"]["cells"]
        for store in (job.store, str(tmp_path / "masks/afresh.tif.zarr"))
    )
    assert facts.pop("planes_unchanged") == unchanged
    assert others.pop("planes_unchanged") == 0
    assert facts == others
    assert again.targets == afresh.targets
    assert read_plane_facts(Path(job.store), "cells")[-1].digest


@pytest.mark.parametrize("is_lost", [True, False])
def test_planes_whose_labels_were_edited_or_lost_are_segmented_again(
    job, models, tmp_path, now, is_lost
):
    frames = np.stack([disc_picture(seed)[0] for seed in range(3)])
    for n in (2, 3):
        tifffile.imwrite(job.path, frames[:n], imagej=True, metadata={"axes": "TYX"})
        perform(
            replace(job, fingerprint=fingerprint(Path(job.path))), models, tmp_path / "old", now
        )
        if n == 2 and is_lost:
            chunk = next((Path(job.store) / "labels/cells/0/c").rglob("0"))
            chunk.unlink() if chunk.is_file() else shutil.rmtree(chunk)
        elif n == 2:
            zarr.open_array(job.store, path="labels/cells/0", mode="r+")[1] = 7

    assert read_provenance(Path(job.store))["targets"]["cells"]["planes_unchanged"] == 0
    assert check_store(Path(job.store)).problems == ()


def test_planes_are_segmented_again_where_something_else_is_asked_of_them(
    job, models, tmp_path, now
):
    frames = np.stack([disc_picture(seed)[0] for seed in range(4)])
    for n, params in enumerate([{}, {"cellprob_threshold": 1.0}, {"flow_threshold": 0.0}]):
        tifffile.imwrite(job.path, frames[: n + 2], imagej=True, metadata={"axes": "TYX"})
        asked = SegmentationParams.from_json({**job.targets[0].params, **params}).to_json()
        target = replace(job.targets[0], params=asked)
        changed = replace(job, fingerprint=fingerprint(Path(job.path)), targets=(target,))

        perform(changed, models, tmp_path / "old", now)

        facts = read_provenance(Path(job.store))["targets"]["cells"]
        assert facts["planes_unchanged"] == 0


def test_every_time_point_is_segmented(job, models, tmp_path, now):
    frames = np.stack([disc_picture(seed)[0] for seed in range(3)])
    tifffile.imwrite(job.path, frames, imagej=True, metadata={"axes": "TYX"})
    job = replace(job, fingerprint=fingerprint(Path(job.path)))

    outcome = perform(job, models, tmp_path / "old", now)

    assert outcome.planes == 3
    assert outcome.targets[0].rois == 36
    assert read_labels(Path(job.store), "cells").shape == (1, 3, 1, 128, 128)
    assert tifffile.imread(Path(job.store).with_name("a_masks.tif")).shape == (3, 128, 128)
    assert check_store(Path(job.store)).problems == ()
