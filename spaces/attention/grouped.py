"""Attention within groups of channels: shuffle attention, SGE and EMA.

Shapes as in parts.py; g groups of q = C / g channels. The published g is taken where it fits, else the largest power of
two below it that does.
"""

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function, has_torch_function_unary

from spaces.attention.pairs import channel_shuffle
from spaces.attention.parts import Gate, GroupNorm, along, conv, keep_format, like, mean, space, strip
from spaces.attention.registry import register
from spaces.attention.types import AttentionType, Fit, part


def fitting(number: int, limit: int) -> int:
    """The largest power of two up to `limit` that divides `number`; 1 always does."""
    return min(limit, number & -number) if number else 1


class ShuffleAttention(nn.Module):
    """In each group, half of the channels is gated by its means and half by its normalised map (arXiv:2102.00240).

    Zhang & Yang, ICASSP 2021. `sigmoid(w mean(x) + b)` and `sigmoid(w GN(x) + b)`, with w and b per channel of a half,
    shared by the groups; GN normalises every channel. The channels are shuffled in two at the end: a permutation, so
    the module is never the identity.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.half_width = half = channels // (2 * groups)
        self.channel_weight = nn.Parameter(torch.zeros(half))
        self.channel_bias = nn.Parameter(torch.ones(half))
        self.spatial_weight = nn.Parameter(torch.zeros(half))
        self.spatial_bias = nn.Parameter(torch.ones(half))
        self.norm = GroupNorm(half, half)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        # N = B g groups, each with its halves one after the other.
        by_mean_NcHW, by_map_NcHW = as_images(x_BCHW, 2 * self.half_width).chunk(2, 1)
        pooled_Nc11 = mean(by_mean_NcHW, space(by_mean_NcHW), keepdim=True)
        halves = [
            gated(by_mean_NcHW, pooled_Nc11, self.channel_weight, self.channel_bias),
            gated(by_map_NcHW, self.norm(by_map_NcHW), self.spatial_weight, self.spatial_bias),
        ]
        return keep_format(channel_shuffle(torch.cat(halves, 1).view_as(x_BCHW), 2), x_BCHW)


def gated(half_NcHW: Tensor, seen: Tensor, weight_c: Tensor, bias_c: Tensor) -> Tensor:
    """`half * sigmoid(w seen + b)`, w and b per channel."""
    gate = torch.sigmoid(like(weight_c[None], half_NcHW) * seen + like(bias_c[None], half_NcHW))
    return half_NcHW * gate.to(half_NcHW.dtype)


def as_images(x_BCHW: Tensor, width: int) -> Tensor:
    """Groups of so many channels as images (or clips) of their own, (B g, q, H, W)."""
    if has_torch_function_unary(x_BCHW):
        return handle_torch_function(as_images, (x_BCHW,), x_BCHW, width)  # type: ignore[no-any-return]
    return x_BCHW.reshape([-1, width] + list(x_BCHW.shape[2:]))  # noqa: RUF005


def of_groups(gate_N1P: Tensor, x_BCHW: Tensor, groups: int) -> Tensor:
    """One map for each group, (B, g, 1, H, W)."""
    if has_torch_function((gate_N1P, x_BCHW)):
        return handle_torch_function(of_groups, (gate_N1P, x_BCHW), gate_N1P, x_BCHW, groups)  # type: ignore[no-any-return]
    return gate_N1P.reshape([-1, groups, 1] + list(x_BCHW.shape[2:]))  # noqa: RUF005


class SpatialGroupEnhance(Gate):
    """`x * sigmoid(w t + b)`, t the normalised similarity of each position to its group's mean (arXiv:1905.09646).

    Li et al. 2019. Similarity: <x, mean(x)> over the q channels of a group; normalised over the positions with the
    paper's deviation (the public code divides by P - 1, undefined on 1 x 1 maps); w and b per group.
    """

    def __init__(self, groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.zeros(groups))
        self.bias = nn.Parameter(torch.ones(groups))

    def _group_logits(self, x_BCHW: Tensor) -> Tensor:
        """(B, g, H, W): one map for each group."""
        x_BCP = x_BCHW.flatten(2)
        x_BgqP = x_BCP.reshape(x_BCP.shape[0], self.groups, x_BCP.shape[1] // self.groups, x_BCP.shape[2])
        # One name, and the deviation of what is centred already: no map is kept that the gradient does not need.
        t_BgP = similarity(x_BgqP)
        t_BgP = t_BgP - t_BgP.mean(2, keepdim=True)
        t_BgP = t_BgP / (t_BgP.std(2, correction=0, keepdim=True) + self.eps)
        t_BgP = t_BgP.to(x_BCHW.dtype)
        logits_BgP = t_BgP * self.weight[:, None] + self.bias[:, None]
        return logits_BgP.unflatten(2, x_BCHW.shape[2:])

    def logits(self, x_BCHW: Tensor) -> Tensor:
        return self._group_logits(x_BCHW).repeat_interleave(x_BCHW.shape[1] // self.groups, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        # As `x * gate(x)`, with one gate for a group and not one for each of its channels.
        gate_Bg1HW = torch.sigmoid(self._group_logits(x_BCHW)).unsqueeze(2).to(x_BCHW.dtype)
        return (x_BCHW.unflatten(1, (self.groups, -1)) * gate_Bg1HW).flatten(1, 2)


def similarity(x_BgqP: Tensor) -> Tensor:
    """<x, mean(x)> at each position, (B, g, P).

    In float16 one factor after the other in float32: the product of two large numbers is more than float16 holds, and
    autocast would make a matrix product of them float16 again.
    """
    if has_torch_function_unary(x_BgqP):
        return handle_torch_function(similarity, (x_BgqP,), x_BgqP)  # type: ignore[no-any-return]
    mean_Bgq = mean(x_BgqP, [3])
    if x_BgqP.dtype == torch.float16:
        return (mean_Bgq.unsqueeze(3) * x_BgqP.float()).sum(2)
    return (mean_Bgq.unsqueeze(2) @ x_BgqP).squeeze(2)


class EfficientMultiScale(nn.Module):
    """Cross-spatial attention of a 1x1 and a 3x3 branch in each of g groups (Ouyang et al. 2023, arXiv:2305.13563).

    In every group of q channels: x1 = GN(x a_h a_w) with coordinate-like gates from one shared 1x1 convolution,
    x2 = conv3x3(x); the gate is `sigmoid(softmax(mean x1) . x2 + softmax(mean x2) . x1)`, one map for the group.
    GN normalises each channel, so that mean x1 is exactly its bias: x1 is not pooled again.

    Of a clip, x1 has a third such gate a_t, by the same 1x1 convolution of the mean of each frame, and conv3x3 is 3x3x3.
    """

    def __init__(self, channels: int, groups: int, dims: int) -> None:
        super().__init__()
        self.groups = groups
        self.axes = list(range(2, 2 + dims))
        self.width = width = channels // groups
        self.conv1 = nn.Conv1d(width, width, 1)
        self.conv3 = conv(dims, width, width, 3)
        self.norm = GroupNorm(width, width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_NqHW = as_images(x_BCHW, self.width)
        pooled_NqL = torch.cat([strip(x_NqHW, axis) for axis in self.axes], 2)
        # Each part has its own sigmoid: torch 2.13's CPU compiler takes a wrong gradient of one sigmoid before a split.
        parts = self.conv1(pooled_NqL).split([x_NqHW.shape[axis] for axis in self.axes], 2)
        gated_NqHW = x_NqHW
        for number, axis in enumerate(self.axes):
            gated_NqHW = gated_NqHW * along(torch.sigmoid(parts[number]), x_NqHW, axis)
        x1_NqP = self.norm(gated_NqHW).flatten(2)
        x2_NqP = self.conv3(x_NqHW).flatten(2)
        # Expanded to a batch, so that the product does not transpose x2 to fold its batch away.
        by_x1_N1q = self.norm.bias.softmax(0).to(x2_NqP.dtype).expand(x2_NqP.shape[0], 1, -1)
        by_x2_N1q = mean(x2_NqP, [2], keepdim=True).softmax(1).transpose(1, 2).to(x1_NqP.dtype)
        gate_N1P = torch.sigmoid(by_x1_N1q @ x2_NqP + by_x2_N1q @ x1_NqP).to(x_BCHW.dtype)
        gate_Bg1HW = of_groups(gate_N1P, x_BCHW, self.groups)
        return (x_BCHW.unflatten(1, (self.groups, -1)) * gate_Bg1HW).flatten(1, 2)


def halves_fit(channels: int, hidden: int, groups: int) -> str:
    """Each group is split in two halves of whole channels."""
    return "" if channels % (2 * groups) == 0 else f"2g must divide C = {channels}"


def divides(channels: int, hidden: int, groups: int) -> str:
    """g groups of whole channels."""
    return "" if channels % groups == 0 else f"g must divide C = {channels}"


SHUFFLE = part(
    id="shuffle_attention",
    role="whole",
    build=lambda s: ShuffleAttention(s.channels, s.groups),
    params=lambda s: 3 * s.channels // s.groups,
    groups=lambda channels: fitting(channels // 2, 64),
    fits={"groups": Fit("2g divides C", halves_fit)},
    dims=(2, 3),
    formula="3C/g",
)
SGE = part(
    id="sge",
    role="spatial",
    build=lambda s: SpatialGroupEnhance(s.groups),
    params=lambda s: 2 * s.groups,
    groups=lambda channels: fitting(channels, 64),
    fits={"groups": Fit("g divides C", divides)},
    dims=(2, 3),
    formula="2g",
)
EMA = part(
    id="ema",
    role="whole",
    build=lambda s: EfficientMultiScale(s.channels, s.groups, s.dims),
    params=lambda s: (3**s.dims + 1) * (s.channels // s.groups) ** 2 + 4 * (s.channels // s.groups),
    groups=lambda channels: fitting(channels, 32),
    fits={"groups": Fit("g divides C", divides)},
    dims=(2, 3),
    formula="10q² + 4q, q = C/g",
)

register(
    AttentionType(
        "shuffle_attention",
        (SHUFFLE,),
        "SA-Net, Zhang & Yang 2021, arXiv:2102.00240",
        SHUFFLE.formula,
        equation="shuffle([a * s(w1 mean(a) + b1), b * s(w2 GN(b) + b2)]), x = [a, b] in each group",
        use="Channel and spatial gates on halves of groups for 3C/g parameters: light networks.",
    ),
    AttentionType(
        "sge",
        (SGE,),
        "Spatial Group-wise Enhance, Li et al. 2019, arXiv:1905.09646",
        SGE.formula,
        equation="x * s(w t + b), t = <x, mean(x)> in each group, normalised over the map",
        use="2 g parameters: strengthens places that look like their group's mean. Where parameters are scarce.",
    ),
    AttentionType(
        "ema",
        (EMA,),
        "EMA, Ouyang et al. 2023, arXiv:2305.13563",
        EMA.formula,
        equation="x * s(softmax(mean(u)) v + softmax(mean(v)) u) in each group, u = GN(x * a_h * a_w), v = conv_3(x)",
        use="Coordinate gates inside of groups, with convolutions beside them: detectors; its MACs grow with the map.",
    ),
)
