"""What attention modules are made of: gates, the two ways of composing two of them, the identity start, and layers.

Shape legend of this package: B batch, C channels, h hidden width C // r, H W map, D depth of a volume, P = H * W
(or D * H * W) positions, 1 a broadcast axis. Every module maps (B, C, H, W) to the same shape, whatever H and W are;
those with dims (2, 3) map (B, C, D, H, W) too, and `x_BCHW` then stands for either.

Every module can be scripted (torch.jit.script) and traced symbolically (torch.fx). What chooses by size, format or dtype
is therefore a function or a layer of its own, which torch.fx records as one call: a function by the two lines on
`has_torch_function` that those of torch.nn.functional begin with too, a layer by `recorded`. Every layer is called, so
that hooks, pruning and quantisation find it.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function, has_torch_function_unary


def recorded(layer: nn.Module, x: Proxy, *options: Any) -> Any:
    """The call of a layer, as torch.fx records that of a layer of torch.nn: what goes on inside is not traced.

    Asked for inside of `if not torch.jit.is_scripting()` and not beside it: that is the one form of the condition whose
    body TorchScript does not compile.
    """
    return x.tracer.create_proxy("call_module", x.tracer.path_of_module(layer), (x, *options), {})  # type: ignore[attr-defined]


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
        if not torch.jit.is_scripting():  # noqa: SIM102
            if isinstance(input, Proxy):
                return recorded(self, input)  # type: ignore[no-any-return]
        # As in torch's own, written out because TorchScript has no `super`.
        single = self.training and input.numel() == input.shape[1]
        batch = (self.training and not single) or self.running_mean is None
        factor = 0.0 if self.momentum is None else self.momentum
        if batch and self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # a cumulative mean, as update_bn of torch.optim.swa_utils sets it
                factor = 1.0 / float(self.num_batches_tracked)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, batch, factor, self.eps)


class GroupNorm(nn.GroupNorm):
    """Group normalisation that also takes a single value per group, which it maps to its bias.

    nn.GroupNorm refuses batch 1 on a 1 x 1 map with one channel a group.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102
            if isinstance(input, Proxy):
                return recorded(self, input)  # type: ignore[no-any-return]
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def keep_format(y_BCHW: Tensor, x_BCHW: Tensor) -> Tensor:
    """y in channels_last when x is; sampling, pooling and concatenation do not keep the format by themselves."""
    if has_torch_function((y_BCHW, x_BCHW)):
        return handle_torch_function(keep_format, (y_BCHW, x_BCHW), y_BCHW, x_BCHW)  # type: ignore[no-any-return]
    if x_BCHW.dim() == 4 and x_BCHW.is_contiguous(memory_format=torch.channels_last):
        return y_BCHW.contiguous(memory_format=torch.channels_last)
    return y_BCHW


def space(x_BCHW: Tensor) -> list[int]:
    """The spatial axes of a map or a volume."""
    if has_torch_function_unary(x_BCHW):
        return handle_torch_function(space, (x_BCHW,), x_BCHW)  # type: ignore[no-any-return]
    return [2, 3] if x_BCHW.dim() == 4 else [2, 3, 4]


def mean(x: Tensor, axes: list[int], keepdim: bool = False) -> Tensor:
    """`x.mean(axes)`, written as a sum: the gradient of a sum is a view, that of a mean writes a full map first.

    Not in float16, whose largest number, 65504, a sum over a map exceeds where the mean does not.
    """
    if has_torch_function_unary(x):
        return handle_torch_function(mean, (x,), x, axes, keepdim)  # type: ignore[no-any-return]
    if x.dtype == torch.float16:
        return x.mean(axes, keepdim=keepdim)
    elements = 1
    for axis in axes:  # torch.compile does not follow a generator into math.prod
        elements *= x.shape[axis]
    return (x.sum(axes, keepdim=keepdim) * (1 / elements)).to(x.dtype)


def wide(x: Tensor) -> Tensor:
    """x in float32 where it is in half precision: for squares and their sums, which float16 cannot hold, and for places."""
    if has_torch_function_unary(x):
        return handle_torch_function(wide, (x,), x)  # type: ignore[no-any-return]
    return x.float() if x.dtype == torch.float16 or x.dtype == torch.bfloat16 else x


def autocast(x: Tensor) -> bool:
    """Whether products of x are computed in another dtype than its own; no in TorchScript, which has its own ways.

    Nothing is on the meta device, which torch's autocast does not know.
    """
    if torch.jit.is_scripting():
        return False
    else:  # noqa: RET505
        return x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)


def gram(x_BCP: Tensor) -> Tensor:
    """X X^T (B, C, C), in float32 also where x is in half precision or autocast would make it so.

    It is not scaled: squares of 30 over 56 x 56 positions exceed what float16 holds forty times.
    """
    if has_torch_function_unary(x_BCP):
        return handle_torch_function(gram, (x_BCP,), x_BCP)  # type: ignore[no-any-return]
    x_BCP = wide(x_BCP)
    if not torch.jit.is_scripting():  # noqa: SIM102
        if autocast(x_BCP):
            with torch.autocast(x_BCP.device.type, enabled=False):
                return x_BCP @ x_BCP.transpose(1, 2)
    return x_BCP @ x_BCP.transpose(1, 2)


def slow_half(x: Tensor) -> bool:
    """Bfloat16 on a CPU: torch broadcasts it without vector units and multiplies it by vectors and heads slowly."""
    return x.device.type == "cpu" and x.dtype == torch.bfloat16


def mean_along(x_BCHW: Tensor, axis: int) -> Tensor:
    """The mean over one axis; in bfloat16 on a CPU, with a gradient that is copied to a map before it is added to one.

    A view adds it by broadcasting, which takes five times as long. The gradient of a map that was flat has to be viewed
    as flat, and that of the mean over a row or a column, a broadcast one, cannot be without a copy.
    """
    if has_torch_function_unary(x_BCHW):
        return handle_torch_function(mean_along, (x_BCHW,), x_BCHW, axis)  # type: ignore[no-any-return]
    if slow_half(x_BCHW) and x_BCHW.is_contiguous():
        x_BCHW = x_BCHW.flatten(2).unflatten(2, x_BCHW.shape[2:])
    return mean(x_BCHW, [axis])


def strip(x_BCHW: Tensor, axis: int) -> Tensor:
    """The mean over all spatial axes but one, (B, C, L)."""
    if has_torch_function_unary(x_BCHW):
        return handle_torch_function(strip, (x_BCHW,), x_BCHW, axis)  # type: ignore[no-any-return]
    if x_BCHW.dim() == 4:
        return mean_along(x_BCHW, 5 - axis)
    others: list[int] = []
    for other in space(x_BCHW):
        if other != axis:
            others.append(other)
    return mean(x_BCHW, others)


def along(value_BCL: Tensor, x_BCHW: Tensor, axis: int) -> Tensor:
    """One value for each place along an axis, with broadcast axes in the place of the other spatial ones of x."""
    if has_torch_function((value_BCL, x_BCHW)):
        return handle_torch_function(along, (value_BCL, x_BCHW), value_BCL, x_BCHW, axis)  # type: ignore[no-any-return]
    for other in space(x_BCHW):
        if other != axis:
            value_BCL = value_BCL.unsqueeze(other)
    return value_BCL


def peak(x: Tensor, axis: int, keepdim: bool = False) -> Tensor:
    """The maximum over one axis. By index: the gradient of `amax` compares, counts and divides full maps (3 to 6 times)."""
    return x.max(axis, keepdim=keepdim)[0]


def like(value_BC: Tensor, x_BCHW: Tensor) -> Tensor:
    """`value_BC` with broadcast axes appended, so that it multiplies `x_BCHW` channel by channel."""
    if has_torch_function((value_BC, x_BCHW)):
        return handle_torch_function(like, (value_BC, x_BCHW), value_BC, x_BCHW)  # type: ignore[no-any-return]
    return value_BC.reshape(list(value_BC.shape) + [1] * (x_BCHW.dim() - 2))


class PositionConv2d(nn.Conv2d):
    """A 1x1 convolution as one matrix product over all positions: the layout that attention between positions works in.

    (B, C, H, W) -> (B, O, H, W), whose memory is that of (B, P, O) rows. The product holds a copy of a map whose positions
    are not rows. With `by_image` there is one product for each image, which does not; its gradient holds one of the
    weights for each image.
    """

    def forward(self, input: Tensor, by_image: bool = False) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102
            if isinstance(input, Proxy):
                return recorded(self, input, by_image)  # type: ignore[no-any-return]
        return to_map(product_of_rows(positions(input), self.weight, self.bias, by_image), input)


class PositionConv3d(nn.Conv3d):
    """The same for volumes, (B, C, D, H, W) -> (B, O, D, H, W)."""

    def forward(self, input: Tensor, by_image: bool = False) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102
            if isinstance(input, Proxy):
                return recorded(self, input, by_image)  # type: ignore[no-any-return]
        return to_map(product_of_rows(positions(input), self.weight, self.bias, by_image), input)


class MapConv2d(nn.Conv2d):
    """A 1x1 convolution, (B, C, H, W) -> (B, O, H, W), with `as_product` as one matrix product for each image."""

    def forward(self, input: Tensor, as_product: bool = False) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102
            if isinstance(input, Proxy):
                return recorded(self, input, as_product)  # type: ignore[no-any-return]
        if as_product:
            return product_of_map(input, self.weight, self.bias)
        return self._conv_forward(input, self.weight, self.bias)


class MapConv3d(nn.Conv3d):
    """The same for volumes, (B, C, D, H, W) -> (B, O, D, H, W)."""

    def forward(self, input: Tensor, as_product: bool = False) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102
            if isinstance(input, Proxy):
                return recorded(self, input, as_product)  # type: ignore[no-any-return]
        if as_product:
            return product_of_map(input, self.weight, self.bias)
        return self._conv_forward(input, self.weight, self.bias)


def positions(x_BCHW: Tensor) -> Tensor:
    """The map as a view (B, P, C)."""
    return x_BCHW.flatten(2).transpose(1, 2)


def to_map(y_BPC: Tensor, x_BCHW: Tensor) -> Tensor:
    """Positions back in place, (B, C, H, W), as a view."""
    if has_torch_function((y_BPC, x_BCHW)):
        return handle_torch_function(to_map, (y_BPC, x_BCHW), y_BPC, x_BCHW)  # type: ignore[no-any-return]
    # Not by `unflatten`: the exporter of old opsets takes the sizes of what comes from it for constants.
    return y_BPC.transpose(1, 2).reshape([y_BPC.shape[0], y_BPC.shape[2]] + list(x_BCHW.shape[2:]))  # noqa: RUF005


def product_of_rows(x_BPC: Tensor, weight: Tensor, bias: Tensor | None, by_image: bool) -> Tensor:
    """`W x + b` for each position, (B, P, O), with the weight (O, C, 1, 1) of a 1x1 convolution."""
    if by_image and bias is not None:
        weight_BCO = weight.flatten(1).to(x_BPC.dtype).t().expand(x_BPC.shape[0], -1, -1)
        return torch.baddbmm(bias, x_BPC, weight_BCO)
    return F.linear(x_BPC, weight.flatten(1), bias)


def product_of_map(x_BCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same with the channels first, (B, O, H, W)."""
    # In the dtype of x before it is expanded: autocast would copy it for each image.
    weight_BOC = weight.flatten(1).to(x_BCHW.dtype).expand(x_BCHW.shape[0], -1, -1)
    if bias is None:
        y_BOP = torch.bmm(weight_BOC, x_BCHW.flatten(2))
    else:
        y_BOP = torch.baddbmm(bias[:, None], weight_BOC, x_BCHW.flatten(2))
    return y_BOP.unflatten(2, x_BCHW.shape[2:])


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

    gates: Final[bool]  # of TorchScript's constants: it compiles one branch only

    def __init__(self, channel: nn.Module, spatial: nn.Module) -> None:
        super().__init__()
        self.channel, self.spatial = channel, spatial
        self.gates = isinstance(channel, Gate) and isinstance(spatial, Gate)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.gates:
            return x_BCHW * (self.channel.gate(x_BCHW) + self.spatial.gate(x_BCHW))  # type: ignore[operator]
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
