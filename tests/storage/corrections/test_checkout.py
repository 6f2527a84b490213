"""What is taken out: the part in which most is to be seen."""

from dataclasses import fields, replace

import numpy as np
import pytest
import tifffile

from cellwatch.cli.review import _before
from cellwatch.records import Crop, ListedAcquisition, PlaneIndex
from cellwatch.storage.corrections.checkout import Wanted, crop_around, take_out
from cellwatch.storage.masks.content import StoreContent
from cellwatch.storage.masks.store import write_store
from cellwatch.storage.reports import corrections as reports
from cellwatch.storage.reports.station import LEDGER, reader
from tests.discs import disc_picture
from tests.lab import Lab


@pytest.fixture
def lab(tmp_path, tiny_model, now):
    lab = Lab(tmp_path / "lab", tiny_model.path, now)
    yield lab
    lab.close()


def test_the_part_with_most_centres_is_taken_out():
    labels = np.zeros((96, 160), np.int32)
    for number in range(4):
        labels[66 + 6 * number : 70 + 6 * number, 100:104] = number + 1
    labels[0:4, 0:4], labels[20:24, 20:24] = 5, 6

    part = crop_around(labels, 32)

    centres = [(68 + 6 * number - 0.5, 101.5) for number in range(4)]
    assert part.height == part.width == 32
    assert all(part.y <= y < part.y + 32 and part.x <= x < part.x + 32 for y, x in centres)


def test_a_plane_without_rois_has_a_part_all_the_same():
    assert crop_around(np.zeros((64, 64), np.int32), 16) == Crop(0, 0, 16, 16)


def test_where_the_model_found_nothing_the_note_says_that_there_is_no_file_yet(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64), np.uint16))
    labels = np.zeros((1, 1, 1, 64, 64), np.int32)
    content = StoreContent({"cells": labels}, "", {"targets": {"cells": {}}})
    write_store(tmp_path / "a.zarr", content, tmp_path / "old")
    unknown = dict.fromkeys(field.name for field in fields(ListedAcquisition))
    row = ListedAcquisition(
        **unknown
        | {"path": str(tmp_path / "a.tif"), "relative_path": "a.tif", "id": 1}
        | {"n_targets": 1, "store": str(tmp_path / "a.zarr")},
    )
    wanted = Wanted(row, "cells", "", "fiji", "k7f3")

    made = take_out(wanted, tmp_path / "out", tmp_path / "corrections")
    note = (tmp_path / "out/a~k7f3/README.txt").read_text()

    assert not (tmp_path / "out/a~k7f3/a~k7f3_rois.zip").exists()
    assert "There are no ROIs yet, and so no a~k7f3_rois.zip: saving makes it." in note
    assert "also those it found" not in note
    assert made["plane_sha256"]


def test_what_was_corrected_before_is_told_in_the_note(lab):
    lab.arrive("a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()
    folder = lab.folder / "corrections"

    def note(to):
        with reader(lab.config.state.folder / LEDGER) as db:
            (row,) = reports.acquisitions(db, "a.id = 1", [])
            looks = reports.active_on(db, [1])
        wanted = Wanted(row, "cells", "", "napari", "k7f3")
        assert _before(replace(wanted, plane=PlaneIndex(t=1)), looks) == ()
        take_out(replace(wanted, before=_before(wanted, looks)), lab.folder / to, folder)
        return next((lab.folder / to).glob("*/README.txt")).read_text()

    assert "Corrected before" not in note("first")
    lab.correct("a.tif")
    assert "Corrected before: a_masks.tif (3 ROIs)." in note("second")
