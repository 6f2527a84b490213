"""Each quirk of Cellpose that was found, and what is done about it here.

The numbers are those of the list of quirks in the algorithm's description. Where nothing is said,
the behaviour of version 3.1 on the CPU is kept.
"""

import numpy as np
import torch

from cellwatch.core.dynamics import follow_flows
from cellwatch.core.flows import flows_of
from cellwatch.core.labels import drop_bad_flows, drop_small, labels_from_endpoints
from cellwatch.core.network import NetworkConfig
from cellwatch.core.parameters import MinSize, SegmentationParams
from cellwatch.core.segment import predict
from cellwatch.training.fit import Batch, make_optimiser, train_step
from cellwatch.training.plans import FitPlan
from cellwatch.zoo.weights import load_network, save_network
from tests.conftest import tiny_network
from tests.discs import disc_picture


def blocks(*sizes):
    labels = np.zeros((40, 60), np.int32)
    for number, size in enumerate(sizes):
        labels[2 : 2 + size, 2 + 12 * number : 2 + 12 * number + size] = number + 1
    return labels


def test_quirk_1_fixed_a_small_roi_never_takes_a_right_one_along():
    labels = blocks(9, 9, 9, 3, 9)
    flows = flows_of(labels)
    flows[:, labels == 2] *= -1

    kept = drop_small(drop_bad_flows(labels, flows, 0.4), 15)

    survivors = [label for label in (1, 2, 3, 4, 5) if kept[labels == label].any()]
    assert survivors == [1, 3, 5]


def test_quirk_2_fixed_the_least_size_asked_for_is_used():
    assert SegmentationParams(min_size=MinSize.parse(40)).min_size.in_px(None) == 40
    assert drop_small(blocks(6, 7), 40).max() == 1


def test_quirk_3_fixed_flows_have_one_definition_everywhere():
    labels = np.zeros((30, 30), np.int32)
    labels[4:20, 6:26] = 1

    shifted = np.roll(labels, (5, 3), axis=(0, 1))

    np.testing.assert_array_equal(np.roll(flows_of(labels), (5, 3), axis=(1, 2)), flows_of(shifted))


def test_quirk_4_fixed_points_that_move_in_x_alone_are_moved():
    flows = np.zeros((2, 5, 30), np.float32)
    flows[1, 2, :15], flows[1, 2, 15:] = 1, -1
    foreground = np.zeros((5, 30), bool)
    foreground[2] = True

    endpoints = follow_flows(flows, foreground, 50)

    assert set(endpoints[:, 1].tolist()) <= {14, 15}


def test_quirk_5_fixed_every_tile_counts_once_in_the_style():
    network = tiny_network()
    plane = np.random.default_rng(0).random((2, 60, 200), np.float32)
    params = SegmentationParams(tiling="fixed", tile=64, batch_size=3)

    style = predict(plane, network, params).style
    one_by_one = predict(plane, network, SegmentationParams(tiling="fixed", tile=64, batch_size=1))

    np.testing.assert_allclose(style, one_by_one.style, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(style), 1, rtol=1e-5)


def test_quirk_6_absent_the_architecture_comes_from_the_weights_not_from_a_name(tmp_path):
    path = tmp_path / "concatentation_on_style_off"
    save_network(tiny_network(), path, is_half=False)

    assert load_network(path).config.widths == (4, 4, 8, 8)


def test_quirk_10_11_absent_nothing_global_is_changed_by_a_run():
    params = SegmentationParams()
    before = params.to_json()

    predict(np.zeros((2, 40, 40), np.float32), tiny_network(), params)

    assert params.to_json() == before == SegmentationParams().to_json()


def test_quirk_12_absent_a_network_that_segmented_can_be_trained_and_saved(tmp_path):
    network = tiny_network()
    predict(np.zeros((2, 40, 40), np.float32), network, SegmentationParams())
    optimiser = make_optimiser(network, FitPlan("online", 1))
    batch = Batch(np.zeros((2, 2, 32, 32), np.float32), np.zeros((2, 3, 32, 32), np.float32))

    train_step(network.train(), optimiser, batch)
    save_network(network, tmp_path / "weights.safetensors", is_half=True)

    assert load_network(tmp_path / "weights.safetensors").config == network.config


def test_quirk_14_kept_an_absent_second_channel_is_zeros():
    network = tiny_network()
    plane = np.random.default_rng(0).random((1, 48, 48), np.float32)
    with_zeros = np.concatenate([plane, np.zeros_like(plane)])

    with torch.inference_mode():
        maps, _ = network(torch.from_numpy(with_zeros)[None])

    assert NetworkConfig().channels == 2
    assert bool(torch.isfinite(maps).all())


def test_quirk_15_and_the_schedule_ends_on_its_last_halving():
    plan = FitPlan("generalist", epochs=500)

    assert plan.learning_rate(499) == 0.2 / 2**10


def test_kept_of_two_seeds_that_grow_together_the_fuller_wins():
    _, labels = disc_picture(0, size=64, n=2)
    foreground = labels > 0
    endpoints = follow_flows(flows_of(labels), foreground, 100)
    endpoints = np.where(np.arange(len(endpoints))[:, None] < 60, [[30, 30]], [[30, 33]])

    found = labels_from_endpoints(endpoints.astype(np.int32), foreground)

    assert found.max() == 2 or found.max() == 1
    counts = np.bincount(found[foreground])
    assert counts.argmax() == found[foreground][-1]
