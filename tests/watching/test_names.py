import pytest

from cellwatch.watching.names import ALWAYS_EXCLUDED, experiment_of, is_plain_name, is_wanted


@pytest.mark.parametrize(
    "path",
    [
        *(".hidden.tif", "d/.x/a.tif", "a.tif.part", "a.tmp", "Thumbs.db", "a_masks.tif"),
        *("a_cp_masks.png", "@eaDir/a.tif", "x/@eaDir/a.tif", "a.zarr/0/a.tif", "._a.tif"),
        *("a_flows.tif", "a.TIF~"),
    ],
)
def test_some_names_are_never_acquisitions(path):
    assert not is_wanted(path, ("**",), ALWAYS_EXCLUDED)


@pytest.mark.parametrize(
    "path", ["a.tif", "d/e/a.TIF", "masks of mine/a.tif", "æ b.tif", "a_img.tif"]
)
def test_other_names_are(path):
    assert is_wanted(path, ("**",), ALWAYS_EXCLUDED)


def test_patterns_without_a_slash_are_about_names_alone():
    assert is_wanted("exp_seg.2/a.tif", ("**",), ALWAYS_EXCLUDED)
    assert is_wanted("xenon/a.tif", ("**",), ("x*",))
    assert not is_wanted("exp/xenon.tif", ("**",), ("x*",))


def test_patterns_fit_paths_or_names_and_case_does_not_count():
    assert is_wanted("d/Plate1_w2.tif", ("*_W2.tif",), ())
    assert is_wanted("day1/a.tif", ("day1/*",), ())
    assert not is_wanted("day2/a.tif", ("day1/*",), ())
    assert not is_wanted("day1/test_a.tif", ("**",), ("test_*",))


def test_the_experiment_is_the_first_folder_or_the_watch():
    assert experiment_of("exp/day/a.tif", "folder", "2026-11-30") == "exp"
    assert experiment_of("a.tif", "folder", "2026-11-30") == "2026-11-30"
    assert experiment_of("p1_w2.tif", "^(p\\d+)_", "2026-11-30") == "p1"
    assert experiment_of("other.tif", "^(p\\d+)_", "2026-11-30") == "2026-11-30"


def test_plain_names():
    assert is_plain_name("cells-2")
    assert not is_plain_name("../cells")
    assert not is_plain_name(".cells")
