import json

import numpy as np
import pytest

from cellwatch.errors import BadTrainingData
from cellwatch.storage.datasets.coco import polygon_mask, read_coco, run_length_mask


def placed(roi, shape):
    whole = np.zeros(shape, bool)
    height, width = roi.pixels.shape
    whole[roi.top : roi.top + height, roi.left : roi.left + width] = roi.pixels
    return whole


def test_a_rectangle_fills_the_pixels_whose_centres_it_holds():
    roi = polygon_mask([[2, 1, 5, 1, 5, 4, 2, 4]], (8, 9))

    expected = np.zeros((8, 9), bool)
    expected[1:4, 2:5] = True
    np.testing.assert_array_equal(placed(roi, (8, 9)), expected)


def test_a_polygon_has_the_area_that_it_should():
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    points = np.stack([50 + 30 * np.cos(angle), 40 + 20 * np.sin(angle)], axis=1)

    roi = polygon_mask([points.ravel().tolist()], (80, 100))

    assert roi.pixels.sum() == pytest.approx(np.pi * 30 * 20, rel=0.01)


def test_what_lies_outside_the_image_is_cut():
    roi = polygon_mask([[-5, -5, 3, -5, 3, 30, -5, 30]], (10, 10))

    assert (roi.top, roi.left, roi.pixels.shape) == (0, 0, (10, 3))
    assert roi.pixels.all()


def test_parts_that_overlap_are_one_roi_without_a_hole():
    roi = polygon_mask([[0, 0, 6, 0, 6, 6, 0, 6], [3, 3, 9, 3, 9, 9, 3, 9]], (9, 9))

    assert roi.pixels.sum() == 36 + 36 - 9


def test_crowds_are_counted_and_are_no_rois(tmp_path):
    images = read_coco(write(tmp_path / "coco.json", [SQUARE, {**SQUARE, "id": 2, "iscrowd": 1}]))

    assert (len(images[0].rois), images[0].crowds) == (1, 1)


def test_an_image_without_a_size_is_no_coco_image(tmp_path):
    data = {"images": [{"id": 1, "file_name": "a.tif"}], "annotations": []}
    (tmp_path / "x.json").write_text(json.dumps(data))

    with pytest.raises(BadTrainingData, match="not a COCO annotation file"):
        read_coco(tmp_path / "x.json")


def packed(runs):
    """COCO's own packing, written from its description."""
    text = ""
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            text += chr((bits | (0x20 if more else 0)) + 48)
    return text


@pytest.mark.parametrize("seed", range(6))
def test_run_lengths_plain_and_packed_are_the_mask(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((37, 23)) > 0.6
    mask[10:30, 4:9] = True
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    runs = ([0] if flat[0] else []) + runs

    for counts in (runs, packed(runs)):
        np.testing.assert_array_equal(placed(run_length_mask(counts, mask.shape), mask.shape), mask)


@pytest.mark.parametrize("counts", [[3, 4], "zzz", "~~"])
def test_run_lengths_that_do_not_fit_are_refused(counts):
    with pytest.raises(ValueError, match="run lengths"):
        run_length_mask(counts, (5, 5))


def write(path, annotations, **image):
    data = {
        "images": [{"id": 7, "file_name": "a.tif", "height": 20, "width": 30, **image}],
        "annotations": annotations,
    }
    path.write_text(json.dumps(data))
    return path


SQUARE = {"id": 1, "image_id": 7, "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]]}


def test_a_file_gives_each_image_with_its_rois(tmp_path):
    images = read_coco(write(tmp_path / "coco.json", [SQUARE, {**SQUARE, "id": 2}]))

    assert [(i.file_name, i.shape, len(i.rois)) for i in images] == [("a.tif", (20, 30), 2)]


def test_annotations_in_a_mapping_are_read_as_livecell_has_them(tmp_path):
    assert len(read_coco(write(tmp_path / "coco.json", {"1": SQUARE}))[0].rois) == 1


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        ({**SQUARE, "image_id": 8}, "names image 8"),
        ({**SQUARE, "segmentation": [[1, 1, 2, 2]]}, "at least three points"),
        ({**SQUARE, "segmentation": None}, "at least three points"),
        ({**SQUARE, "segmentation": {"size": [5, 5], "counts": [25]}}, "of size"),
        ({**SQUARE, "segmentation": {"size": [20, 30], "counts": [25]}}, "add up to 25"),
    ],
)
def test_a_wrong_annotation_is_named(tmp_path, annotation, told):
    with pytest.raises(BadTrainingData, match=told):
        read_coco(write(tmp_path / "coco.json", [annotation]))


def test_something_else_is_no_coco_file(tmp_path):
    (tmp_path / "x.json").write_text("[1, 2]")

    with pytest.raises(BadTrainingData, match="not a COCO annotation file"):
        read_coco(tmp_path / "x.json")
