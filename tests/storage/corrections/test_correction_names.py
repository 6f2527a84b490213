"""What the name of a dropped file says."""

import pytest

from cellwatch.records import Crop, PlaneIndex
from cellwatch.storage.corrections.names import (
    CorrectionName,
    correction_name,
    new_short_id,
    read_name,
)

WHOLE = CorrectionName("a")
CASES = {
    "a_masks.tif": WHOLE,
    "a_img_masks.tif": WHOLE,
    "A_CP_MASKS.PNG": CorrectionName("A"),
    "a_seg.npy": WHOLE,
    "a_rois.zip": WHOLE,
    "aRoiSet.zip": WHOLE,
    "a_RoiSet.zip": WHOLE,
    "a.roi": WHOLE,
    "a.zip": WHOLE,
    "a.tif.geojson": WHOLE,
    "a.ome.tif.geojson": WHOLE,
    "a_labels.zarr": WHOLE,
    "a__z05_masks.tif": CorrectionName("a", PlaneIndex(0, 0, 5)),
    "a__p003_t012_z05_masks.tif": CorrectionName("a", PlaneIndex(3, 12, 5)),
    "a__nuclei_masks.tif": CorrectionName("a", None, "nuclei"),
    "a__y1024x2048h512w256_masks.tif": CorrectionName("a", None, "", Crop(1024, 2048, 512, 256)),
    "a.anna_masks.tif": CorrectionName("a", annotator="anna"),
    "a b-c.v2_masks.tif": CorrectionName("a b-c", annotator="v2"),
    "a__p000_t001_z02__cells__y0x8h16w16.anna_seg.npy": CorrectionName(
        "a", PlaneIndex(0, 1, 2), "cells", Crop(0, 8, 16, 16), "anna"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_name_says_whose_correction_it_is(name):
    assert CASES[name] in read_name(name).readings


@pytest.mark.parametrize("name", CASES)
def test_the_whole_name_is_tried_as_the_image_first(name):
    lengths = [len(reading.stem) for reading in read_name(name).readings]

    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "notes.txt", "_masks.tif", "a.npy", "a.zarr"])
def test_a_name_without_an_ending_says_nothing(name):
    assert read_name(name) is None


def test_empty_and_region_are_told_apart():
    assert read_name("a_empty.tif").is_empty
    assert not read_name("a_masks.tif").is_empty
    assert read_name("a_region.roi").kind == "region"
    assert read_name("a_masks.tif").kind == "labels"


@pytest.mark.parametrize("name", [n for n in CASES.values() if "." not in n.stem])
def test_a_name_that_is_written_is_read_again(name):
    assert name in read_name(correction_name(name, "_masks.tif")).readings


@pytest.mark.parametrize(
    ("file", "short_id", "annotator"),
    [
        ("a~k7f3_masks.tif", "k7f3", ""),
        ("a__p000_t001_z02__y0x8h16w16~k7f3.anna_seg.npy", "k7f3", "anna"),
        ("A~K7F3_region.tif", "k7f3", ""),
        ("a~k7f3.tif.geojson", "k7f3", ""),
        ("IMAGE~1_masks.tif", "", ""),
        ("a~k7f3__nuclei_masks.tif", "k7f3", ""),
        ("a~k7f3 copy.bob_masks.tif", "k7f3", "bob"),
        ("~k7f3_masks.tif", "", ""),
        ("x~ab12~k7f3_masks.tif", "k7f3", ""),
        ("a_masks.tif", "", ""),
    ],
)
def test_a_short_id_may_stand_anywhere_after_the_stem(file, short_id, annotator):
    name = read_name(file)

    assert (name.short_id, name.annotator) == (short_id, annotator)


def test_a_new_short_id_is_one_that_no_other_has():
    taken = set()
    for _ in range(3000):
        taken.add(new_short_id(taken))

    assert len(taken) == 3000
    assert all(read_name(f"a~{short_id}_masks.tif").short_id == short_id for short_id in taken)
