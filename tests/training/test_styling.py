import numpy as np
import pytest

from cellwatch.core.parameters import SegmentationParams
from cellwatch.training import styling
from cellwatch.training.plans import FitPlan
from cellwatch.training.styling import steps_worth, style_facts
from cellwatch.zoo.stylefile import load_styles, save_styles
from tests.discs import disc_images, trained_on_discs

pytestmark = pytest.mark.timeout(60)
PLAN = FitPlan("online", 100)


@pytest.fixture(scope="module")
def images():
    return disc_images(6)


def test_a_model_of_few_images_has_styles_and_no_size_model(images):
    facts = style_facts(trained_on_discs(), images, SegmentationParams(), PLAN)

    assert facts.size is None
    assert facts.known.styles.shape == (6, 16)
    np.testing.assert_allclose(np.linalg.norm(facts.known.styles, axis=1), 1, atol=1e-5)


def test_what_measuring_takes_is_counted_in_steps(images):
    plan = FitPlan("online", 100)
    pixels = sum(image.labels.size * (17 / image.diameter) ** 2 for image in images)

    few, many = steps_worth(images, 17, plan), steps_worth(images * 5, 17, plan)

    assert few == pytest.approx(pixels / (8 * 224**2) / 3)
    assert many == pytest.approx((5 * pixels + 400 * 256**2) / (8 * 224**2) / 3)


def test_the_sizes_of_simulated_specimens_are_learned_and_their_styles_are_not(images, monkeypatch):
    monkeypatch.setattr(styling, "SIZE_MIN_IMAGES", 3)
    monkeypatch.setattr(styling, "SIZE_CROPS", 12)
    with_specimens = FitPlan("online", 100, simulated=0.5)
    network = trained_on_discs()

    plain = style_facts(network, images, SegmentationParams(), PLAN)
    both = style_facts(network, images, SegmentationParams(), with_specimens)

    np.testing.assert_array_equal(plain.known.styles, both.known.styles)
    assert not np.allclose(plain.size.weights, both.size.weights)


def test_a_size_model_tells_small_discs_from_large_ones(images, monkeypatch, tmp_path):
    monkeypatch.setattr(styling, "SIZE_MIN_IMAGES", 3)
    monkeypatch.setattr(styling, "SIZE_CROPS", 60)

    facts = style_facts(trained_on_discs(), images, SegmentationParams(), PLAN)

    sha256 = save_styles(facts, tmp_path / "styles.safetensors")
    kept = load_styles(tmp_path / "styles.safetensors", sha256)
    assert kept.known.reach == pytest.approx(facts.known.reach)
    np.testing.assert_allclose(kept.known.styles, facts.known.styles, atol=1e-3)
    np.testing.assert_array_equal(kept.size.weights, facts.size.weights)
    from cellwatch.core.image import resize, scaled_shape
    from cellwatch.core.segment import predict

    estimates = []
    for zoom in (0.7, 1.4):
        plane = resize(images[0].plane, scaled_shape((128, 128), zoom))
        two = np.concatenate([plane, np.zeros_like(plane)])
        style = predict(two, trained_on_discs(), SegmentationParams()).style
        estimates.append(kept.size.estimate(style))
    assert estimates[0] < estimates[1]
