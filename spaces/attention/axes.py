"""Attention along one axis at a time: Coordinate Attention and its one-direction ablations, triplet, strip, ELA.

Shapes as in parts.py, and m = max(8, C // r) the hidden width of the shared transform. The papers know maps only. Of a clip
(B, C, T, H, W), time is one more axis like the two others; what that makes of each type is in its docstring.
"""

import math

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn import functional as F

from spaces.attention.parts import BatchNorm, Gate, GroupNorm, along, conv, mean_along, peak, recorded, strip
from spaces.attention.registry import register
from spaces.attention.types import AttentionType, Sizes, part

FOLDED = 8  # the side, in kernels, up to which `conv_folded` is the faster one


def coordinate_width(channels: int, reduction: int) -> int:
    """The published floor of Coordinate Attention: max(8, C // r)."""
    return max(8, channels // reduction)


class Coordinate(nn.Module):
    """`x * a_h * a_w`, a gate per row and a gate per column (Hou et al., CVPR 2021, arXiv:2103.02907).

    Means over W (B,C,H,1) and over H (B,C,1,W) are laid end to end, go through one 1x1 convolution C -> m, BN and
    h-swish, are split again, and one 1x1 convolution m -> C with a sigmoid each makes the gates. All biased.

    Of a clip the descriptor of a place along an axis is the mean over the two other axes, and there is a third gate, one a
    frame: `x * a_t * a_h * a_w`. With one direction only (the paper's ablation) there is none.
    """

    def __init__(self, channels: int, hidden: int, directions: str = "hw", dims: int = 2) -> None:
        super().__init__()
        self.axes = ["thw"[-dims:].index(direction) + 2 for direction in directions]
        self.conv1 = nn.Conv1d(channels, hidden, 1)
        self.norm = BatchNorm(hidden)
        self.convs = nn.ModuleDict({axis: nn.Conv1d(hidden, channels, 1) for axis in directions})

    def forward(self, x_BCHW: Tensor) -> Tensor:
        # A row's descriptor is the mean over W (axis 3), a column's the mean over H (axis 2).
        pooled = [strip(x_BCHW, axis) for axis in self.axes]
        shared_BmL = F.hardswish(self.norm(self.conv1(torch.cat(pooled, 2))))
        parts = shared_BmL.split([x_BCHW.shape[axis] for axis in self.axes], 2)
        # One gate after the other, so that the gradient of one is done with before that of the other begins.
        for number, expand in enumerate(self.convs.values()):
            gate_BCL = torch.sigmoid(expand(parts[number])).to(x_BCHW.dtype)
            x_BCHW = x_BCHW * along(gate_BCL, x_BCHW, self.axes[number])
        return x_BCHW


class PlaneConv(nn.Conv2d):
    """The "same" k x k convolution of two planes to one, without bias: (B, 2, L, S) -> (B, 1, L, S).

    While training, a short side S is folded into the channels: k taps along L, 2S -> S channels, the weight from s to t
    the kernel's at offset s - t, and zero beyond it. That takes S / k times the products; yet a convolution of two channels
    to one leaves most of a vector unit idle, and takes 1.2 (S = 56, k = 7) to 2.5 times (S = 7) as long with all that is
    around it. Exported and counted networks, in eval mode, have the published convolution.

    `turned`: the kernel is kept with its axes the other way round, S before L.
    """

    def __init__(self, kernel: int, turned: bool) -> None:
        super().__init__(2, 1, kernel, padding=kernel // 2, bias=False)
        self.turned = turned
        self.longest = FOLDED * kernel

    def forward(self, input: Tensor) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102
            if isinstance(input, Proxy):
                return recorded(self, input)  # type: ignore[no-any-return]
        weight_12kk = self.weight.transpose(2, 3) if self.turned else self.weight
        if self.training and input.shape[3] <= self.longest:
            return conv_folded(weight_12kk, input)
        return self._conv_forward(input, weight_12kk, None)


def conv_folded(weight_12kk: Tensor, plane_B2LS: Tensor) -> Tensor:
    """The convolution of `PlaneConv` with the side S folded into the channels, (B, 1, L, S)."""
    kernel, side = weight_12kk.shape[-1], plane_B2LS.shape[-1]
    position_S = torch.arange(side, device=weight_12kk.device)
    offset_SS = position_S[None, :] - position_S[:, None] + kernel // 2  # (to, from)
    inside_SS = (offset_SS >= 0) & (offset_SS < kernel)
    banded_2kSS = weight_12kk[0][:, :, offset_SS.clamp(0, kernel - 1)] * inside_SS
    weight_SDk = banded_2kSS.permute(2, 0, 3, 1).flatten(1, 2)  # D = 2S
    folded_BDL = plane_B2LS.transpose(2, 3).flatten(1, 2)
    return F.conv1d(folded_BDL, weight_SDk, padding=kernel // 2).transpose(1, 2).unsqueeze(1)


class Triplet(nn.Module):
    """Mean of three gated maps, one for each pair of axes (Misra et al., WACV 2021, arXiv:2010.03045).

    A branch pools over the axis that it leaves out, [max, mean] in that order, and gates with
    `sigmoid(BN(conv_k(.)))`, k x k, 2 -> 1, no bias, momentum 0.01. The published code rotates the map for this; here
    the pooled planes are rotated instead, and x is read for the three gates and multiplied once.
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        # The planes come as CW, CH and HW; the kernel over C and H is kept as HC.
        self.convs = nn.ModuleDict({axes: PlaneConv(kernel, axes == "hc") for axes in ("cw", "hc", "hw")})
        self.norms = nn.ModuleDict({axes: BatchNorm(1, momentum=0.01) for axes in ("cw", "hc", "hw")})

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_B1CW = self.norms["cw"](self.convs["cw"](planes(x_BCHW, 2)))
        logits_B1CH = self.norms["hc"](self.convs["hc"](planes(x_BCHW, 3)))
        logits_B1HW = self.norms["hw"](self.convs["hw"](planes(x_BCHW, 1)))
        gate_BC1W = torch.sigmoid(logits_B1CW).to(x_BCHW.dtype).squeeze(1).unsqueeze(2)
        gate_BCH1 = torch.sigmoid(logits_B1CH).to(x_BCHW.dtype).squeeze(1).unsqueeze(3)
        gate_B1HW = torch.sigmoid(logits_B1HW).to(x_BCHW.dtype)
        return x_BCHW * ((gate_BC1W + gate_BCH1 + gate_B1HW) / 3)


class Quadruplet(nn.Module):
    """Triplet attention of a clip: the mean of four gated clips, one for each three of the axes C, T, H and W.

    A branch pools over the axis that it leaves out and gates with `sigmoid(BN(conv_k(.)))`, k x k x k, 2 -> 1, no bias.
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.left_out = [2, 3, 4, 1]
        self.convs = nn.ModuleList(conv(3, 2, 1, kernel, bias=False) for _ in self.left_out)
        self.norms = nn.ModuleList(BatchNorm(1, momentum=0.01) for _ in self.left_out)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        gates: list[Tensor] = []
        for number, (convolution, norm) in enumerate(zip(self.convs, self.norms)):  # noqa: B905  (TorchScript has no strict)
            axis = self.left_out[number]
            logits_B1LMN = norm(convolution(planes(x_BCTHW, axis)))
            gates.append(torch.sigmoid(logits_B1LMN).to(x_BCTHW.dtype).squeeze(1).unsqueeze(axis))
        return x_BCTHW * ((gates[0] + gates[1] + gates[2] + gates[3]) / 4)


def planes(x_BCHW: Tensor, left_out: int) -> Tensor:
    """Maximum and mean over one axis, as two planes (B, 2, L, S) over the others; of a clip as two volumes."""
    return torch.stack((peak(x_BCHW, left_out), mean_along(x_BCHW, left_out)), 1)


class StripPooling(Gate):
    """`sigmoid(conv_1x1(relu(BN(conv_k(mean_W x)) + BN(conv_k(mean_H x)))))` (Hou et al., CVPR 2020, arXiv:2003.13328).

    The two strips (B,C,H,1) and (B,C,1,W) have their own k-tap convolutions C -> C without bias. Of a clip there is a third
    one along time; each is the mean over the two other axes, and the three are summed.
    """

    def __init__(self, channels: int, kernel: int, dims: int) -> None:
        super().__init__()
        self.rows, self.columns = dims, dims + 1  # the axes H and W
        self.conv_h = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, bias=False)
        self.norm_h = BatchNorm(channels)
        self.conv_w = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, bias=False)
        self.norm_w = BatchNorm(channels)
        self.conv_t: nn.Module | None = None
        self.norm_t: nn.Module | None = None
        if dims == 3:
            self.conv_t = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, bias=False)
            self.norm_t = BatchNorm(channels)
        self.fuse = conv(dims, channels, channels)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        rows_BCH = self.norm_h(self.conv_h(strip(x_BCHW, self.rows)))
        columns_BCW = self.norm_w(self.conv_w(strip(x_BCHW, self.columns)))
        summed = along(rows_BCH, x_BCHW, self.rows) + along(columns_BCW, x_BCHW, self.columns)
        if self.conv_t is not None and self.norm_t is not None:
            summed = summed + along(self.norm_t(self.conv_t(strip(x_BCHW, 2))), x_BCHW, 2)
        logits_BCHW: Tensor = self.fuse(torch.relu(summed))
        return logits_BCHW


class EfficientLocal(nn.Module):
    """`x * a_h * a_w`, a = sigmoid(GN(conv1d(mean))), one depthwise k-tap convolution for both (arXiv:2403.01123).

    Xu & Wan 2024. 16 groups of channels as published, or the largest number below that divides both 16 and C. Of a clip
    there is a third gate, one a frame, by the same convolution: `x * a_t * a_h * a_w`.
    """

    def __init__(self, channels: int, kernel: int, dims: int) -> None:
        super().__init__()
        self.axes = list(range(2, 2 + dims))
        self.conv = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
        self.norm = GroupNorm(math.gcd(16, channels), channels)

    def gate(self, mean_BCL: Tensor) -> Tensor:
        return torch.sigmoid(self.norm(self.conv(mean_BCL))).to(mean_BCL.dtype)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        gates = [self.gate(strip(x_BCHW, axis)) for axis in self.axes]
        for number, axis in enumerate(self.axes):
            x_BCHW = x_BCHW * along(gates[number], x_BCHW, axis)
        return x_BCHW


def coordinate_type(name: str, directions: str, equation: str, use: str) -> AttentionType:
    """Coordinate attention over both directions, or over one."""
    n = len(directions)
    formula = f"{n + 1}Cm + 3m + {n}C, m = max(8, C // r)".replace("1C", "C")

    def gates(s: Sizes) -> str:
        return "thw" if s.dims == 3 and n > 1 else directions

    def params(s: Sizes) -> int:
        count = len(gates(s))
        return (count + 1) * s.channels * s.hidden + 3 * s.hidden + count * s.channels

    whole = part(
        id=name,
        role="whole",
        build=lambda s: Coordinate(s.channels, s.hidden, gates(s), s.dims),
        params=params,
        reduction=32,
        hidden=coordinate_width,
        dims=(2, 3),
        formula=formula,
    )
    paper = "Coordinate Attention, Hou et al. 2021, arXiv:2103.02907"
    return AttentionType(name, (whole,), paper, formula, equation=equation, use=use)


TRIPLET = part(
    id="triplet",
    role="whole",
    build=lambda s: Quadruplet(s.kernel) if s.dims == 3 else Triplet(s.kernel),
    params=lambda s: (s.dims + 1) * (2 * s.kernel**s.dims + 2),
    kernel=7,
    dims=(2, 3),
    formula="3(2k² + 2)",
)
STRIP = part(
    id="strip",
    role="spatial",
    build=lambda s: StripPooling(s.channels, s.kernel, s.dims),
    params=lambda s: (s.dims * s.kernel + 1) * s.channels**2 + (2 * s.dims + 1) * s.channels,
    kernel=3,
    dims=(2, 3),
    formula="(2k + 1)C² + 5C",
)
ELA = part(
    id="ela",
    role="whole",
    build=lambda s: EfficientLocal(s.channels, s.kernel, s.dims),
    params=lambda s: (s.kernel + 2) * s.channels,
    kernel=7,
    dims=(2, 3),
    formula="(k + 2)C",
)

register(
    coordinate_type(
        "coordinate",
        "hw",
        "x * s(W_h y_h) * s(W_w y_w), y = h_swish(BN(W [mean_W(x), mean_H(x)]))",
        "Where position along rows and columns matters, in mobile networks above all: it keeps what a global mean loses.",
    ),
    coordinate_type(
        "coordinate_h",
        "h",
        "x * s(W_h y), y = h_swish(BN(W mean_W(x)))",
        "An ablation of Coordinate Attention, with the gate of rows alone.",
    ),
    coordinate_type(
        "coordinate_w",
        "w",
        "x * s(W_w y), y = h_swish(BN(W mean_H(x)))",
        "An ablation of Coordinate Attention, with the gate of columns alone.",
    ),
    AttentionType(
        "triplet",
        (TRIPLET,),
        "Triplet Attention, Misra et al. 2021, arXiv:2010.03045",
        TRIPLET.formula,
        equation="x * (G_HW + G_CW + G_CH) / 3, G = s(BN(conv_k([max, mean]))) over the axis left out",
        use="Three planes, a few hundred parameters, no bottleneck; MACs grow with the map, so not for the first stages.",
    ),
    AttentionType(
        "strip",
        (STRIP,),
        "Strip Pooling, Hou et al. 2020, arXiv:2003.13328",
        STRIP.formula,
        equation="x * s(W relu(BN(conv_k(mean_W(x))) + BN(conv_k(mean_H(x)))))",
        use="Long thin context, such as roads and poles: segmentation; C² k parameters, so late and few.",
    ),
    AttentionType(
        "ela",
        (ELA,),
        "ELA, Xu & Wan 2024, arXiv:2403.01123",
        ELA.formula,
        equation="x * s(GN(conv_k(mean_W(x)))) * s(GN(conv_k(mean_H(x))))",
        use="The positions of Coordinate Attention without a bottleneck over channels: thin networks above all.",
    ),
)
