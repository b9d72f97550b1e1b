"""What makes a training on the CPU faster without changing what is trained.

Legend: B batch, C channels in, O channels out, H and W pixels.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

# Multiply-adds up to which a pointwise convolution costs less as a matrix product: below, the set-up of a convolution
# outweighs its arithmetic (such a layer of the embedded task's network is 2 times faster, a whole step 7 to 10 %).
POINTWISE_MACS = 4_000_000
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


def use_matrix_products(model: nn.Module) -> None:
    """Turn the plain 1x1 convolutions of a model into PointwiseConv, in place; weights, names and hooks stay."""
    for module in model.modules():
        if type(module) is nn.Conv2d and is_pointwise(module):
            module.__class__ = PointwiseConv


def is_pointwise(conv: nn.Conv2d) -> bool:
    """Whether each pixel of the output depends on the same pixel of the input, and on all of its channels."""
    return (
        conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.padding in ((0, 0), "valid") and conv.groups == 1
    )


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
