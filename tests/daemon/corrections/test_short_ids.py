"""A file that was taken out says by its short id what it is a correction of."""

import numpy as np
import pytest
import tifffile

from cellwatch.daemon.corrections import inbox as inboxes
from cellwatch.daemon.corrections.inbox import Inbox
from cellwatch.records import PlaneIndex
from cellwatch.storage.corrections.checkout import Wanted, take_out
from cellwatch.storage.ledger import checkouts, requests
from cellwatch.storage.reports import corrections as reports
from tests.discs import disc_picture
from tests.lab import Lab


@pytest.fixture
def lab(tmp_path, tiny_model, now):
    lab = Lab(tmp_path / "lab", tiny_model.path, now)
    for name, seed in (("day1/a.tif", 0), ("day2/b.tif", 1)):
        lab.arrive(name, *disc_picture(seed, size=64, n=3))
    lab.segment_all()
    yield lab
    lab.close()


def made(lab, place, relative, short_id, **wanted):
    (row,) = [row for row in reports.acquisitions(lab.db, "1", []) if row.relative_path == relative]
    asked = Wanted(row, "cells", "", "napari", short_id, PlaneIndex(), **wanted)
    return take_out(asked, place, lab.folder / "corrections")


def taken_out(lab, place, relative, short_id, **wanted):
    facts = made(lab, place, relative, short_id, **wanted)
    checkouts.record(lab.db, facts, lab.now)
    return facts


def drop(lab, name, seed):
    place = lab.folder / "corrections" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    labels = disc_picture(seed, size=64, n=3)[1].copy()
    labels[labels == 1] = 0
    tifffile.imwrite(place, labels.astype(np.uint16))
    return lab.drop(name)


@pytest.mark.parametrize(
    ("name", "annotator"),
    [
        ("a~k7f3_masks.tif", ""),
        ("mine~K7F3_masks.tif", ""),
        ("a~k7f3_fixed_masks.tif", ""),
        ("a~k7f3 copy_masks.tif", ""),
        ("Kopie von a~k7f3.anna_masks.tif", "anna"),
        ("bob/a~k7f3_masks.tif", "bob"),
        ("day2/a~k7f3_masks.tif", ""),
        ("a~k7f3/renamed~k7f3_masks.tif", ""),
    ],
)
def test_the_id_says_the_image_wherever_it_stands_and_the_file_lies(lab, tmp_path, name, annotator):
    taken_out(lab, tmp_path, "day1/a.tif", "k7f3")

    row = drop(lab, name, seed=0)

    assert (row.state, row.acquisition_id, row.annotator) == ("trainable", 1, annotator)
    assert row.checkout_id == 1


def test_a_name_with_an_id_that_is_not_known_is_matched_by_the_rest_of_it(lab, tmp_path):
    """As after the loss of a ledger, with which its checkouts are lost."""
    row = drop(lab, "b__y0x0h64w64~k7f3_masks.tif", seed=1)
    waiting = drop(lab, "again~k7f3_masks.tif", seed=1)

    assert (row.state, row.acquisition_id, row.checkout_id) == ("trainable", 2, None)
    assert any("nothing was taken out of this station as ~k7f3" in note for note in row.notes)
    assert waiting.state == "orphan"
    assert "no image named 'again~k7f3', 'again' is known yet" in waiting.reason
    assert "nothing was taken out of this station as ~k7f3" in waiting.reason


def test_an_image_whose_own_name_looks_like_an_id_is_found(lab):
    lab.arrive("day1/scan~ab12.tif", *disc_picture(2, size=64, n=3))
    lab.segment_all()

    assert drop(lab, "scan~ab12_masks.tif", seed=2).acquisition_id == 3


def test_a_file_that_comes_back_before_its_checkout_is_recorded_is_read_then(lab, tmp_path):
    facts = made(lab, tmp_path, "day1/a.tif", "k7f3", is_again=True)
    assert drop(lab, "again~k7f3_masks.tif", seed=0).state == "orphan"
    inbox = Inbox(lab.db, lab.config, None)
    requests.ask(lab.db, "checkout", {"made": [facts]}, "anna", lab.now)

    inboxes.answer_requests(inbox, lab.now)

    assert inbox.again.get_nowait().file == "again~k7f3_masks.tif"


def test_what_waits_for_its_image_to_be_segmented_is_read_then_whatever_its_name(lab, tmp_path):
    taken_out(lab, tmp_path, "day1/a.tif", "k7f3")
    lab.db.execute("UPDATE targets SET state = 'queued' WHERE acquisition_id = 1")
    assert drop(lab, "mine~k7f3_masks.tif", seed=0).state == "orphan"
    inbox = Inbox(lab.db, lab.config, None)

    inboxes.segmented(inbox, 2)
    assert inbox.again.empty()
    inboxes.segmented(inbox, 1)

    assert inbox.again.get_nowait().file == "mine~k7f3_masks.tif"


def test_an_id_that_is_given_twice_is_refused_and_ends_no_daemon(lab, tmp_path):
    taken_out(lab, tmp_path / "first", "day1/a.tif", "k7f3")
    facts = made(lab, tmp_path / "second", "day2/b.tif", "k7f3")
    key = requests.ask(lab.db, "checkout", {"made": [facts]}, "anna", lab.now)

    inboxes.answer_requests(Inbox(lab.db, lab.config, None), lab.now)

    answer = requests.answer_to(lab.db, key)
    assert not answer.is_done
    assert "remove it and take the image out again" in answer.text


def test_a_folder_that_is_watched_under_another_name_strands_no_checkout(lab, tmp_path):
    taken_out(lab, tmp_path, "day1/a.tif", "k7f3")
    lab.db.execute("UPDATE acquisitions SET watch = 'before' WHERE id = 1")
    lab.arrive("day1/a.tif", *disc_picture(0, size=64, n=3))
    lab.segment_all()

    row = drop(lab, "a~k7f3_masks.tif", seed=0)

    assert (row.state, row.acquisition_id, row.checkout_id) == ("trainable", 3, 1)


def test_a_name_without_an_id_is_judged_by_no_checkout_that_has_one(lab, tmp_path):
    taken_out(lab, tmp_path, "day1/a.tif", "k7f3")
    lab.arrive("day1/a.tif", *disc_picture(5, size=64, n=3))
    lab.segment_all()

    of_new = drop(lab, "a_masks.tif", seed=5)
    of_old = drop(lab, "a~k7f3_masks.tif", seed=0)

    assert (of_new.state, of_new.checkout_id) == ("trainable", None)
    assert of_old.state == "rejected"
    assert "was overwritten" in of_old.reason
