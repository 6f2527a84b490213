import numpy as np
import pytest
import tifffile

from cellwatch.errors import BadTrainingData
from cellwatch.files.stems import masks_name, stem_of
from cellwatch.storage.datasets.pairs import find_pairs, load_pair
from cellwatch.storage.masks.label_tiff import write_label_tiff


def write(folder, image="a_img.tif", masks="a_masks.tif", pixels=None, labels=None):
    pixels = np.zeros((20, 24), np.uint8) if pixels is None else pixels
    labels = np.ones((20, 24), np.uint16) if labels is None else labels
    if image:
        tifffile.imwrite(folder / image, pixels)
    if masks:
        tifffile.imwrite(folder / masks, labels)
    return folder


@pytest.mark.parametrize("image", ["a_img.tif", "a.tif", "a.ome.tif", "a_img.tiff"])
def test_images_and_masks_are_matched_by_their_stem(tmp_path, image):
    pair = find_pairs(write(tmp_path, image))[0]

    assert (pair.name, pair.image.name, pair.masks.name) == ("a", image, "a_masks.tif")
    assert load_pair(pair)[1].dtype == np.int32


def test_an_image_without_masks_is_named(tmp_path):
    write(tmp_path)
    write(tmp_path, "b_img.tif", None)

    with pytest.raises(BadTrainingData, match=r"1 image has no masks: b_img\.tif"):
        find_pairs(tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones((10, 10), np.uint16), r"shape \(10, 10\), its image has \(20, 24\)"),
        (np.ones((20, 24), np.float32), "holds floats"),
        (-np.ones((20, 24), np.int16), "labels from -1"),
        (np.ones((20, 24, 3), np.uint8), "no plain label image"),
    ],
)
def test_masks_that_do_not_fit_are_refused(tmp_path, labels, message):
    pair = find_pairs(write(tmp_path, labels=labels))[0]

    with pytest.raises(BadTrainingData, match=message):
        load_pair(pair)


def test_an_empty_folder_and_a_missing_one_say_so(tmp_path):
    with pytest.raises(BadTrainingData, match="holds no image"):
        find_pairs(tmp_path)
    with pytest.raises(BadTrainingData, match="there is no folder"):
        find_pairs(tmp_path / "gone")


def test_two_images_of_one_stem_are_refused(tmp_path):
    write(tmp_path)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 24), np.uint8))

    with pytest.raises(BadTrainingData, match="share the name 'a'"):
        find_pairs(tmp_path)


def test_label_files_widen_when_there_are_many_rois(tmp_path):
    labels = np.arange(300 * 300, dtype=np.int32).reshape(300, 300)
    for name, part, dtype in (("a", labels % 60_000, np.uint16), ("b", labels, np.uint32)):
        write_label_tiff(tmp_path / f"{name}.tif", part, tmp_path / "old")
        read = tifffile.imread(tmp_path / f"{name}.tif")
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, part)


def test_the_stem_rule():
    assert stem_of("x_img.ome.tiff") == "x"
    assert stem_of("no extension") == "no extension"
    assert masks_name("x_img.tif", "nuclei") == "x__nuclei_masks.tif"
