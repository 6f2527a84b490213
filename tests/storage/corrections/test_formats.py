"""Corrections of every format: exact when they are good, a precise reason when they are not."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as Picture
from roifile import ROI_TYPE, ImagejRoi

from cellwatch.core.labels import number_in_raster_order
from cellwatch.errors import RejectedCorrection
from cellwatch.images import Image
from cellwatch.records import ImageInfo
from cellwatch.storage.corrections.export import ENDINGS, FORMATS, write_labels
from cellwatch.storage.corrections.formats.reading import read_labels
from cellwatch.storage.masks.content import StoreContent
from cellwatch.storage.masks.store import write_store
from tests.discs import disc_picture

SHAPE = (96, 80)


def ragged_labels(seed=0):
    """ROIs that touch, with holes, specks and several pieces."""
    rng = np.random.default_rng(seed)
    _, discs = disc_picture(seed, size=96, n=9)
    labels = discs[: SHAPE[0], : SHAPE[1]].copy()
    labels[40:44, 10:70] = 100
    labels[rng.random(SHAPE) < 0.05] = 0
    labels[rng.random(SHAPE) < 0.01] = 3
    return number_in_raster_order(np.ascontiguousarray(labels))


@pytest.mark.parametrize("tool", FORMATS)
@pytest.mark.parametrize("seed", range(4))
def test_labels_are_the_same_after_a_round_trip(tmp_path, tool, seed):
    labels = ragged_labels(seed)
    path = tmp_path / f"a{ENDINGS[tool]}"

    write_labels(path, labels, tool, tmp_path / "a.tif")
    found = read_labels(path, SHAPE)

    assert (number_in_raster_order(found.labels) == labels).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.int64])
def test_label_tiffs_of_every_integer_type_are_read(tmp_path, dtype):
    labels = ragged_labels()
    # As napari's writer calls it.
    tifffile.imwrite(tmp_path / "a_masks.tif", labels.astype(dtype), compression="zlib")

    assert (read_labels(tmp_path / "a_masks.tif", SHAPE).labels == labels).all()


def test_a_png_of_16_bits_is_read(tmp_path):
    labels = ragged_labels()
    Picture.fromarray(labels.astype(np.uint16)).save(tmp_path / "a_masks.png")

    assert (read_labels(tmp_path / "a_masks.png", SHAPE).labels == labels).all()


def test_a_seg_npy_tells_the_diameter_of_what_it_holds(tmp_path):
    labels = np.zeros((40, 40), np.int32)
    labels[4:14, 4:14] = 1
    write_labels(tmp_path / "a_seg.npy", labels, "cellpose", tmp_path / "a.tif")

    held = np.load(tmp_path / "a_seg.npy", allow_pickle=True).item()

    assert held["diameter"] == pytest.approx(2 * (100 / np.pi) ** 0.5)
    assert type(held["diameter"]) is float  # no number of NumPy's, which an older one cannot read


def test_a_seg_npy_of_another_numpy_is_read(tmp_path):
    labels = ragged_labels()
    whole = np.empty((), object)
    whole[()] = {"masks": labels.astype(np.uint16), "ismanual": np.zeros(3, bool)}
    pickled = pickle.dumps(whole, protocol=2)
    with (tmp_path / "a_seg.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|O", "fortran_order": False, "shape": ()}
        )
        file.write(pickled.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))

    assert b"numpy._core" in pickled
    assert (read_labels(tmp_path / "a_seg.npy", SHAPE).labels == labels).all()


@pytest.mark.parametrize("include_image", [True, False])
def test_a_mask_store_that_was_edited_is_read(tmp_path, include_image):
    labels = ragged_labels()
    blank = Image(ImageInfo("a.tif"), np.zeros((1, 1, 1, 1, *SHAPE), np.uint8), is_rgb=False)
    content = StoreContent(
        labels={"cells": labels[None, None, None], "nuclei": labels[None, None, None] * 0},
        axes="",
        provenance={"targets": {"cells": {}, "nuclei": {}}},
        image=blank if include_image else None,
    )
    write_store(tmp_path / "a.zarr", content, tmp_path / "old")

    assert (read_labels(tmp_path / "a.zarr", SHAPE, "cells").labels == labels).all()
    with pytest.raises(RejectedCorrection, match="none is 'ghosts'"):
        read_labels(tmp_path / "a.zarr", SHAPE, "ghosts")


def test_gaps_holes_and_pieces_are_told(tmp_path):
    labels = np.zeros(SHAPE, np.uint16)
    labels[2:20, 2:20] = 7
    labels[5, 5] = 0
    labels[50, 50] = 7
    labels[60:70, 60:70] = 9
    tifffile.imwrite(tmp_path / "a_masks.tif", labels)

    found = read_labels(tmp_path / "a_masks.tif", SHAPE)

    assert found.labels.max() == 2
    assert found.notes == (
        "2 labels up to 9 were renumbered without gaps",
        "ROIs in several pieces: 1, specks among the pieces: 1",
        "1 px of holes inside ROIs",
    )


@pytest.mark.parametrize("white", [1, 7, 255])
def test_two_cells_of_one_number_are_black_and_white(tmp_path, white):
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:20, 2:20] = labels[30:50, 30:50] = white
    tifffile.imwrite(tmp_path / "a_masks.tif", labels)
    with pytest.raises(RejectedCorrection, match="black and white: 2 pieces"):
        read_labels(tmp_path / "a_masks.tif", SHAPE)

    assert read_labels(tmp_path / "a_masks.tif", SHAPE, is_region=True).labels.max() == 1
    labels[30:50, 30:50] = 0
    labels[60, 60] = white  # a speck is a slip of the brush
    tifffile.imwrite(tmp_path / "b_masks.tif", labels)
    if white == 255:
        with pytest.raises(RejectedCorrection, match="cells that touch cannot be told apart"):
            read_labels(tmp_path / "b_masks.tif", SHAPE)
    else:
        found = read_labels(tmp_path / "b_masks.tif", SHAPE)
        assert found.labels.max() == 1
        assert any("it is a single ROI" in note for note in found.notes)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.uint16])
def test_touching_cells_in_black_and_white_are_no_single_roi(tmp_path, kind):
    labels = np.zeros(SHAPE, bool)
    labels[2:20, 2:40] = True
    white = True if kind is bool else np.iinfo(kind).max
    tifffile.imwrite(tmp_path / "a_masks.tif", labels.astype(kind) * kind(white))

    with pytest.raises(RejectedCorrection, match=r"black and white.*the number 1"):
        read_labels(tmp_path / "a_masks.tif", SHAPE)
    region = read_labels(tmp_path / "a_masks.tif", SHAPE, is_region=True)
    assert (region.labels > 0).sum() == labels.sum()
    assert not region.notes


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_the_image_itself_is_not_taken_for_labels(tmp_path, kind):
    rng = np.random.default_rng(0)
    pixels = rng.poisson(100 + 80 * np.sin(np.arange(SHAPE[1]) / 9), SHAPE).astype(kind)
    tifffile.imwrite(tmp_path / "a_masks.tif", pixels)

    with pytest.raises(RejectedCorrection, match="as the intensities of a picture are"):
        read_labels(tmp_path / "a_masks.tif", SHAPE)


def test_rois_that_overlap_are_brought_to_one_label_image(tmp_path):
    left = ImagejRoi.frompoints(np.array([[0, 0], [20, 0], [20, 20], [0, 20]]), name="l")
    right = ImagejRoi.frompoints(np.array([[18, 0], [40, 0], [40, 20], [18, 20]]), name="r")
    for number, roi in enumerate((left, right)):
        roi.tofile(tmp_path / "a_rois.zip", name=f"{number}.roi", mode="a" if number else "w")

    found = read_labels(tmp_path / "a_rois.zip", SHAPE)

    assert found.notes == ("40 px that ROIs shared went to the nearest",)
    assert (found.labels[:20, :40] > 0).all()


def test_rectangles_and_ovals_are_areas(tmp_path):
    for kind, name in ((ROI_TYPE.RECT, "rect"), (ROI_TYPE.OVAL, "oval")):
        roi = ImagejRoi(roitype=kind, top=10, left=20, bottom=40, right=60)
        roi.tofile(tmp_path / f"{name}.roi")

    assert (read_labels(tmp_path / "rect.roi", SHAPE).labels[10:40, 20:60] == 1).all()
    area = (read_labels(tmp_path / "oval.roi", SHAPE).labels > 0).sum()
    assert abs(area - np.pi * 15 * 20) < 40


class Payload:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.mark}",)


def bad_pickle(folder):
    whole = np.empty((), object)
    whole[()] = {"masks": Payload(folder / "executed")}
    np.save(folder / "a_seg.npy", whole)
    return folder / "a_seg.npy"


def bare_pickle(folder):
    (folder / "a_seg.npy").write_bytes(pickle.dumps(Payload(folder / "executed")))
    return folder / "a_seg.npy"


def zip_bomb(folder):
    with zipfile.ZipFile(folder / "a_rois.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.roi", bytes(64 << 20))
    return folder / "a_rois.zip"


def escaping_zip(folder):
    roi = ImagejRoi(roitype=ROI_TYPE.LINE, x1=1, y1=1, x2=5, y2=5)
    with zipfile.ZipFile(folder / "a_rois.zip", "w") as archive:
        archive.writestr("../../x.roi", roi.tobytes())
    return folder / "a_rois.zip"


def huge_header(folder):
    path = folder / "a_masks.tif"
    tifffile.imwrite(path, np.zeros((16, 16), np.uint16))
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(60_000)
        tiff.pages[0].tags["ImageLength"].overwrite(60_000)
    return path


def saved(name, array, **options):
    def write(folder):
        tifffile.imwrite(folder / name, array, **options)
        return folder / name

    return write


def png(mode):
    def write(folder):
        Picture.new(mode, SHAPE[::-1], 1).save(folder / "a_masks.png")
        return folder / "a_masks.png"

    return write


def text(name, content):
    def write(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return write


def linked_zarr(folder):
    zarr.create_group(folder / "a_labels.zarr")
    (folder / "a_labels.zarr" / "0").symlink_to("/etc")
    return folder / "a_labels.zarr"


BINARY = np.zeros(SHAPE, np.uint8)
BINARY[::20, ::20] = 255
FEATURE = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}
BAD = {
    "a pickle payload": (bad_pickle, "would call posix.system"),
    "a bare pickle": (bare_pickle, "not a _seg.npy that can be read safely"),
    "a zip bomb": (zip_bomb, "that is not a zip of ROIs"),
    "a name that leads out": (escaping_zip, r"'../../x.roi' is a line, which has no area"),
    "a header of 60,000 x 60,000": (huge_header, "60000 x 60000|declares"),
    "an RGB PNG": (png("RGB"), "it is a colour picture"),
    "a binary mask": (saved("a_masks.tif", BINARY), "it is black and white: 20 pieces"),
    "a mask of bools": (
        saved("a_masks.tif", np.eye(96, dtype=bool)[:, :80]),
        "black and white",
    ),
    "floats": (saved("a_masks.tif", np.ones(SHAPE, np.float32)), "it holds float32"),
    "negative labels": (saved("a_masks.tif", np.full(SHAPE, -1, np.int16)), "negative labels"),
    "another shape": (saved("a_masks.tif", np.ones((10, 10), np.uint8)), "shape 10 x 10, its"),
    "the other way round": (saved("a_masks.tif", np.ones(SHAPE[::-1], np.uint8)), "80 x 96"),
    "a stack": (
        saved("a_masks.tif", np.ones((7, *SHAPE), np.uint8), photometric="minisblack"),
        "one plane of 96 x 80 is expected",
    ),
    "an RGB TIFF": (
        saved("a_masks.tif", np.ones((*SHAPE, 3), np.uint8), photometric="rgb"),
        "it is a colour picture",
    ),
    "an empty file": (text("a_masks.tif", b""), "0 bytes"),
    "no zip": (text("a_rois.zip", b"PK nonsense"), "not a zip that can be read"),
    "no ROI": (text("a.roi", b"Iout nonsense"), "cannot be read"),
    "no JSON": (text("a.geojson", b"{"), "it is not JSON"),
    "points": (text("a.geojson", json.dumps([FEATURE]).encode()), "is a Point, which has no area"),
    "empty JSON": (text("a.geojson", b"{}"), "it is not GeoJSON"),
    "deep JSON": (text("a.geojson", b"[" * 100_000), "it is not JSON"),
    "links to elsewhere": (linked_zarr, "links to other places"),
    "no masks inside": (
        lambda folder: np.save(folder / "a_seg.npy", np.array({"x": 1})) or folder / "a_seg.npy",
        "it holds no 'masks'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_rejected_with_its_reason_and_leaves_nothing(tmp_path, case):
    write, reason = BAD[case]
    path = write(tmp_path)
    before = sorted(str(p) for p in tmp_path.rglob("*"))

    with pytest.raises(RejectedCorrection, match=reason) as raised:
        read_labels(path, SHAPE)

    assert raised.value.remedy
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before
    assert not Path(tmp_path.parent / "x.roi").exists()
