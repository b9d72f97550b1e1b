"""What makes a training on the CPU faster without changing what is trained.

Legend: B batch, C channels in, O channels out, H and W pixels.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from spaces.attention.parts import MapConv2d

# Multiply-adds up to which a pointwise convolution costs less as a matrix product: below, the set-up of a convolution
# outweighs its arithmetic (such a layer of the embedded task's network is 2 times faster, a whole step 7 to 10 %).
POINTWISE_MACS = 4_000_000
# From so many channels on, and up to so many pixels of a map, a convolution with the channels first is 1.1 to 1.5 times faster
# than with the channels last (512 channels at 4x4, forward and backward, batch 64, one thread: 134 against 188 ms).
SMALL_MAP_CHANNELS, SMALL_MAP_PIXELS = 256, 64
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # of mallopt(3)


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution that is computed as a matrix product where that is faster: channels last, and little to compute."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W)."""
        small = input.numel() * self.out_channels <= POINTWISE_MACS
        if not (small and input.is_contiguous(memory_format=torch.channels_last)):
            return super().forward(input)
        x_BHWC = input.permute(0, 2, 3, 1)
        return linear(x_BHWC, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class PointwiseMapConv(PointwiseConv, MapConv2d):
    """The same of a 1x1 convolution of an attention type, which has a product of its own where the channels come first."""

    def forward(self, input: Tensor, as_product: bool = False) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W)."""
        return MapConv2d.forward(self, input, True) if as_product else PointwiseConv.forward(self, input)


class SmallMapConv(nn.Conv2d):
    """A convolution of many channels, which puts them first where the map is small; its weights have them first."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H', W')."""
        small = input.shape[-2] * input.shape[-1] <= SMALL_MAP_PIXELS
        return super().forward(input.contiguous() if small else input)


def use_fast_convolutions(model: nn.Module) -> None:
    """Let the plain convolutions of a model on the CPU compute in the way that is fastest there, in place.

    Weights, names and hooks stay.
    """
    for module in model.modules():
        if type(module) is MapConv2d:
            module.__class__ = PointwiseMapConv
        if type(module) is not nn.Conv2d:
            continue
        if is_pointwise(module):
            module.__class__ = PointwiseConv
        elif has_many_channels(module):
            module.__class__ = SmallMapConv
            module.weight.data = module.weight.data.contiguous()


def is_pointwise(conv: nn.Conv2d) -> bool:
    """Whether each pixel of the output depends on the same pixel of the input, and on all of its channels."""
    return (
        conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.padding in ((0, 0), "valid") and conv.groups == 1
    )


def has_many_channels(conv: nn.Conv2d) -> bool:
    """Whether a convolution over several pixels has so many channels that it gains from a layout of its own."""
    fewest = min(conv.in_channels, conv.out_channels) // conv.groups
    return conv.kernel_size != (1, 1) and fewest >= SMALL_MAP_CHANNELS


@cache
def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed tensors for the next ones; whether the C library can be told to.

    glibc gives blocks over 32 MiB back to the system at once. The next step asks for the same blocks and pays for clearing
    them page by page: a tenth of the time of a resnet18 at batch 128.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library than glibc
        return False
    return bool(mallopt(MMAP_THRESHOLD, 1 << 30)) and bool(mallopt(TRIM_THRESHOLD, (1 << 31) - 1))
