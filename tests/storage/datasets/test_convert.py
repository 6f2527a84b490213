import json

import numpy as np
import pytest
import tifffile

from cellwatch.errors import BadTrainingData
from cellwatch.images import load
from cellwatch.storage.datasets.convert import pairs_from_coco, pairs_from_stacks, quarters, subsets
from cellwatch.storage.datasets.pairs import find_pairs, load_pair, read_any_labels
from tests.discs import disc_picture


def write_pair(folder, name, seed):
    folder.mkdir(exist_ok=True)
    picture, labels = disc_picture(seed, size=96, n=6)
    tifffile.imwrite(folder / f"{name}_img.tif", picture)
    tifffile.imwrite(folder / f"{name}_masks.tif", labels.astype(np.uint16))
    return picture, labels


def test_coco_becomes_pairs_that_can_be_trained_on(tmp_path):
    picture, _ = disc_picture(0, size=64, n=3)
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images/a.tif", picture)
    square = [[10, 10, 20, 10, 20, 20, 10, 20]]
    beside = [[16, 10, 30, 10, 30, 20, 16, 20]]
    inside = [[11, 11, 14, 11, 14, 14, 11, 14]]
    annotations = [
        {"id": n, "image_id": 1, "segmentation": s} for n, s in enumerate([square, beside, inside])
    ]
    image = {"id": 1, "file_name": "deep/a.tif", "height": 64, "width": 64}
    data = {"images": [image], "annotations": annotations}
    (tmp_path / "coco.json").write_text(json.dumps(data))

    made = pairs_from_coco(tmp_path / "coco.json", tmp_path / "images", tmp_path / "out")

    assert [(p.name, p.rois, p.removed, p.overlapping_pixels) for p in made] == [("a", 2, 1, 49)]
    image, labels = load_pair(find_pairs(tmp_path / "out")[0])
    np.testing.assert_array_equal(image.pixels.squeeze(), picture)
    # Centroids at x 15 and 23: columns 16 to 18 are nearer to the first, 19 to the second.
    assert labels[12, 15:21].tolist() == [1, 1, 1, 1, 2, 2]


def test_an_image_that_is_not_there_stops_before_anything_is_written(tmp_path):
    data = {"images": [{"id": 1, "file_name": "b.tif", "height": 4, "width": 4}], "annotations": []}
    (tmp_path / "coco.json").write_text(json.dumps(data))

    with pytest.raises(BadTrainingData, match=r"names b.tif, which is not in"):
        pairs_from_coco(tmp_path / "coco.json", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_stacks_of_rois_become_label_images(tmp_path):
    _, labels = write_pair(tmp_path / "in", "a", 0)
    stack = np.stack([(labels == n).astype(np.uint8) for n in range(1, 7)])
    tifffile.imwrite(tmp_path / "in/a_masks.tif", stack)

    made = pairs_from_stacks(tmp_path / "in", tmp_path / "out")

    assert (made[0].rois, made[0].removed) == (6, 0)
    np.testing.assert_array_equal(load_pair(find_pairs(tmp_path / "out")[0])[1], labels)
    np.testing.assert_array_equal(read_any_labels(tmp_path / "in/a_masks.tif"), labels)


def test_planes_with_several_rois_are_no_stack_of_rois(tmp_path):
    _, labels = write_pair(tmp_path / "in", "a", 0)
    tifffile.imwrite(tmp_path / "in/a_masks.tif", np.stack([labels, labels]).astype(np.uint16))

    with pytest.raises(BadTrainingData, match="plane 0 holds several ROIs"):
        pairs_from_stacks(tmp_path / "in", tmp_path / "out")


def test_quarters_put_together_are_the_image(tmp_path):
    picture, labels = write_pair(tmp_path / "in", "a", 3)

    made = quarters(tmp_path / "in", tmp_path / "out")

    assert [p.name for p in made] == ["a_q0", "a_q1", "a_q2", "a_q3"]
    parts = [load_pair(pair) for pair in find_pairs(tmp_path / "out")]
    planes = [image.pixels.squeeze() for image, _ in parts]
    np.testing.assert_array_equal(np.block([planes[:2], planes[2:]]), picture)
    masks = [part > 0 for _, part in parts]
    np.testing.assert_array_equal(np.block([masks[:2], masks[2:]]), labels > 0)
    assert all(part.max() == len(np.unique(part)) - 1 for _, part in parts)


def test_quarters_keep_channel_names_colour_and_pixel_size(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    picture, labels = disc_picture(0, size=64, n=3)
    two = np.stack([picture, picture // 2])
    metadata = {"axes": "CYX", "Channel": {"Name": ["GFP", "DAPI"]}}
    metadata |= {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    tifffile.imwrite(folder / "a_img.ome.tif", two, ome=True, metadata=metadata)
    tifffile.imwrite(folder / "a_masks.tif", labels.astype(np.uint16))
    rgb = np.stack([picture.astype(np.uint8)] * 3, axis=-1)
    tifffile.imwrite(folder / "b_img.tif", rgb, photometric="rgb")
    tifffile.imwrite(folder / "b_masks.tif", labels.astype(np.uint16))

    quarters(folder, tmp_path / "out")

    part = load(tmp_path / "out/a_q0_img.tif")
    assert part.info.channels == ("GFP", "DAPI")
    assert part.info.pixel_size_um == pytest.approx(0.25)
    assert load(tmp_path / "out/b_q0_img.tif").is_rgb


def test_subsets_are_nested_and_differ_by_seed(tmp_path):
    for index in range(5):
        write_pair(tmp_path / "in", f"a{index}", index)

    made = subsets(tmp_path / "in", tmp_path / "out", [0.25, 0.5, 1, 2, 4], 3)

    def names(size, seed):
        return {pair.name for pair in find_pairs(tmp_path / f"out/{size}_images_{seed}")}

    assert len(made) == 15
    for seed in range(3):
        assert names(1, seed) < names(2, seed) < names(4, seed)
        rois = [rois for _, s, rois in made if s == seed]
        assert rois == sorted(rois)
        assert 0 < rois[0] < 6
    assert len({frozenset(names(2, seed)) for seed in range(3)}) > 1
    assert (tmp_path / "out/subsets.csv").read_text().splitlines()[0] == "images,seed,rois"


@pytest.mark.parametrize(("sizes", "told"), [([9], "no subset of 9"), ([0.3], "neither ¼, ½")])
def test_subsets_that_cannot_be_are_refused(tmp_path, sizes, told):
    write_pair(tmp_path / "in", "a", 0)
    with pytest.raises(BadTrainingData, match=told):
        subsets(tmp_path / "in", tmp_path / "out", sizes, 1)


def test_what_is_there_is_not_overwritten(tmp_path):
    write_pair(tmp_path / "in", "a", 0)
    quarters(tmp_path / "in", tmp_path / "out")

    with pytest.raises(BadTrainingData, match="exists; write into an empty folder"):
        quarters(tmp_path / "in", tmp_path / "out")
