"""Public sets: fetched from a server on this machine, or brought, and written as pairs."""

import json
from io import BytesIO
from zipfile import ZipFile

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from cellwatch.errors import BadTrainingData, DownloadError, UsageError
from cellwatch.storage.datasets.fetch import SETS, fetch_set
from cellwatch.storage.datasets.pairs import find_pairs, load_pair
from tests.zoo.mirror import running_mirror

GREY = np.arange(32 * 40).reshape(32, 40).astype(np.uint8)


@pytest.fixture
def mirror():
    with running_mirror() as server:
        yield server


def png(array):
    held = BytesIO()
    Pillow.fromarray(array).save(held, "png")
    return held.getvalue()


def tif(array):
    held = BytesIO()
    tifffile.imwrite(held, array)
    return held.getvalue()


def archive(members):
    held = BytesIO()
    with ZipFile(held, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return held.getvalue()


def square(y, x, side=6, value=255):
    mask = np.zeros(GREY.shape, np.uint8)
    mask[y : y + side, x : x + side] = value
    return mask


def bowl():
    rgba = np.dstack([GREY] * 3 + [np.full_like(GREY, 255)])
    return archive(
        {
            "ab12/images/ab12.png": png(rgba),
            "ab12/masks/one.png": png(square(2, 2)),
            "ab12/masks/two.png": png(square(2, 8)),  # touches the first
            "__MACOSX/ab12/images/._ab12.png": b"desktop",
        }
    )


def test_a_set_is_fetched_converted_and_pinned(mirror, tmp_path):
    mirror.files["stage1_train.zip"] = bowl()

    made = fetch_set("bbbc038", tmp_path / "out", tmp_path / "kept", mirror=mirror.address)

    assert [(pair.name, pair.rois) for pair in made] == [("ab12", 2)]
    (pair,) = find_pairs(tmp_path / "out")
    image, labels = load_pair(pair)
    np.testing.assert_array_equal(image.pixels.squeeze(), GREY)
    assert labels[4, 4] != labels[4, 10] > 0
    assert "stage1_train.zip" in json.loads((tmp_path / "kept/bbbc038/pins.json").read_text())
    assert not list((tmp_path / "kept").rglob("*.download"))

    mirror.files["stage1_train.zip"] = archive({"other/images/o.png": png(GREY)})
    with pytest.raises(DownloadError, match="is not the file that was downloaded first"):
        fetch_set("bbbc038", tmp_path / "again", tmp_path / "kept", mirror=mirror.address)


def test_a_download_that_broke_off_goes_on(mirror, tmp_path):
    mirror.files["stage1_train.zip"] = bowl()
    mirror.break_after = 100

    made = fetch_set("bbbc038", tmp_path / "out", tmp_path / "kept", mirror=mirror.address)

    assert len(made) == 1
    assert mirror.asked[-1] == ("stage1_train.zip", "bytes=100-")


def test_touching_rois_of_another_value_and_apart_ones_of_the_same_are_several(tmp_path):
    mask = square(2, 2, value=1) + square(2, 8, value=2) + square(20, 20, value=1)
    (tmp_path / "images.zip").write_bytes(
        archive({"images/f1.tif": tif(GREY.astype(np.uint16)), "images/f2.tif": tif(GREY)})
    )
    (tmp_path / "masks.zip").write_bytes(
        archive({"masks/f1.png": png(np.dstack([mask, mask * 0, mask * 0]))})
    )
    files = [tmp_path / "images.zip", tmp_path / "masks.zip"]

    made = fetch_set("bbbc039", tmp_path / "out", tmp_path / "kept", files)

    assert [(pair.name, pair.rois) for pair in made] == [("f1", 3)]
    assert tifffile.imread(tmp_path / "out/f1_img.tif").dtype == np.uint16


def test_livecell_is_a_coco_file_and_its_images(tmp_path):
    box = [2, 2, 10, 2, 10, 12, 2, 12]
    coco = {
        "images": [{"id": 7, "file_name": "a.tif", "height": 32, "width": 40}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "segmentation": [box]}
        ],
        "categories": [{"id": 1, "name": "cell"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(coco))
    (tmp_path / "images.zip").write_bytes(
        archive({"images/livecell_train_val_images/a.tif": tif(GREY)})
    )

    made = fetch_set(
        "livecell", tmp_path / "out", tmp_path / "kept",
        [tmp_path / "images.zip", tmp_path / "train.json"],
    )  # fmt: skip

    assert [(pair.name, pair.rois) for pair in made] == [("a", 1)]


def test_tissuenet_is_brought_and_its_cell_channel_comes_first(tmp_path):
    pixels = np.stack([np.stack([GREY, GREY + 1], -1)] * 2).astype(np.float32)
    truth = np.stack([np.stack([square(3, 3, value=4), square(4, 4, 2)], -1)] * 2)
    np.savez(tmp_path / "t.npz", X=pixels, y=truth)
    with pytest.raises(UsageError, match=r"register at datasets\.deepcell\.org"):
        fetch_set("tissuenet", tmp_path / "out", tmp_path / "kept")

    made = fetch_set("tissuenet", tmp_path / "out", tmp_path / "kept", [tmp_path / "t.npz"])

    assert [pair.rois for pair in made] == [1, 1]
    image, labels = load_pair(find_pairs(tmp_path / "out")[0])
    np.testing.assert_array_equal(image.pixels[0, 0, 0, 0], GREY + 1)
    assert labels.max() == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no archive", "is not a ZIP archive"),
        (archive({"a/images/a.png": png(GREY)}), "'a' is not an image with its masks"),
        (archive({"a/images/a.png": b"x", "a/masks/m.png": b"x"}), "a.png cannot be read"),
        (
            archive({"a/images/a.png": png(GREY), "a/masks/m.png": png(GREY[:9])}),
            "is not as large as its image",
        ),
    ],
)
def test_archives_of_something_else_are_refused(tmp_path, data, message):
    (tmp_path / "a.zip").write_bytes(data)

    with pytest.raises(BadTrainingData, match=message):
        fetch_set("bbbc038", tmp_path / "out", tmp_path / "kept", [tmp_path / "a.zip"])


def test_what_was_asked_for_wrongly_is_said(tmp_path):
    with pytest.raises(UsageError, match="there is no public set 'bbbc1'; there are bbbc038"):
        fetch_set("bbbc1", tmp_path / "out", tmp_path)
    with pytest.raises(UsageError, match=r"made of images\.zip, masks\.zip"):
        fetch_set("bbbc039", tmp_path / "out", tmp_path, [tmp_path / "images.zip"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    with pytest.raises(UsageError, match="is not empty"):
        fetch_set("bbbc038", tmp_path / "out", tmp_path)


def test_every_set_says_what_it_allows_and_whom_to_cite():
    for listed in SETS.values():
        assert listed.about
        assert listed.licence
        assert any(char.isdigit() for char in listed.cite)
        assert all(file.startswith("https://") for file in listed.files) or listed.how
