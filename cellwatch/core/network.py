"""The network of Cellpose: a residual U-Net whose decoder is told the style of the image.

An image tile goes down four levels of residual blocks; the average of the deepest maps, scaled to
unit length, is the tile's *style*; the way up adds the encoder's maps and a linear image of the
style. Three maps come out: the flow in y and in x (times `FLOW_SCALE`) and the logit that a pixel
belongs to some ROI.

The names of the modules are those of the published checkpoints, so that a state dict of Cellpose
1 to 3 fits key for key.

References
----------
Stringer et al. 2021, Nat Methods 18:100, Methods "Model architecture"; Pachitariu & Stringer 2022,
Methods "Cellpose model".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cellwatch.core.activated_conv import ActivatedConv

FLOW_SCALE = 5.0  # training targets are unit vectors times this (Cellpose, loss)
NORM_EPSILON = 1e-5
NORM_MOMENTUM = 0.05  # of the running statistics in training (Cellpose 3; torch's own is 0.1)


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Say how a network is built.

    Attributes
    ----------
    channels : int
        Input planes: the segmented channel, then the nuclear one.
    widths : tuple of int
        Feature maps at each level, from the finest to the coarsest.
    diam_mean : float, px
        The ROI diameter to which images are resized before the network sees them.
    diam_labels : float, px
        The mean diameter of the ROIs the network was trained on.
    """

    channels: int = 2
    widths: tuple[int, ...] = (32, 64, 128, 256)
    diam_mean: float = 30.0
    diam_labels: float = 30.0

    @property
    def multiple(self) -> int:
        """Return the number of pixels that each side of a tile must be a multiple of."""
        return int(2 ** (len(self.widths) - 1))


class CPNet(nn.Module):
    """Predict flows, cell probability and style of image tiles.

    Parameters
    ----------
    config : NetworkConfig
        Sizes and diameters; the two diameters become part of the state dict.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.diam_mean = _constant(config.diam_mean)
        self.diam_labels = _constant(config.diam_labels)
        self.downsample = _Encoder(config.channels, config.widths)
        self.upsample = _Decoder(config.widths)
        self.output = _activated_conv(config.widths[0], 3, kernel=1)

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network on a batch of normalised tiles.

        Parameters
        ----------
        tiles : (B, C, Y, X) float32
            Y and X are multiples of `config.multiple`.

        Returns
        -------
        maps : (B, 3, Y, X) float32
            Flow in y, flow in x (both times `FLOW_SCALE`) and the logit of the cell probability.
        style : (B, 256) float32
            Unit vector from the deepest maps.
        """
        levels = self.downsample(tiles)  # [(B, 32, Y, X), ... (B, 256, Y/8, X/8)]
        style = style_of(levels[-1])  # (B, 256)
        return self.output(self.upsample(levels, style)), style  # (B, 3, Y, X)


def fresh_network(config: NetworkConfig, seed: int) -> CPNet:
    """Build a network with random weights (torch's own initialisation) drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CPNet(config)


def style_of(deepest: Tensor) -> Tensor:
    """Average the deepest maps over space and scale the result to unit length.

    Parameters
    ----------
    deepest : (B, W, Y, X) float32

    Returns
    -------
    (B, W) float32, each row of length one.
    """
    mean = deepest.mean(dim=(2, 3))  # (B, 256)
    return mean / mean.square().sum(dim=1, keepdim=True).sqrt()


def segmentation_loss(
    maps: Tensor, flows: Tensor, is_cell: Tensor, is_checked: Tensor | None = None
) -> Tensor:
    """Return half the mean squared error of the flows plus the cross entropy of the probability.

    Parameters
    ----------
    maps : (B, 3, Y, X) float32
        What the network returned.
    flows : (B, 2, Y, X) float32
        Unit vectors towards the ROI's centre, 0 in the background.
    is_cell : (B, Y, X) float32
        1 inside an ROI, else 0.
    is_checked : (B, Y, X) float32, or None
        1 where a person vouches for the targets; errors elsewhere are left out. None: everywhere.

    References
    ----------
    Stringer et al. 2021, Methods "Model training"; the part that is checked is ours.
    """
    if is_checked is not None:
        part = is_checked.sum().clamp(min=1)
        errors = (maps[:, :2] - FLOW_SCALE * flows).square().mean(dim=1)  # (B, Y, X)
        entropy = functional.binary_cross_entropy_with_logits(
            maps[:, 2], is_cell, reduction="none"
        )  # (B, Y, X)
        return ((0.5 * errors + entropy) * is_checked).sum() / part
    flow_error = functional.mse_loss(maps[:, :2], FLOW_SCALE * flows)
    return 0.5 * flow_error + functional.binary_cross_entropy_with_logits(maps[:, 2], is_cell)


class _Encoder(nn.Module):
    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        inputs = [channels, *widths[:-1]]
        self.down = nn.ModuleDict(
            {f"res_down_{n}": _DownBlock(inputs[n], widths[n]) for n in range(len(widths))}
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        levels: list[Tensor] = []
        for block in self.down.values():
            below = functional.max_pool2d(levels[-1], 2) if levels else x
            levels.append(block(below))  # (B, W, Y/2^n, X/2^n)
        return levels


class _DownBlock(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv = nn.ModuleDict(
            {f"conv_{t}": _activated_conv(inputs if t == 0 else width, width) for t in range(4)}
        )
        self.proj = _projection(inputs, width)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        x = self.proj(x) + conv["conv_1"](conv["conv_0"](x))
        deeper: Tensor = conv["conv_3"](conv["conv_2"](x))
        return x + deeper  # (B, width, Y, X)


class _Decoder(nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        style = widths[-1]
        inputs = [*widths[1:], widths[-1]]
        self.up = nn.ModuleDict(
            {f"res_up_{n}": _UpBlock(inputs[n], widths[n], style) for n in range(len(widths))}
        )

    def forward(self, levels: Sequence[Tensor], style: Tensor) -> Tensor:
        deepest = len(levels) - 1
        x: Tensor = self.up[f"res_up_{deepest}"](levels[deepest], levels[deepest], style)
        for n in range(deepest - 1, -1, -1):
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = self.up[f"res_up_{n}"](x, levels[n], style)  # (B, widths[n], Y/2^n, X/2^n)
        return x


class _UpBlock(nn.Module):
    def __init__(self, inputs: int, width: int, style: int) -> None:
        super().__init__()
        self.conv = nn.ModuleDict({"conv_0": _activated_conv(inputs, width)})
        self.conv.update({f"conv_{t}": _StyledConv(width, style) for t in (1, 2, 3)})
        self.proj = _projection(inputs, width)

    def forward(self, x: Tensor, skip: Tensor, style: Tensor) -> Tensor:
        conv = self.conv
        x = self.proj(x) + conv["conv_1"](conv["conv_0"](x) + skip, style)
        deeper: Tensor = conv["conv_3"](conv["conv_2"](x, style), style)
        return x + deeper  # (B, width, Y, X)


class _StyledConv(nn.Module):
    def __init__(self, width: int, style: int) -> None:
        super().__init__()
        self.conv = _activated_conv(width, width)
        self.full = nn.Linear(style, width)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        styled = x + self.full(style)[:, :, None, None]
        convolved: Tensor = self.conv(styled)
        return convolved  # (B, width, Y, X)


def _activated_conv(inputs: int, outputs: int, kernel: int = 3) -> ActivatedConv:
    return ActivatedConv(
        _norm(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    )


def _projection(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_norm(inputs), nn.Conv2d(inputs, outputs, 1))


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=NORM_EPSILON, momentum=NORM_MOMENTUM)


def _constant(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor([float(value)]), requires_grad=False)
