"""Batch norm, ReLU and convolution, which in training keep half of the maps for the way back.

Of each of these the gradients need the maps before the batch norm and those after the ReLU. The
second are made again from the first, as they were: the gradients are the same to the last bit.
"""

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional


class ActivatedConv(nn.Sequential):
    """A batch norm, a ReLU and a convolution, one after the other.

    In float32 training the maps between them are not kept but made again when the gradients need
    them. On two cores a step of eight crops then takes 0.5 GB less of 4 and 1.03 to 1.06 times as
    long. In 16 bits they are half as large and are kept.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Run the three on (B, V, Y, X) maps; return (B, W, Y, X)."""
        norm, relu, conv = self
        is_exact = x.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
        if not (self.training and torch.is_grad_enabled() and is_exact):
            convolved: Tensor = conv(relu(norm(x)))
            return convolved
        if not isinstance(norm, nn.BatchNorm2d) or not isinstance(conv, nn.Conv2d):
            raise TypeError(f"no batch norm and convolution: {norm}, {conv}")
        made = _MadeAgain(norm, x, conv.weight)
        normed = norm(x)
        with saved_tensors_hooks(made.pack, made.unpack):
            found: Tensor = conv(relu(normed))
            return found


class _MadeAgain:
    # What ReLU and convolution keep for the way back: nothing where it can be made from `x`.
    def __init__(self, norm: nn.BatchNorm2d, x: Tensor, weight: Tensor) -> None:
        self._norm, self._x, self._weight = norm, x.detach(), weight.data_ptr()
        self._n_wanted = 0
        self._active: Tensor | None = None

    def pack(self, kept: Tensor) -> Tensor | None:
        if kept.data_ptr() == self._weight or kept.shape != self._x.shape:
            return kept
        self._n_wanted += 1
        return None

    def unpack(self, kept: Tensor | None) -> Tensor:
        if kept is not None:
            return kept
        if self._active is None:
            self._active = self._make()
        active = self._active
        self._n_wanted -= 1
        if not self._n_wanted:
            self._active = None
        return active

    def _make(self) -> Tensor:
        norm = self._norm
        with torch.no_grad():
            normed = functional.batch_norm(
                self._x, None, None, norm.weight, norm.bias, training=True, eps=norm.eps
            )
            return normed.relu_()
