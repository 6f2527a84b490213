import pytest
import torch

from cellwatch.core.network import CPNet, NetworkConfig, fresh_network, segmentation_loss
from tests.conftest import tiny_network


def test_the_full_network_has_the_keys_and_sizes_of_published_checkpoints(golden):
    published = torch.load(golden / "cpnet_dsb.pth", weights_only=True)

    mine = CPNet(NetworkConfig()).state_dict()

    assert {k: v.shape for k, v in mine.items()} == {k: v.shape for k, v in published.items()}
    assert len(mine) == 313
    assert sum(v.numel() for v in mine.values()) == 6_610_430


def test_the_style_is_a_unit_vector():
    _, style = tiny_network()(torch.rand(3, 2, 32, 40))

    torch.testing.assert_close(style.norm(dim=1), torch.ones(3))


def test_equal_seeds_give_equal_networks_and_leave_the_global_seed_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()

    first, second = (fresh_network(NetworkConfig(widths=(4, 8)), 3) for _ in range(2))

    assert torch.equal(torch.random.get_rng_state(), before)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_right_answer_has_almost_no_loss():
    flows = torch.zeros(1, 2, 4, 4)
    flows[:, 0] = 1
    is_cell = torch.ones(1, 4, 4)
    maps = torch.cat([5 * flows, torch.full((1, 1, 4, 4), 20.0)], dim=1)

    assert float(segmentation_loss(maps, flows, is_cell)) < 1e-6
    assert float(segmentation_loss(-maps, flows, is_cell)) == pytest.approx(45.0)


@pytest.mark.gpu
def test_the_network_on_a_gpu_equals_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    network = fresh_network(NetworkConfig(), 0).eval()
    tiles = torch.rand(2, 2, 224, 224)

    with torch.inference_mode():
        on_cpu, style = network(tiles)
        on_gpu, gpu_style = network.cuda()(tiles.cuda())

    assert (on_gpu.cpu() - on_cpu).abs().max() < 1e-2 * on_cpu.abs().max()
    assert (gpu_style.cpu() - style).abs().max() < 1e-3
