"""Masks are made again from what they say of themselves, and differences are told."""

from dataclasses import replace
from pathlib import Path

import pytest
import tifffile
import torch
import zarr

from cellwatch.compute.pipeline import perform
from cellwatch.compute.worker import ModelCache
from cellwatch.core.parameters import SegmentationParams
from cellwatch.errors import UnknownModel, UsageError
from cellwatch.images.identity import fingerprint
from cellwatch.records import ChannelChoice, Job, TargetJob
from cellwatch.workflows.reproduce import reproduce
from cellwatch.zoo.catalog import copy_model
from tests.discs import disc_picture

pytestmark = pytest.mark.timeout(60)
CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path, tiny_model, now):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, disc_picture(0)[0])
    copy_model(tiny_model, tmp_path / "zoo/mine", "mine")
    params = replace(SegmentationParams(), cellprob_threshold=0.5).to_json()
    card = tiny_model.card
    target = TargetJob(
        "cells", "mine", str(tmp_path / "zoo/mine"), card.sha256, ChannelChoice(), params
    )
    job = Job(1, str(path), fingerprint(path), str(tmp_path / "a.tif.zarr"), (target,))
    perform(job, ModelCache(CPU), tmp_path / "old", now)
    return Path(job.store)


def test_masks_are_made_again_pixel_for_pixel(store, tmp_path):
    (found,) = reproduce(store, tmp_path / "zoo", CPU)

    assert found.is_equal
    assert (found.target, found.model, found.ap50) == ("cells", "mine", 1.0)
    assert found.rois_before == found.rois_now > 0


def test_masks_that_were_edited_differ(store, tmp_path):
    labels = zarr.open_array(store / "labels/cells/0")
    kept = labels[:]
    kept[kept == 1] = 0
    labels[:] = kept

    (found,) = reproduce(store, tmp_path / "zoo", CPU)

    assert not found.is_equal
    assert found.rois_before == found.rois_now - 1
    assert 0 < found.ap50 < 1


def test_an_image_that_was_moved_is_named_and_another_is_refused(store, tmp_path):
    moved = (tmp_path / "a.tif").rename(tmp_path / "b.tif")

    assert reproduce(store, tmp_path / "zoo", CPU, moved)[0].is_equal
    tifffile.imwrite(moved, disc_picture(1)[0])
    with pytest.raises(UsageError, match="its content differs"):
        reproduce(store, tmp_path / "zoo", CPU, moved)


def test_another_model_of_the_same_name_is_refused(store, tmp_path, tiny_model):
    card = (tmp_path / "zoo/mine/card.json").read_text()
    other = card.replace(tiny_model.card.sha256, "0" * 64)
    (tmp_path / "zoo/mine/card.json").write_text(other)

    with pytest.raises(
        UnknownModel, match=r"which made these masks, is not here; here are mine \(000000000000\)"
    ):
        reproduce(store, tmp_path / "zoo", CPU)
    others = [str(tiny_model.path)]
    assert reproduce(store, tmp_path / "zoo", CPU, others=others)[0].is_equal
