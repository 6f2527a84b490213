import numpy as np
import pytest

from cellwatch.core.channels import GREY, Channel, choose_channels, take_channels
from cellwatch.errors import ChannelError

NAMES = ["DAPI", "GFP", "Phase contrast"]


def indices(cell, nucleus=None, names=NAMES, *, is_rgb=False):
    return [c.index for c in choose_channels(cell, nucleus, names, is_rgb=is_rgb)]


@pytest.mark.parametrize(
    ("cell", "nucleus", "expected"),
    [("gfp", None, [1]), ("phase*", "dapi", [2, 0]), (1, 0, [1, 0]), ("2", None, [2])],
)
def test_channels_are_found_by_name_glob_and_index(cell, nucleus, expected):
    assert indices(cell, nucleus) == expected


def test_a_name_that_is_not_there_lists_those_that_are():
    with pytest.raises(ChannelError, match=r"'RFP' names no channel.*0: DAPI, 1: GFP"):
        indices("RFP")


def test_a_glob_that_fits_several_is_refused():
    with pytest.raises(ChannelError, match="2 channels"):
        indices("*P*", names=["PC", "GFP"])


def test_an_index_beyond_the_last_is_refused():
    with pytest.raises(ChannelError, match="no channel 3; the file has 3"):
        indices(3)


def test_more_than_two_channels_need_a_choice():
    with pytest.raises(ChannelError, match=r"3 channels .* none was chosen"):
        indices(None)


def test_one_or_two_channels_need_none():
    assert indices(None, names=["a"]) == [0]
    assert indices(None, names=["a", "b"]) == [0, 1]


def test_a_nucleus_alone_is_refused():
    with pytest.raises(ChannelError, match="no cell channel"):
        indices(None, "DAPI")


def test_colour_pictures_become_grey_unless_a_colour_is_chosen():
    pixels = np.stack([np.full((2, 2), v, np.uint8) for v in (30, 60, 90, 255)])

    grey = choose_channels(None, None, [""] * 4, is_rgb=True)

    assert grey == (Channel(GREY, "grey"),)
    assert take_channels(pixels, grey).tolist() == [[[60, 60], [60, 60]]]
    assert indices("green", names=[""] * 3, is_rgb=True) == [1]
