"""The network made ready to run, not to train: the same function in fewer passes over its maps.

A batch norm in evaluation mode is a scale and a shift for each channel. Where it follows a
convolution, or a projection follows it, both become part of that convolution's weights; the others
are one multiply-add and a ReLU in place. What is computed from pixels one by one is computed before
it is enlarged, and a 3 x 3 convolution of enlarged maps is four of 2 x 2 of the maps before (the
"sub-pixel" form: four ninths of the work). The result differs from `CPNet` by rounding alone.
"""

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

from cellwatch.core.network import CPNet, NetworkConfig, style_of

Affine = tuple[Tensor, Tensor]  # scale and shift, each (W,) float32
State = tuple[int, int]  # of a network's weights: where they lie, how often they were changed

_folded: WeakKeyDictionary[CPNet, dict[torch.dtype, tuple[State, "FoldedNet"]]] = (
    WeakKeyDictionary()
)


def folded(network: CPNet, dtype: torch.dtype) -> "FoldedNet":
    """Return a network folded; it is folded again when its weights have changed or moved.

    Parameters
    ----------
    network : CPNet
        In evaluation mode. Writes through `.data` are not noticed.
    dtype : torch.dtype

    Raises
    ------
    ValueError
        When the network is in training mode, in which it would compute something else.
    """
    if network.training:
        raise ValueError("a network in training mode cannot be folded")
    tensors = [*network.parameters(), *network.buffers()]
    state = (tensors[0].data_ptr(), sum(tensor._version for tensor in tensors))  # noqa: SLF001
    kept = _folded.setdefault(network, {})
    if dtype not in kept or kept[dtype][0] != state:
        kept[dtype] = (state, FoldedNet(network, dtype))
    return kept[dtype][1]


class FoldedNet:
    """Predict flows, cell probability and style of image tiles, as the network that it was made of.

    Parameters
    ----------
    network : CPNet
        In evaluation mode; it is left as it is, and later changes of its weights are not seen.
    dtype : torch.dtype
        float32, bfloat16 or float16: of the convolutions and the maps between them. Style and
        result are float32.
    """

    def __init__(self, network: CPNet, dtype: torch.dtype) -> None:
        self.config: NetworkConfig = network.config
        self.dtype = dtype
        with torch.no_grad():
            self._down = [_Down(block, dtype) for block in network.downsample.down.values()]
            deepest = len(self._down) - 1
            self._up = [
                _Up(block, dtype, is_enlarged=n < deepest)
                for n, block in enumerate(network.upsample.up.values())
            ]
            self._output = _Activated(network.output, dtype)

    def __call__(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network on a batch of normalised tiles; arguments and results as `CPNet`'s."""
        x = tiles.to(self.dtype).contiguous(memory_format=torch.channels_last)
        levels: list[Tensor] = []
        for block in self._down:
            below = functional.max_pool2d(levels[-1], 2) if levels else x
            levels.append(block(below))  # (B, W, Y/2^n, X/2^n)
        style = style_of(levels[-1].float())  # (B, 256)
        x = levels[-1]
        for n in range(len(levels) - 1, -1, -1):
            x = self._up[n](x, levels[n], style)  # (B, widths[n], Y/2^n, X/2^n)
        return self._output(x).float(), style  # (B, 3, Y, X)


class _Conv:
    """A convolution that keeps its weights in the right type and layout."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        layout = torch.channels_last
        self.weight = weight.detach().to(dtype, copy=True).contiguous(memory_format=layout)
        self.bias = bias.detach().clone()  # float32: styles are added to it
        self.cast_bias = self.bias.to(dtype)
        self.padding = weight.shape[-1] // 2

    def __call__(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.cast_bias, padding=self.padding)

    def shifted(self, x: Tensor, shift: Tensor) -> Tensor:
        """Convolve, and add a shift for each tile and channel, (B, W) float32."""
        if len(shift) == 1:
            bias = (self.bias + shift[0]).to(x.dtype)
            return functional.conv2d(x, self.weight, bias, padding=self.padding)
        return self(x).add_(shift.to(x.dtype)[:, :, None, None])


class _EnlargedConv:
    """A 3 x 3 convolution of maps that are doubled in size: (B, W, Y, X) in, (B, V, 2Y, 2X) out.

    Each pixel of the result sees four pixels before they are doubled: of its three rows two are
    one row there, so their weights are added, and so for columns.
    """

    def __init__(self, conv: _Conv) -> None:
        w = conv.weight.float()
        rows = (
            torch.stack([w[:, :, 0], w[:, :, 1] + w[:, :, 2]], 2),  # of even rows
            torch.stack([w[:, :, 0] + w[:, :, 1], w[:, :, 2]], 2),  # of odd rows; (V, W, 2, 3)
        )
        self._parts = [
            part.to(conv.weight.dtype).contiguous(memory_format=torch.channels_last)
            for r in rows
            for part in (
                torch.stack([r[..., 0], r[..., 1] + r[..., 2]], -1),  # of even columns
                torch.stack([r[..., 0] + r[..., 1], r[..., 2]], -1),  # (V, W, 2, 2)
            )
        ]
        self._bias = conv.cast_bias

    def __call__(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        shape = (n, len(self._bias), 2 * height, 2 * width)
        layout = torch.channels_last
        whole = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
        for index, part in enumerate(self._parts):
            y, x0 = divmod(index, 2)
            found = functional.conv2d(x, part, self._bias, padding=1)  # (B, V, Y + 1, X + 1)
            whole[:, :, y::2, x0::2] = found[:, :, y : y + height, x0 : x0 + width]
        return whole


class _Activated:
    """Batch norm, ReLU and convolution; what follows the convolution may be folded into it."""

    def __init__(self, layers: nn.Module, dtype: torch.dtype, after: Affine | None = None) -> None:
        norm, conv = _norm_and_conv(layers)
        scale, shift = affine(norm)
        self._scale, self._shift = (v.to(dtype)[None, :, None, None] for v in (scale, shift))
        weight, bias = conv.weight, _bias(conv)
        if after is not None:
            weight, bias = weight * after[0][:, None, None, None], bias * after[0] + after[1]
        self.conv = _Conv(weight, bias, dtype)

    def activated(self, x: Tensor) -> Tensor:
        """Return max(0, scale * x + shift)."""
        return torch.addcmul(self._shift, x, self._scale).relu_()

    def __call__(self, x: Tensor) -> Tensor:
        return self.conv(self.activated(x))


class _Styled:
    """As `_Activated`, with the style's share added before the batch norm."""

    def __init__(self, block: nn.Module, dtype: torch.dtype, after: Affine | None = None) -> None:
        layers, full = block.conv, block.full
        if not isinstance(full, nn.Linear) or not isinstance(layers, nn.Module):
            raise TypeError(f"no layers with a style: {block}")
        self.conv = _Activated(layers, dtype, after).conv
        self.scale, self._shift = affine(_norm_and_conv(layers)[0])
        self._cast_scale = self.scale.to(dtype)[None, :, None, None]
        self._weight, self._bias = full.weight.detach().clone(), full.bias.detach().clone()

    def shift_of(self, style: Tensor) -> Tensor:
        """Return what is added for each tile and channel after the scale, (B, W) float32."""
        return self.scale * functional.linear(style, self._weight, self._bias) + self._shift

    def activated(self, x: Tensor, style: Tensor) -> Tensor:
        """Return max(0, scale * (x + the style's share) + shift)."""
        shift = self.shift_of(style).to(x.dtype)[:, :, None, None]
        return torch.addcmul(shift, x, self._cast_scale).relu_()


class _Down:
    def __init__(self, block: nn.Module, dtype: torch.dtype) -> None:
        conv: nn.ModuleDict = block.conv  # type: ignore[assignment]
        self._project = _projection(block.proj, dtype)  # type: ignore[arg-type]
        self._first = _pair(conv["conv_0"], conv["conv_1"], dtype)
        self._second = _pair(conv["conv_2"], conv["conv_3"], dtype)

    def __call__(self, x: Tensor) -> Tensor:
        x = self._project(x).add_(_through(self._first, x))
        return x + _through(self._second, x)


class _Up:
    def __init__(self, block: nn.Module, dtype: torch.dtype, *, is_enlarged: bool) -> None:
        conv: nn.ModuleDict = block.conv  # type: ignore[assignment]
        self._project = _projection(block.proj, dtype)  # type: ignore[arg-type]
        self._0 = _Activated(conv["conv_0"], dtype)
        self._enlarging = _EnlargedConv(self._0.conv) if is_enlarged else None
        self._1 = _Styled(conv["conv_1"], dtype)
        self._3 = _Styled(conv["conv_3"], dtype)
        scale = self._3.scale
        self._2 = _Styled(conv["conv_2"], dtype, after=(scale, torch.zeros_like(scale)))

    def __call__(self, x: Tensor, skip: Tensor, style: Tensor) -> Tensor:
        activated, projected = self._0.activated(x), self._project(x)
        if self._enlarging:
            inner = self._enlarging(activated)
            projected = functional.interpolate(projected, scale_factor=2, mode="nearest")
        else:
            inner = self._0.conv(activated)
        x = projected.add_(self._1.conv(self._1.activated(inner.add_(skip), style)))
        deeper = self._2.conv.shifted(self._2.activated(x, style), self._3.shift_of(style))
        return x.add_(self._3.conv(deeper.relu_()))


def affine(norm: nn.BatchNorm2d) -> Affine:
    """Return the scale and shift that a batch norm in evaluation mode is."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale.detach(), (norm.bias - norm.running_mean * scale).detach()


def _norm_and_conv(layers: nn.Module) -> tuple[nn.BatchNorm2d, nn.Conv2d]:
    first, *_, last = layers.children()
    if not isinstance(first, nn.BatchNorm2d) or not isinstance(last, nn.Conv2d):
        raise TypeError(f"no batch norm and convolution: {layers}")
    return first, last


def _bias(conv: nn.Conv2d) -> Tensor:
    return conv.bias if conv.bias is not None else conv.weight.new_zeros(conv.out_channels)


def _pair(first: nn.Module, second: nn.Module, dtype: torch.dtype) -> tuple[_Activated, _Conv]:
    # The second's batch norm is folded into the first's convolution.
    norm, conv = _norm_and_conv(second)
    return _Activated(first, dtype, after=affine(norm)), _Conv(conv.weight, _bias(conv), dtype)


def _through(pair: tuple[_Activated, _Conv], x: Tensor) -> Tensor:
    return pair[1](pair[0](x).relu_())


def _projection(layers: nn.Module, dtype: torch.dtype) -> _Conv:
    norm, conv = _norm_and_conv(layers)
    scale, shift = affine(norm)
    bias = _bias(conv) + conv.weight[:, :, 0, 0] @ shift
    return _Conv(conv.weight * scale[None, :, None, None], bias, dtype)
