from dataclasses import replace

import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models import v04
from ome_zarr_models.v04.hcs import HCS as HCS_04
from ome_zarr_models.v05 import Image, ImageLabel, Labels
from ome_zarr_models.v05.hcs import HCS as HCS_05
from yaozarrs import validate_zarr_store

from cellwatch.errors import MaskStoreError
from cellwatch.images import Image as Picture
from cellwatch.records import ImageInfo
from cellwatch.storage.masks.content import StoreContent
from cellwatch.storage.masks.plates import version_of, write_plate
from cellwatch.storage.masks.store import (
    check_store,
    read_labels,
    read_plane,
    read_provenance,
    write_store,
)

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore"),  # those of the validators' own dependencies
]


def content(shape=(1, 1, 1, 600, 700), *, with_image=True, channels=2, axes=""):
    rng = np.random.default_rng(0)
    labels = np.kron(
        rng.integers(0, 2, (*shape[:3], shape[3] // 20, shape[4] // 20)), np.ones((20, 20), int)
    ).astype(np.int32)
    labels *= np.arange(1, labels.shape[-1] + 1, dtype=np.int32) % 50
    image = rng.integers(0, 900, (*shape[:3], channels, *labels.shape[-2:])).astype(np.uint16)
    return StoreContent(
        labels={"cells": labels, "nuclei": labels // 2},
        axes=axes,
        provenance={"targets": {"cells": {"by": "me"}, "nuclei": {"by": "me"}}},
        image=Picture(ImageInfo("a.tif"), image, is_rgb=False) if with_image else None,
        channels=("DAPI", "GFP")[:channels],
        pixel_size_um=0.5,
    )


@pytest.fixture
def store(tmp_path):
    return tmp_path / "a.tif.zarr"


def test_a_store_with_its_image_passes_both_validators_and_the_reader(store, tmp_path):
    write_store(store, content(), tmp_path / "old")

    validate_zarr_store(str(store))
    group = zarr.open_group(store, mode="r")
    Image.from_zarr(group)
    Labels.from_zarr(group["labels"])
    ImageLabel.from_zarr(group["labels/cells"])
    shapes = [node.data[0].shape for node in Reader(parse_url(str(store)))() if node.data]
    assert shapes == [(2, 600, 700), (600, 700), (600, 700)]


@pytest.mark.parametrize("with_image", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 1), (1, 1, 3), (2, 2, 3)])
def test_one_plane_is_read_alone(store, tmp_path, shape, with_image):
    made = content((*shape, 40, 60), with_image=with_image, axes="TZ")
    write_store(store, made, tmp_path / "old")

    whole = read_labels(store, "nuclei")
    for at in np.ndindex(shape):
        assert (read_plane(store, "nuclei", at) == whole[at]).all()
    with pytest.raises(IndexError, match=f"{shape[0]} positions, {shape[1]} time points"):
        read_plane(store, "nuclei", (0, 0, shape[2]))


def test_a_store_without_image_passes_both_validators_and_the_reader(store, tmp_path):
    write_store(store, content(with_image=False), tmp_path / "old")

    validate_zarr_store(str(store / "cells"))
    group = zarr.open_group(store, mode="r")
    label = ImageLabel.from_zarr(group["cells"])
    assert label.ome_attributes.image_label.source is None
    nodes = list(Reader(parse_url(str(store / "cells")))())
    assert nodes[0].data[0].shape == (600, 700)


def test_a_store_of_several_positions_passes_the_validator(store, tmp_path):
    write_store(store, content((3, 1, 1, 200, 200)), tmp_path / "old")

    validate_zarr_store(str(store))
    assert read_labels(store, "cells").shape == (3, 1, 1, 200, 200)


@pytest.mark.parametrize("shape", [(1, 4, 1, 100, 120), (1, 1, 3, 100, 120), (2, 3, 2, 60, 60)])
def test_stacks_come_back_as_they_went_in(store, tmp_path, shape):
    written = content(shape, axes="TZ")

    write_store(store, written, tmp_path / "old")

    for target, labels in written.labels.items():
        np.testing.assert_array_equal(read_labels(store, target), labels)
    assert check_store(store).problems == ()


@pytest.mark.parametrize("size", [256, 2048])
def test_a_two_dimensional_store_without_image_has_at_most_twelve_files(store, tmp_path, size):
    whole = content((1, 1, 1, size, size), with_image=False)
    one = StoreContent({"cells": whole.labels["cells"]}, "", {"targets": {"cells": {}}})

    write_store(store, one, tmp_path / "old")

    assert sum(path.is_file() for path in store.rglob("*")) <= 12


def test_labels_are_never_averaged_and_have_a_level_for_each_of_the_image(store, tmp_path):
    write_store(store, content(), tmp_path / "old")

    group = zarr.open_group(store, mode="r")
    image = group.attrs["ome"]["multiscales"][0]["datasets"]
    label = group["labels/cells"].attrs["ome"]["multiscales"][0]["datasets"]
    assert len(image) == len(label) == 3
    full = set(np.unique(group["labels/cells/0"]))
    for level in label:
        assert set(np.unique(group[f"labels/cells/{level['path']}"])) <= full
    assert label[1]["coordinateTransformations"][0]["scale"] == [1.0, 1.0]
    assert group["labels/cells/0"].metadata.dimension_names == ("y", "x")
    assert group["labels/cells/0"].dtype == np.int32


def test_provenance_comes_back_with_counts_and_hashes(store, tmp_path):
    write_store(store, content(), tmp_path / "old")

    facts = read_provenance(store)["targets"]["cells"]

    assert facts["by"] == "me"
    assert facts["rois"] == check_store(store).rois["cells"] > 0


def test_a_changed_label_is_found(store, tmp_path):
    write_store(store, content(), tmp_path / "old")
    array = zarr.open_array(store, path="labels/cells/0", mode="r+")
    array[0, 0] = 999

    problems = check_store(store).problems

    assert any("not those that were written" in problem for problem in problems)


def test_a_lost_chunk_is_found(store, tmp_path):
    write_store(store, content(), tmp_path / "old")
    next(
        p for p in (store / "labels/cells/0").rglob("*") if p.name != "zarr.json" and p.is_file()
    ).unlink()

    assert check_store(store).problems


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(MaskStoreError, match="cannot be opened"):
        read_provenance(tmp_path / "nothing.zarr")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(MaskStoreError, match="no provenance"):
        read_provenance(tmp_path / "other.zarr")


VARIANTS = {
    "plane": {},
    "without the image": {"with_image": False},
    "time-lapse": {"shape": (1, 3, 1, 300, 400), "axes": "T"},
    "volume": {"shape": (1, 1, 4, 300, 400), "axes": "Z", "channels": 1},
    "positions": {"shape": (2, 1, 1, 300, 400)},
    "large": {"shape": (1, 1, 1, 1300, 1100), "channels": 1},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_stores_of_the_earlier_version_pass_its_validators_and_the_reader(store, tmp_path, name):
    made = replace(content(**VARIANTS[name]), version="0.4")

    write_store(store, made, tmp_path / "old")

    assert not list(store.rglob("zarr.json"))
    group = zarr.open_group(store, mode="r")
    images = [group] if made.labels["cells"].shape[0] == 1 else [group["0"], group["1"]]
    for image in images if made.image is not None else ():
        v04.Image.from_zarr(image)
        v04.Labels.from_zarr(image["labels"])
        v04.ImageLabel.from_zarr(image["labels/cells"])
    if made.image is not None:
        validate_zarr_store(str(store))
        place = store if len(images) == 1 else store / "1"
        nodes = [node for node in Reader(parse_url(str(place)))() if node.data]
        assert nodes[0].data[0].shape[-2:] == made.labels["cells"].shape[-2:]
    for target, labels in made.labels.items():
        assert np.array_equal(read_labels(store, target), labels)
    assert check_store(store).problems == ()


def test_rois_have_their_confidence_in_the_labels_metadata(store, tmp_path):
    made = content()
    n = int(made.labels["cells"].max())
    made = replace(made, confidences={"cells": [0.5] * n})

    write_store(store, made, tmp_path / "old")

    validate_zarr_store(str(store))
    group = zarr.open_group(store, mode="r")
    said = group["labels/cells"].attrs["ome"]["image-label"]["properties"]
    assert said[0] == {"label-value": 1, "confidence": 0.5}
    assert len(said) == n
    ImageLabel.from_zarr(group["labels/cells"])


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_a_plate_of_either_version_passes_the_validators(tmp_path, version):
    root = tmp_path / "p.HTD.zarr"
    for place in ("B/02/1", "B/02/2", "C/11/1"):
        made = replace(content((1, 1, 1, 300, 400)), version=version)
        write_store(root / place, made, tmp_path / "old")

    write_plate(root, version)

    validate_zarr_store(str(root))
    group = zarr.open_group(root, mode="r")
    if version == "0.4":
        plate = HCS_04.from_zarr(group).attributes.plate
    else:
        plate = HCS_05.from_zarr(group).attributes.ome.plate
    assert [well.path for well in plate.wells] == ["B/02", "C/11"]
    assert version_of(root) == version
