import errno
import os

import pytest

from cellwatch.errors import OutputError
from cellwatch.files.publish import sweep, why_unwritable, written_aside


def test_a_folder_appears_whole_and_the_old_one_is_set_aside(tmp_path):
    place, old = tmp_path / "a.zarr", tmp_path / ".superseded"
    for text in ("first", "second"):
        with written_aside(place, old) as aside:
            aside.mkdir()
            (aside / "x").write_text(text)

    assert (place / "x").read_text() == "second"
    assert [p.read_text() for p in old.rglob("x")] == ["first"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".superseded", "a.zarr"]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path):
    place = tmp_path / "a.tif"
    place.write_text("old")

    def half_done():
        with written_aside(place, tmp_path / "s") as aside:
            aside.write_text("half")
            raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        half_done()

    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]
    assert place.read_text() == "old"


def test_what_a_killed_writer_left_is_swept(tmp_path):
    place = tmp_path / "a.zarr"
    (tmp_path / ".a.zarr.tmp-/0123/a.zarr").mkdir(parents=True)
    (tmp_path / ".a.zarr.tmp-/0123/a.zarr/chunk").write_text("half")
    (tmp_path / ".a.zarr.tmp-/4567").mkdir()
    (tmp_path / ".b.zarr.tmp-").mkdir()

    assert sweep(place, tmp_path / "s") == 1
    assert [p.name for p in tmp_path.iterdir()] == [".b.zarr.tmp-"]


def test_a_folder_of_many_results_is_not_listed_for_each(tmp_path, monkeypatch):
    for number in range(3):
        (tmp_path / f"{number}.tif").write_text("")
    listed = []
    for name in ("listdir", "scandir"):
        real = getattr(os, name)
        told = lambda place=".", real=real: listed.append(os.fspath(place)) or real(place)  # noqa: E731
        monkeypatch.setattr(os, name, told)

    sweep(tmp_path / "a.tif", tmp_path / "s")
    with written_aside(tmp_path / "a.tif", tmp_path / "s") as aside:
        aside.write_text("new")

    assert str(tmp_path) not in listed


def test_a_writer_whose_room_another_one_removed_makes_it_again(tmp_path):
    place, old = tmp_path / "a.tif", tmp_path / "s"

    with written_aside(place, old) as first, written_aside(place, old) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")

    assert place.read_text() == "first"
    assert [p.read_text() for p in old.iterdir()] == ["second"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "s"]


def test_a_place_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(OutputError, match=r"file/a.zarr cannot be written"),
        written_aside(tmp_path / "file" / "a.zarr", tmp_path / "s"),
    ):
        pass


@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_published_piece_on_its_way_out_is_never_lost(tmp_path, is_replaced):
    place, aside = tmp_path / "a.zarr", tmp_path / "s"
    (tmp_path / ".a.zarr.old-/0123/a.zarr").mkdir(parents=True)
    (tmp_path / ".a.zarr.old-/4567").mkdir()
    if is_replaced:
        place.mkdir()

    assert sweep(place, aside) == 1

    assert place.is_dir()
    assert len(list(aside.glob("a.zarr.*"))) == (1 if is_replaced else 0)
    assert not (tmp_path / ".a.zarr.old-").exists()


def test_the_old_one_survives_when_it_cannot_be_set_aside(tmp_path):
    place, blocked = tmp_path / "a.tif", tmp_path / "file"
    place.write_text("old")
    blocked.write_text("")

    def replace():
        with written_aside(place, blocked / "s") as aside:
            aside.write_text("new")

    with pytest.raises(OutputError):
        replace()
    assert place.read_text() == "new"
    assert [p.read_text() for p in tmp_path.glob(".a.tif.old-/*/*")] == ["old"]


def test_f62_a_place_that_rights_forbid_names_owner_mode_and_remedy(tmp_path):
    error = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "a.zarr"))

    told = why_unwritable(tmp_path / "a.zarr", error)

    mode = tmp_path.stat().st_mode & 0o7777
    assert f"{tmp_path} belongs to user {os.geteuid()}" in told
    assert f"mode {mode:04o}, and cellwatch runs as user {os.geteuid()}: give it" in told
