import pytest
import torch
from torch import nn

from cellwatch.core.activated_conv import ActivatedConv


def layers(kind, seed=0):
    torch.manual_seed(seed)
    made = kind(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1))
    nn.init.uniform_(made[0].weight, 0.5, 2.0)
    nn.init.normal_(made[0].bias)
    return made.train()


def gradients(network, x):
    x = x.clone().requires_grad_()
    network(x).square().mean().backward()
    return [x.grad, *[parameter.grad for parameter in network.parameters()]]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_and_statistics_are_those_of_the_plain_layers_to_the_last_bit(layout):
    x = torch.randn(3, 6, 16, 24, generator=torch.Generator().manual_seed(1))
    x = x.contiguous(memory_format=layout)
    plain, ours = layers(nn.Sequential), layers(ActivatedConv)

    pairs = zip(gradients(ours, x), gradients(plain, x), strict=True)

    assert all(torch.equal(one, other) for one, other in pairs)
    assert torch.equal(ours[0].running_mean, plain[0].running_mean)
    assert torch.equal(ours[0].running_var, plain[0].running_var)
    assert ours[0].num_batches_tracked == plain[0].num_batches_tracked == 1


def test_what_can_be_made_again_is_not_kept():
    x = torch.randn(2, 6, 32, 32)

    def kept_by(network):
        sizes = {}

        def count(tensor):
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            network(x.clone().requires_grad_())
        return sum(n for n in sizes.values() if n == x.numel())

    assert kept_by(layers(nn.Sequential)) == 2 * x.numel()
    assert kept_by(layers(ActivatedConv)) == x.numel()


def test_in_evaluation_and_in_16_bits_it_is_the_plain_layers():
    x = torch.randn(2, 6, 16, 16)
    plain, ours = layers(nn.Sequential), layers(ActivatedConv)

    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(x), plain(x))
    with torch.no_grad():
        assert torch.equal(ours.eval()(x), plain.eval()(x))
