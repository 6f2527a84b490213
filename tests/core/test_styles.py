import numpy as np
import pytest

from cellwatch.core.styles import (
    classifier_of,
    distances_between,
    known_styles,
    novelty_of,
    style_windows,
)


def unit(rng, centre, n, spread=0.05):
    vectors = centre + spread * rng.normal(size=(n, len(centre)))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def two_kinds():
    rng = np.random.default_rng(0)
    first, second = np.eye(16)[0], np.eye(16)[5]
    return unit(rng, first, 30), unit(rng, second, 10)


def test_a_style_belongs_to_the_cluster_of_its_nearest_neighbours(two_kinds):
    first, second = two_kinds
    classifier = classifier_of(np.concatenate([first, second]), np.repeat([0, 1], [30, 10]))

    choice = classifier.choose(unit(np.random.default_rng(1), np.eye(16)[5], 1)[0])

    assert choice.cluster == 1
    assert [n.cluster for n in choice.neighbours] == [1] * 5
    distances = [n.distance for n in choice.neighbours]
    assert distances == sorted(distances)
    assert all(n.index >= 30 for n in choice.neighbours)


def test_a_tie_goes_to_the_nearer_cluster():
    styles = np.array([[1, 0], [0.995, 0.1], [0, 1], [0.1, 0.995]], np.float32)
    classifier = classifier_of(styles, np.array([0, 0, 1, 1]))
    between = np.array([0.8, 0.6], np.float32)

    assert classifier.choose(between, neighbours=4).cluster == 0


def test_known_images_are_not_novel_and_others_are(two_kinds):
    first, second = two_kinds
    known = known_styles(first)

    familiar = [
        novelty_of(style, known) for style in unit(np.random.default_rng(2), np.eye(16)[0], 50)
    ]
    strange = [novelty_of(style, known) for style in second]

    assert np.median(familiar) < 1
    assert min(strange) > 3


def test_three_quarters_of_the_images_of_a_kind_are_usual(two_kinds):
    first, second = two_kinds
    classifier = classifier_of(np.concatenate([first, second]), np.repeat([0, 1], [30, 10]))
    alike = unit(np.random.default_rng(2), np.eye(16)[0], 200)

    share = np.mean([classifier.choose(style).is_usual for style in alike])

    assert 0.6 < share < 0.9
    assert not classifier.choose(np.eye(16, dtype=np.float32)[9]).is_usual


def test_next_to_a_kind_of_one_image_nothing_is_usual():
    styles = np.eye(4, dtype=np.float32)[:1]

    assert not classifier_of(styles, np.array([0])).choose(np.eye(4, dtype=np.float32)[1]).is_usual


def test_a_set_of_one_cannot_tell_what_is_novel():
    style = np.eye(4, dtype=np.float32)[0]
    known = known_styles(style[None])

    assert known.reach == 0
    assert novelty_of(style, known) is None


def test_distances_are_euclidean(two_kinds):
    first, second = two_kinds

    expected = np.linalg.norm(first[:, None].astype(float) - second[None], axis=2)

    np.testing.assert_allclose(distances_between(first, second), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "n"), [((64, 64), 1), ((1024, 1024), 1), ((2048, 2048), 4), ((2048, 300), 2)]
)
def test_the_windows_of_a_style_lie_inside_the_plane(shape, n):
    windows = style_windows(shape)

    assert len(windows) == n
    for window in windows:
        for part, length in zip(window, shape, strict=True):
            assert 0 <= part.start < part.stop <= length
    assert len({(w[0].start, w[1].start) for w in windows}) == n
