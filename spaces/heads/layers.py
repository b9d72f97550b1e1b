"""Layers that several heads are made of."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn
from torch.nn.functional import batch_norm

Layers = TypeVar("Layers", bound=nn.Module)


class SafeBatchNorm(nn.BatchNorm2d):
    """BatchNorm that a single value per channel, as of one image's pooled map, does not stop: it uses its running statistics.

    torch refuses to train on such a map, since its variance is not defined. In all else this is ``nn.BatchNorm2d``.
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        if self.training and x_BCHW.numel() == x_BCHW.shape[1]:
            return batch_norm(x_BCHW, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x_BCHW)


def safe_norms(module: Layers) -> Layers:
    """Make every BatchNorm of a head one that a single value per channel does not stop, in place."""
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = SafeBatchNorm
    return module


def conv_norm_act(
    inside: int, outside: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution that keeps the size up to its stride, BatchNorm and ReLU."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel, stride, padding, dilation, groups, bias=False),
        SafeBatchNorm(outside),
        nn.ReLU(inplace=True),
    )
