"""Files that are there whole or not at all."""

import json

import pytest

from cellwatch.files.atomic import write_json, writing


def test_a_file_gets_its_name_when_all_is_written(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    with writing(path) as aside:
        aside.write_text("new")
        assert path.read_text() == "old"

    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    with pytest.raises(ZeroDivisionError), writing(path, "7") as aside:
        aside.write_text(f"ne{1 / 0}")

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_written_over(tmp_path):
    (tmp_path / ".a.json.partial").write_text("[1, 2")

    write_json(tmp_path / "a.json", {"b": 1})

    assert json.loads((tmp_path / "a.json").read_text()) == {"b": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with writing(path, "1") as first, writing(path, "2") as second:
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1"  # the block that ended last
