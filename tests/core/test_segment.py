import numpy as np
import pytest
import torch

from cellwatch.core.matching import match
from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.core.segment import segment
from cellwatch.errors import CalibrationError
from tests.discs import disc_picture, trained_on_discs

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def network():
    return trained_on_discs()


@pytest.mark.parametrize("rule", ["auto", "model", "18 px"])
def test_discs_are_found_at_any_rule_for_the_diameter(network, rule):
    picture, labels = disc_picture(100)

    found = segment(picture[None], network, SegmentationParams(diameter=Diameter.parse(rule)))

    assert match(labels, found.labels)[0].average_precision == 1
    assert found.n_rois == 12


def test_auto_finds_the_diameter_of_larger_discs(network):
    picture, labels = disc_picture(101)
    large, truth = np.kron(picture, np.ones((2, 2))), np.kron(labels, np.ones((2, 2), int))

    found = segment(
        large[None].astype(np.float32), network, SegmentationParams(diameter=Diameter.parse("auto"))
    )

    assert found.diameter == pytest.approx(36, rel=0.25)
    assert match(truth.astype(np.int32), found.labels)[0].average_precision > 0.8


def test_a_constant_image_has_no_rois_and_says_why(network):
    found = segment(np.full((1, 64, 64), 7, np.uint16), network, SegmentationParams())

    assert found.n_rois == 0
    assert found.notes == ("the image is constant",)


def test_camera_noise_has_no_rois_and_says_why(network):
    noise = np.random.default_rng(0).poisson(100, (1, 128, 128))

    found = segment(noise, network, SegmentationParams())

    assert found.n_rois == 0
    assert found.notes == ("nothing but noise",)


def test_too_little_contrast_has_no_rois_and_says_why(network):
    picture, _ = disc_picture(100)

    found = segment(picture[None], network, SegmentationParams(min_contrast=5000))

    assert found.n_rois == 0
    assert "below min_contrast 5000" in found.notes[0]


def test_a_diameter_in_um_needs_the_pixel_size(network):
    picture, _ = disc_picture(100)
    params = SegmentationParams(diameter=Diameter.parse("9 um"))

    assert segment(picture[None], network, params, pixel_size_um=0.5).diameter == 18
    with pytest.raises(CalibrationError):
        segment(picture[None], network, params)


def test_segmenting_twice_gives_the_same_and_leaves_the_plane_alone(network):
    picture, _ = disc_picture(102)
    plane = picture[None].copy()

    first, second = (segment(plane, network, SegmentationParams()) for _ in range(2))

    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(plane[0], picture)


def test_odd_sizes_work(network):
    picture, _ = disc_picture(103)

    for shape in ((1, 40), (37, 91), (128, 3)):
        found = segment(picture[None, : shape[0], : shape[1]], network, SegmentationParams())
        assert found.labels.shape == shape


@pytest.mark.gpu
def test_a_whole_image_on_a_gpu_equals_the_cpu(golden):
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    from cellwatch.zoo.weights import load_checkpoint

    record = np.load(golden / "img4_d17.npz")
    network = load_checkpoint(golden / "cpnet_dsb.pth")
    params = SegmentationParams(diameter=Diameter.parse(17))
    plane = record["image"][None].astype(np.float32)

    on_cpu = segment(plane, network, params)
    on_gpu = segment(plane, network.to("cuda"), params)

    np.testing.assert_allclose(on_gpu.style, on_cpu.style, atol=1e-3)
    assert np.abs(on_gpu.cellprob - on_cpu.cellprob).max() < 2e-2
    assert match(on_cpu.labels, on_gpu.labels)[2].average_precision > 0.98
