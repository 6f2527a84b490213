import pytest

from cellwatch.storage.masks.paths import store_path

HEX = "0123456789abcdef"


@pytest.mark.parametrize("name", ["a.tif", "day 1/b c.tif", "æøå/名前.tif", "x'y.tif"])
def test_a_plain_place_is_the_image_path(name):
    assert store_path("scope", name, HEX, is_free=True) == f"scope/{name}.zarr"


@pytest.mark.parametrize(
    "name",
    [
        "a:b.tif",
        "con.tif",
        "d/a?.tif",
        "x" * 300 + ".tif",
        "d" * 190 + "/a.tif",
        "a\n.tif",
        "e /a.tif",
    ],
)
def test_places_that_some_system_cannot_hold_get_a_safe_name(name):
    place = store_path("scope", name, HEX, is_free=True)

    assert "~01234567" in place
    assert place.endswith(".zarr")
    assert len(place.encode()) <= 220
    assert not set(place) & set(':?"<>|*\\\n')


def test_a_place_that_is_taken_gets_the_content_hash():
    assert store_path("scope", "d/a.png", HEX, is_free=False) == "scope/d/a~01234567.png.zarr"


def test_undecodable_names_get_a_safe_name():
    place = store_path("scope", "a\udcff.tif", HEX, is_free=True)

    assert place.encode()
    assert "~01234567" in place


@pytest.mark.parametrize("folder", ["con", "aux.d", "end.", "tr ", "a/nul/b", "x. /y"])
def test_f35_folders_that_windows_cannot_hold_are_renamed_too(folder):
    place = store_path("scope", f"{folder}/a.tif", HEX, is_free=True)

    for part in place.split("/"):
        assert part == part.rstrip(". ")
        assert part.split(".")[0].lower() not in {"con", "aux", "nul"}
    assert "~01234567" in place
