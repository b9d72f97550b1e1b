"""Attention within groups of channels: shuffle attention, SGE and EMA.

Shapes as in parts.py; g groups of q = C / g channels. The published g is taken where it fits, else the largest power of
two below it that does.
"""

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from spaces.attention.pairs import channel_shuffle
from spaces.attention.parts import Gate, GroupNorm, conv, keep_format, mean, mean_along
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
        height, width = x_BCHW.shape[2], x_BCHW.shape[3]
        by_mean_NcHW, by_map_NcHW = x_BCHW.reshape(-1, 2 * self.half_width, height, width).chunk(2, 1)
        halves = [
            gated(by_mean_NcHW, mean(by_mean_NcHW, [2, 3], keepdim=True), self.channel_weight, self.channel_bias),
            gated(by_map_NcHW, self.norm(by_map_NcHW), self.spatial_weight, self.spatial_bias),
        ]
        return keep_format(channel_shuffle(torch.cat(halves, 1).view_as(x_BCHW), 2), x_BCHW)


def gated(half_NcHW: Tensor, seen: Tensor, weight_c: Tensor, bias_c: Tensor) -> Tensor:
    """`half * sigmoid(w seen + b)`, w and b per channel."""
    gate = torch.sigmoid(weight_c[:, None, None] * seen + bias_c[:, None, None])
    return half_NcHW * gate.to(half_NcHW.dtype)


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
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.width = width = channels // groups
        self.conv1 = nn.Conv1d(width, width, 1)
        self.conv3 = conv(2, width, width, 3)
        self.norm = GroupNorm(width, width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        height, width = x_BCHW.shape[2], x_BCHW.shape[3]
        x_NqHW = x_BCHW.reshape(-1, self.width, height, width)
        pooled_NqL = torch.cat((mean_along(x_NqHW, 3), mean_along(x_NqHW, 2)), 2)
        # Each part has its own sigmoid: torch 2.13's CPU compiler takes a wrong gradient of one sigmoid before a split.
        rows_NqH, columns_NqW = self.conv1(pooled_NqL).split([height, width], 2)
        gated_NqHW = x_NqHW * torch.sigmoid(rows_NqH).unsqueeze(3) * torch.sigmoid(columns_NqW).unsqueeze(2)
        x1_NqP = self.norm(gated_NqHW).flatten(2)
        x2_NqP = self.conv3(x_NqHW).flatten(2)
        # Expanded to a batch, so that the product does not transpose x2 to fold its batch away.
        by_x1_N1q = self.norm.bias.softmax(0).to(x2_NqP.dtype).expand(x2_NqP.shape[0], 1, -1)
        by_x2_N1q = mean(x2_NqP, [2], keepdim=True).softmax(1).transpose(1, 2).to(x1_NqP.dtype)
        gate_N1P = torch.sigmoid(by_x1_N1q @ x2_NqP + by_x2_N1q @ x1_NqP).to(x_BCHW.dtype)
        gate_Bg1HW = gate_N1P.unflatten(0, (-1, self.groups)).unflatten(3, (height, width))
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
    build=lambda s: EfficientMultiScale(s.channels, s.groups),
    params=lambda s: 10 * (s.channels // s.groups) ** 2 + 4 * (s.channels // s.groups),
    groups=lambda channels: fitting(channels, 32),
    fits={"groups": Fit("g divides C", divides)},
    formula="10q² + 4q, q = C/g",
)

register(
    AttentionType(
        "shuffle_attention",
        (SHUFFLE,),
        "SA-Net, Zhang & Yang 2021, arXiv:2102.00240",
        SHUFFLE.formula,
        equation="shuffle([a * s(w1 mean(a) + b1), b * s(w2 GN(b) + b2)]), x = [a, b] in each group",
    ),
    AttentionType(
        "sge",
        (SGE,),
        "Spatial Group-wise Enhance, Li et al. 2019, arXiv:1905.09646",
        SGE.formula,
        equation="x * s(w t + b), t = <x, mean(x)> in each group, normalised over the map",
    ),
    AttentionType(
        "ema",
        (EMA,),
        "EMA, Ouyang et al. 2023, arXiv:2305.13563",
        EMA.formula,
        equation="x * s(softmax(mean(u)) v + softmax(mean(v)) u) in each group, u = GN(x * a_h * a_w), v = conv_3(x)",
    ),
)
