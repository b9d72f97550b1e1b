"""What attention modules are made of: gates, the two ways of composing two of them, the identity start, and layers.

Shape legend of this package: B batch, C channels, h hidden width C // r, H W map, D depth of a volume, P = H * W
(or D * H * W) positions, 1 a broadcast axis. Every module maps (B, C, H, W) to the same shape, whatever H and W are;
those with dims (2, 3) map (B, C, D, H, W) too, and `x_BCHW` then stands for either.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(dims: int, in_channels: int, out_channels: int, kernel: int = 1, **options: Any) -> nn.Conv2d | nn.Conv3d:
    """A "same" convolution over `dims` spatial axes; `options` are those of nn.Conv2d (groups, bias, dilation)."""
    padding = (kernel - 1) // 2 * int(options.get("dilation", 1))
    if dims == 3:
        return nn.Conv3d(in_channels, out_channels, kernel, padding=padding, **options)
    return nn.Conv2d(in_channels, out_channels, kernel, padding=padding, **options)


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over axis 1 of a tensor of any rank, also for a single value per channel.

    nn.BatchNorm1d raises in training when a batch holds one value per channel (batch 1 after global pooling, or a 1 x 1
    map): there is no variance to divide by. Such a batch is normalised with the running statistics, as in eval mode,
    and leaves them as they are. A search can therefore train any type with any batch size.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 axes, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


class GroupNorm(nn.GroupNorm):
    """Group normalisation that also takes a single value per group, which it maps to its bias.

    nn.GroupNorm refuses batch 1 on a 1 x 1 map with one channel a group.
    """

    def forward(self, input: Tensor) -> Tensor:
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def keep_format(y_BCHW: Tensor, x_BCHW: Tensor) -> Tensor:
    """y in channels_last when x is; sampling, pooling and concatenation do not keep the format by themselves."""
    if x_BCHW.dim() == 4 and x_BCHW.is_contiguous(memory_format=torch.channels_last):
        return y_BCHW.contiguous(memory_format=torch.channels_last)
    return y_BCHW


def space(x_BCHW: Tensor) -> tuple[int, ...]:
    """The spatial axes of a map or a volume."""
    return tuple(range(2, x_BCHW.dim()))


def mean(x: Tensor, axes: int | tuple[int, ...], keepdim: bool = False) -> Tensor:
    """`x.mean(axes)`, written as a sum: the gradient of a sum is a view, that of a mean writes a full map first.

    Not in float16, whose largest number, 65504, a sum over a map exceeds where the mean does not.
    """
    if x.dtype == torch.float16:
        return x.mean(axes, keepdim=keepdim)
    elements = 1
    for axis in (axes,) if isinstance(axes, int) else axes:  # torch.compile does not follow a generator into math.prod
        elements *= x.shape[axis]
    return (x.sum(axes, keepdim=keepdim) * (1 / elements)).to(x.dtype)


def slow_half(x: Tensor) -> bool:
    """Bfloat16 on a CPU: torch broadcasts it without vector units and multiplies it by vectors and heads slowly."""
    return (x.device.type, x.dtype) == ("cpu", torch.bfloat16)


def mean_along(x_BCHW: Tensor, axis: int) -> Tensor:
    """The mean over one axis; in bfloat16 on a CPU, with a gradient that is copied to a map before it is added to one.

    A view adds it by broadcasting, which takes five times as long. The gradient of a map that was flat has to be viewed
    as flat, and that of the mean over a row or a column, a broadcast one, cannot be without a copy.
    """
    if slow_half(x_BCHW) and x_BCHW.is_contiguous():
        x_BCHW = x_BCHW.flatten(2).unflatten(2, x_BCHW.shape[2:])
    return mean(x_BCHW, axis)


def peak(x: Tensor, axis: int, keepdim: bool = False) -> Tensor:
    """The maximum over one axis. By index: the gradient of `amax` compares, counts and divides full maps (3 to 6 times)."""
    return x.max(axis, keepdim=keepdim)[0]


def like(value_BC: Tensor, x_BCHW: Tensor) -> Tensor:
    """`value_BC` with broadcast axes appended, so that it multiplies `x_BCHW` channel by channel."""
    return value_BC.reshape(value_BC.shape + (1,) * (x_BCHW.dim() - 2))


class Gate(nn.Module):
    """A part of a two-part type, or a one-part type: `x * activate(logits(x))`.

    `logits` broadcasts against x: (B,C,1,1) for most channel parts, (B,1,H,W) or (B,C,H,W) for spatial parts.
    Logits and activation are apart because some types fuse logits before the activation (BAM, GALA).
    """

    def logits(self, x_BCHW: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has to give its logits")

    def activate(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits)

    def gate(self, x_BCHW: Tensor) -> Tensor:
        return self.activate(self.logits(x_BCHW)).to(x_BCHW.dtype)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW * self.gate(x_BCHW)


class Series(nn.Module):
    """`y = C(x)`, then `S(y)`: the spatial part reads what the channel part left (CBAM, GAM)."""

    def __init__(self, channel: nn.Module, spatial: nn.Module) -> None:
        super().__init__()
        self.channel, self.spatial = channel, spatial

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.spatial(self.channel(x_BCHW))
        return y_BCHW


class ParallelSum(nn.Module):
    """Both parts read x and their maps are summed, `C(x) + S(x)` = `x * (gate_c + gate_s)` (scSE, AAM).

    The rule of every type that publishes no other. Two sigmoid gates sum to (0, 2): near 1 when fresh, where a series
    of them is near 0.25; two additive parts (DANet) sum to about 2x.
    """

    def __init__(self, channel: nn.Module, spatial: nn.Module) -> None:
        super().__init__()
        self.channel, self.spatial = channel, spatial

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if isinstance(self.channel, Gate) and isinstance(self.spatial, Gate):
            return x_BCHW * (self.channel.gate(x_BCHW) + self.spatial.gate(x_BCHW))
        y_BCHW: Tensor = self.channel(x_BCHW) + self.spatial(x_BCHW)
        return y_BCHW


class ParallelMax(ParallelSum):
    """Both parts read x and the larger of their maps is kept, element by element (scSE's max-out variant)."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.maximum(self.channel(x_BCHW), self.spatial(x_BCHW))


class IdentityStart(nn.Module):
    """`x + g * (f(x) - x)` with a learnable scalar g that starts at 0: the identity, whatever f is.

    Equal to its input in every element as long as f(x) is finite (a negative zero may come back as zero). The gradient
    of g at the first step is <dL/dy, f(x) - x>, so f must not be the identity itself: types that publish a zero
    initialisation are built without.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.blend = nn.Parameter(torch.zeros(()))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.blend.to(x_BCHW.dtype) * (self.inner(x_BCHW) - x_BCHW)
