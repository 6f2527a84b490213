import pytest

from cellwatch.core.parameters import Diameter, MinSize, Normalisation, SegmentationParams
from cellwatch.errors import CalibrationError, ParameterError


@pytest.mark.parametrize(
    ("text", "px"), [("30", 30), ("30 px", 30), (12.5, 12.5), ("18 um", 36), ("18 µm", 36)]
)
def test_a_diameter_in_px_or_um(text, px):
    assert Diameter.parse(text).in_px(0.5) == px


@pytest.mark.parametrize("rule", ["auto", "model"])
def test_a_rule_has_no_px(rule):
    assert Diameter.parse(rule).in_px(None) is None


@pytest.mark.parametrize("text", ["big", "-3", "30 pixels", "", "0", "1e9", "18 um2", "18 px2"])
def test_a_diameter_that_means_nothing_is_refused(text):
    with pytest.raises(ParameterError, match="diameter"):
        Diameter.parse(text)


@pytest.mark.parametrize("pixel_size", [None, 0, -1, 352.8e3, float("nan"), 1e-9])
def test_um_without_a_sensible_pixel_size_is_refused(pixel_size):
    with pytest.raises(CalibrationError, match="give the length in px"):
        Diameter.parse("18 um").in_px(pixel_size)
    with pytest.raises(CalibrationError, match="give the length in px"):
        MinSize.parse("20 um2").in_px(pixel_size)


def test_areas_go_with_the_square_of_the_pixel_size():
    assert MinSize.parse("20 um2").in_px(0.5) == 80
    assert MinSize.parse("20 µm²").in_px(0.5) == 80
    assert MinSize.parse(15).in_px(None) == 15
    with pytest.raises(ParameterError, match="min_size"):
        MinSize.parse("20 um")


def test_percentiles_out_of_order_are_refused():
    with pytest.raises(ParameterError, match="percentiles"):
        Normalisation(low=99, high=1)


def test_parameters_survive_json():
    params = SegmentationParams(
        diameter=Diameter.parse("18 um"),
        min_size=MinSize.parse("20 um2"),
        normalisation=Normalisation("acquisition", 2, 98),
        flow_threshold=0.6,
    )

    assert SegmentationParams.from_json(params.to_json()) == params
