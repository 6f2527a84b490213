"""An export knows its own files from those of others."""

from pathlib import Path

import pytest

from cellwatch.storage.corrections.export_manifest import SUPERSEDED, Exported


@pytest.fixture
def export(tmp_path):
    def write(station, *places):
        exported = Exported(tmp_path, tmp_path / station)
        moved = exported.set_aside({Path(place) for place in places})
        for place in places:
            for ending in ("_img.tif", "_masks.tif"):
                exported.place(Path(place))(ending).write_text(f"{station} {place}")
        exported.remember()
        return moved

    return write


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.tif"))


def test_what_stands_no_more_is_set_aside_and_what_is_not_its_own_is_left(export, tmp_path):
    (tmp_path / "20240315-dish2_img.tif").touch()
    export("one", "00001-a", "held_out/00002-b")
    export("two", "00009-c")

    assert export("one", "00001-a") == 2
    assert export("two", "00009-c") == 0

    assert files(tmp_path) == [
        f"{SUPERSEDED}/held_out/00002-b_img.tif",
        f"{SUPERSEDED}/held_out/00002-b_masks.tif",
        "00001-a_img.tif",
        "00001-a_masks.tif",
        "00009-c_img.tif",
        "00009-c_masks.tif",
        "20240315-dish2_img.tif",
    ]


def test_nothing_that_was_set_aside_is_replaced(export, tmp_path):
    for _ in range(2):
        export("one", "00001-a")
        export("one")

    assert len(files(tmp_path / SUPERSEDED)) == 4
