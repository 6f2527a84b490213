"""The folded network computes what the network computes, and notices when that has changed."""

import gc
import weakref

import numpy as np
import pytest
import torch

from cellwatch.core.folded import affine, folded
from cellwatch.core.network import CPNet, NetworkConfig, fresh_network
from cellwatch.core.parameters import SegmentationParams
from cellwatch.core.segment import predict

SMALL = NetworkConfig(channels=2, widths=(4, 8, 12))


def network_with_statistics(seed: int, config: NetworkConfig = SMALL) -> CPNet:
    network = fresh_network(config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for tensor, low, high in (
                    (module.running_mean, -0.5, 0.5),
                    (module.running_var, 0.3, 2.0),
                    (module.weight, 0.5, 1.5),
                    (module.bias, -0.5, 0.5),
                ):
                    tensor.uniform_(low, high, generator=generator)
    return network.eval()


def ran(network: CPNet, tiles: torch.Tensor, dtype: torch.dtype):
    with torch.inference_mode():
        return network(tiles), folded(network, dtype)(tiles)


@pytest.mark.parametrize("n_tiles", [1, 3])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_folded_network_computes_what_the_network_computes(n_tiles, channels):
    network = network_with_statistics(n_tiles, NetworkConfig(channels=channels, widths=(4, 8, 12)))
    tiles = torch.rand(n_tiles, channels, 24, 32)

    (maps, styles), (folded_maps, folded_styles) = ran(network, tiles, torch.float32)

    assert folded_maps.shape == maps.shape
    torch.testing.assert_close(folded_maps, maps, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(folded_styles, styles, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_it_is_as_near_as_autocast_is():
    network = network_with_statistics(5)
    tiles = torch.rand(2, 2, 32, 32)

    (maps, _), (half, styles) = ran(network, tiles, torch.bfloat16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        cast, _ = network(tiles)

    error, theirs = (half - maps).abs().mean(), (cast.float() - maps).abs().mean()
    assert half.dtype == styles.dtype == torch.float32
    assert error < 1.5 * theirs
    assert error < 0.02 * maps.abs().mean()


def test_weights_that_change_are_noticed_and_the_network_itself_is_left_alone():
    network = network_with_statistics(7)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first = folded(network, torch.float32)

    assert folded(network, torch.float32) is first
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    with torch.no_grad():
        next(network.output[2].parameters()).add_(1.0)
    tiles = torch.rand(1, 2, 16, 16)
    (maps, _), (folded_maps, _) = ran(network, tiles, torch.float32)
    torch.testing.assert_close(folded_maps, maps, rtol=1e-4, atol=1e-4)


def test_running_statistics_that_change_are_noticed():
    network = network_with_statistics(8)
    tiles = torch.rand(4, 2, 16, 16)
    folded(network, torch.float32)
    network.train()(tiles)

    (maps, _), (folded_maps, _) = ran(network.eval(), tiles, torch.float32)

    torch.testing.assert_close(folded_maps, maps, rtol=1e-4, atol=1e-4)


def test_a_network_that_is_gone_leaves_nothing_behind():
    network = network_with_statistics(9)
    kept = weakref.ref(folded(network, torch.float32))

    del network
    gc.collect()

    assert kept() is None


def test_a_batch_norm_without_statistics_is_refused():
    with pytest.raises(ValueError, match="without running statistics"):
        affine(torch.nn.BatchNorm2d(3, track_running_stats=False))


def test_a_network_in_training_mode_is_refused():
    with pytest.raises(ValueError, match="in training mode"):
        folded(network_with_statistics(3).train(), torch.float32)


def test_a_deeper_network_gets_tiles_that_it_can_halve():
    deep = network_with_statistics(2, NetworkConfig(channels=1, widths=(4, 4, 4, 4, 4)))
    plane = np.random.default_rng(0).random((1, 100, 120), np.float32)

    maps = predict(plane, deep, SegmentationParams(tile=64))

    assert maps.flows.shape == (2, 100, 120)
