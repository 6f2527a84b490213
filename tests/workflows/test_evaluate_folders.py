"""Folders of pairs that models are scored on."""

import shutil

import numpy as np
import pytest
import tifffile

from cellwatch.compute.models import ready_model
from cellwatch.errors import BadTrainingData
from cellwatch.records import ChannelChoice
from cellwatch.workflows.evaluate import check_tests, scores_on
from tests.discs import disc_picture
from tests.lab import CPU


def write_pairs(folder, *seeds):
    folder.mkdir(parents=True)
    for seed in seeds:
        picture, labels = disc_picture(seed, size=96, n=5)
        tifffile.imwrite(folder / f"{seed}_img.tif", picture)
        tifffile.imwrite(folder / f"{seed}_masks.tif", labels.astype("u2"))
    return folder


def test_a_test_image_is_known_among_the_training_images_by_its_pixels(tmp_path):
    train, test = write_pairs(tmp_path / "a", 1, 2), write_pairs(tmp_path / "b", 3)
    check_tests([train], [test], ChannelChoice())
    pixels = tifffile.imread(train / "2_img.tif")
    tifffile.imwrite(test / "copy_img.tif", pixels, compression="zlib")
    shutil.copy(train / "2_masks.tif", test / "copy_masks.tif")

    with pytest.raises(
        BadTrainingData, match=r"copy_img\.tif is to be scored on, and .*2_img\.tif"
    ):
        check_tests([train], [test], ChannelChoice())


def test_blank_fields_are_not_one_image(tmp_path):
    train, test = write_pairs(tmp_path / "a", 1), write_pairs(tmp_path / "b", 3)
    for folder in (train, test):
        for ending in ("img", "empty"):
            tifffile.imwrite(folder / f"blank_{ending}.tif", np.zeros((96, 96), np.uint16))

    check_tests([train], [test], ChannelChoice())


def test_test_folders_with_the_same_ending_are_scored_apart(tmp_path, tiny_model):
    one = write_pairs(tmp_path / "d1/lab/cells/test", 4)
    two = write_pairs(tmp_path / "d2/lab/cells/test", 5, 6)

    scores = scores_on([one, two], ready_model(tiny_model, CPU), ChannelChoice())

    assert {name: found["images"] for name, found in scores.items()} == {
        "d1/lab/cells/test": 1,
        "d2/lab/cells/test": 2,
    }


def test_a_folder_that_is_named_twice_is_refused(tmp_path, tiny_model):
    one = write_pairs(tmp_path / "cells", 4)

    with pytest.raises(BadTrainingData, match="cells is named twice"):
        scores_on([one, one], ready_model(tiny_model, CPU), ChannelChoice())
