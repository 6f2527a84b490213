"""Simulated specimens: the same by the same seed, whole ROIs, and everything in reach of chance."""

import numpy as np
import pytest
from scipy.ndimage import label

from cellwatch.core.diameter import median_diameter
from cellwatch.core.network import NetworkConfig
from cellwatch.errors import UsageError
from cellwatch.training.batches import draw_batches, specimen_image
from cellwatch.training.dataset import training_image
from cellwatch.training.plans import FitPlan, plan_from
from cellwatch.training.specimens import draw, rods
from cellwatch.training.specimens.draw import KINDS, draw_specimen
from cellwatch.training.specimens.noise import rings
from cellwatch.training.specimens.shapes import blobs, ragged, tidied
from tests.discs import disc_images

pytestmark = pytest.mark.timeout(60)
SMALL = NetworkConfig(widths=(4, 8), diam_mean=30.0, diam_labels=30.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_specimen_is_drawn_by_its_seed_alone_and_its_rois_are_whole(kind):
    first, again, other = (
        draw_specimen(np.random.default_rng(seed), 160, kind, 24.0) for seed in (1, 1, 2)
    )

    np.testing.assert_array_equal(first.plane, again.plane)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.plane, other.plane)
    assert first.plane.shape == (2, 160, 160)
    assert first.plane.dtype == np.float32
    assert np.isfinite(first.plane).all()
    assert first.plane[0].std() > 0
    numbers = np.unique(first.labels)
    np.testing.assert_array_equal(numbers, np.arange(len(numbers)))
    assert len(numbers) > 3
    for number in numbers[1:]:
        assert label(first.labels == number)[1] == 1


def test_diameters_are_near_what_was_asked_for():
    ratios = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        wanted = rng.uniform(15, 40)
        ratios.append(median_diameter(draw_specimen(rng, 256, "", wanted).labels) / wanted)

    assert 0.8 < np.median(ratios) < 1.25
    assert np.quantile(ratios, 0.1) > 0.45


def test_every_kind_is_drawn_and_some_have_nuclei_in_a_second_channel():
    drawn = [draw_specimen(np.random.default_rng(seed), 128, "", 20.0) for seed in range(80)]

    assert {specimen.kind for specimen in drawn} == set(KINDS)
    with_nuclei = [specimen for specimen in drawn if specimen.plane[1].any()]
    assert 5 < len(with_nuclei) < 40
    assert {s.kind for s in with_nuclei} <= {name for name, kind in KINDS.items() if kind.nuclei}


@pytest.mark.parametrize("seed", range(6))
def test_rods_of_a_colony_lie_side_by_side_and_are_whole(seed):
    labels = tidied(rods.colony(np.random.default_rng(seed), 200, 24.0), 24.0)

    sizes = np.bincount(labels.ravel())[1:]
    assert len(sizes) > 8
    assert np.median(sizes) > 0.3 * np.pi * 12**2
    assert touching(labels) > 0.5 * len(sizes), "they lie apart"
    for number in range(1, len(sizes) + 1):
        assert label(labels == number)[1] == 1


def touching(labels: np.ndarray) -> int:
    """Count the pairs of ROIs that are no more than 3 px apart along a row or a column."""
    pairs = set()
    for apart in (1, 2, 3, 4):
        for one, other in (
            (labels[apart:], labels[:-apart]),
            (labels[:, apart:], labels[:, :-apart]),
        ):
            both = (one > 0) & (other > 0) & (one != other)
            pairs |= {tuple(sorted(pair)) for pair in zip(one[both], other[both], strict=True)}
    return len(pairs)


def test_no_roi_lies_on_a_post_or_a_wall():
    with_traps = 0
    for seed in range(30):
        cells = draw._cells(np.random.default_rng(seed), 160, KINDS["yeast in bright field"], 20.0)
        with_traps += bool(cells.trap.any())
        assert not cells.labels[cells.trap > 0].any()

    assert 5 < with_traps < 25


def test_frayed_edges_move_no_roi_and_make_none():
    rng = np.random.default_rng(3)
    labels = blobs(rng, 160, 30.0)

    frayed = ragged(rng, labels, 30.0)

    assert set(np.unique(frayed)) <= set(np.unique(labels))
    for number in np.unique(frayed)[1:]:
        one, other = labels == number, frayed == number
        assert (one & other).sum() > 0.6 * (one | other).sum()


def test_rings_are_faint_and_drawn_as_many_as_asked_for():
    assert not rings(np.random.default_rng(0), 64, 0, (3.0, 6.0)).any()
    drawn = rings(np.random.default_rng(0), 64, 3, (3.0, 6.0))
    assert -1 <= drawn.min() < drawn.max() <= 1.5


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(UsageError, match="there is no kind of specimen 'stars'; there are"):
        draw_specimen(np.random.default_rng(0), 128, "stars")
    with pytest.raises(UsageError, match="a field of 24 px is too small"):
        draw_specimen(np.random.default_rng(0), 24, "bacteria", 60.0)


def test_a_part_of_the_crops_is_simulated_and_none_comes_twice():
    images = disc_images(2)
    plan = FitPlan("online", 20, images_per_epoch=40, crop=64, simulated=0.5)

    batches = [batch for epoch in (0, 1) for batch in draw_batches(images, plan, SMALL, epoch)]
    tiles = np.concatenate([batch.tiles for batch in batches])

    assert tiles.shape == (80, 2, 64, 64)  # images of one channel get a second one of zeros
    again = np.concatenate([b.tiles for b in draw_batches(images, plan, SMALL, 0)])
    np.testing.assert_array_equal(again, tiles[:40])
    assert len({tile.tobytes() for tile in tiles}) == 80


def test_a_plan_without_specimens_draws_what_it_always_drew():
    images = disc_images(2)
    plan = FitPlan("online", 20, images_per_epoch=8, crop=64)

    (plain,) = draw_batches(images, plan, SMALL, 0)

    assert plain.tiles.shape == (8, 1, 64, 64)
    assert plan_from({"schedule": "online", "epochs": 20}) == FitPlan("online", 20)


def test_a_specimen_for_training_has_room_for_a_crop_and_only_kinds_that_were_named():
    plan = FitPlan("online", 20, crop=64, simulated=1.0, kinds=("bacteria", "membranes"))
    drawn = [specimen_image(plan, SMALL, np.random.default_rng(seed)) for seed in range(12)]

    assert {image.cluster for image in drawn} == {"bacteria", "membranes"}
    for image in drawn:
        assert min(image.labels.shape) >= 64 * image.diameter / 30 * 0.6
        rebuilt = training_image("", image.plane, image.labels)
        np.testing.assert_array_equal(image.flows, rebuilt.flows)


def test_part_and_kinds_that_no_plan_can_have_are_refused():
    with pytest.raises(UsageError, match=r"simulated: 1\.5 is not a fraction of the crops"):
        FitPlan("online", 20, simulated=1.5)
