"""Types made of a channel part and a spatial part: CBAM, BAM, GAM, AAM, scSE and GALA.

Each is five lines of registry over two parts and one composition (parts.py); either arrangement can be built.
Shapes as in parts.py.
"""

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn import functional as F

from spaces.attention.channel import SE_PART, EfficientChannel, eca_kernel, mlp_params
from spaces.attention.parts import BatchNorm, Gate, ParallelMax, ParallelSum, conv, like, mean, peak, recorded, space
from spaces.attention.registry import register
from spaces.attention.types import AttentionType, Fit, Fusion, Sizes, part


class SumLinear(nn.Linear):
    """A linear layer of two inputs, its outputs summed: W (a + b) + 2 b, one product for both."""

    def forward(self, input: Tensor, other: Tensor) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102
            if isinstance(input, Proxy):
                return recorded(self, input, other)  # type: ignore[no-any-return]
        return F.linear(input + other, self.weight, 2 * self.bias)


class CbamChannel(Gate):
    """`sigmoid(MLP(mean(x)) + MLP(max(x)))`, one biased MLP C -> h -> C with ReLU (arXiv:1807.06521, eq. 2)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = SumLinear(hidden, channels)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        pooled_2BC = torch.stack((mean(x_BCHW, space(x_BCHW)), peak(x_BCHW.flatten(2), 2)))
        mean_Bh, max_Bh = torch.relu(self.fc1(pooled_2BC)).unbind()
        return like(self.fc2(mean_Bh, max_Bh), x_BCHW)


class PooledSpatial(Gate):
    """`sigmoid(conv_k([max_c(x), mean_c(x)]))` from the maximum and the mean over channels, in that order.

    CBAM normalises the convolution's output (momentum 0.01); AAM does not, and takes the mean first.
    """

    def __init__(self, kernel: int, dims: int, norm: bool = True, mean_first: bool = False) -> None:
        super().__init__()
        self.mean_first = mean_first
        self.conv = conv(dims, 2, 1, kernel, bias=False)
        self.norm = BatchNorm(1, momentum=0.01) if norm else nn.Identity()

    def logits(self, x_BCHW: Tensor) -> Tensor:
        max_B1HW, mean_B1HW = peak(x_BCHW, 1, keepdim=True), mean(x_BCHW, [1], keepdim=True)
        pooled_B2HW = torch.cat([mean_B1HW, max_B1HW] if self.mean_first else [max_B1HW, mean_B1HW], 1)
        logits_B1HW: Tensor = self.norm(self.conv(pooled_B2HW))
        return logits_B1HW


class BamGate(Gate):
    """BAM's gate `1 + sigmoid(M(x))` (arXiv:1807.06514, eq. 1); the logits M are what its parallel form fuses."""

    def activate(self, logits: Tensor) -> Tensor:
        return 1 + torch.sigmoid(logits)


class BamChannel(BamGate):
    """`W2 relu(BN(W1 mean(x) + b1)) + b2`. At batch 1 in training BN uses its running statistics, see BatchNorm."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.norm = BatchNorm(hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        hidden_Bh = torch.relu(self.norm(self.fc1(mean(x_BCHW, space(x_BCHW)))))
        return like(self.fc2(hidden_Bh), x_BCHW)


class BamSpatial(BamGate):
    """1x1 C -> h, two k x k convolutions of dilation 4, 1x1 h -> 1; BN and ReLU after all but the last, all biased."""

    def __init__(self, channels: int, hidden: int, kernel: int, dims: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = channels
        for size, dilation in ((1, 1), (kernel, 4), (kernel, 4)):
            layers += [conv(dims, width, hidden, size, dilation=dilation), BatchNorm(hidden), nn.ReLU(inplace=True)]
            width = hidden
        self.layers = nn.Sequential(*layers, conv(dims, hidden, 1))

    def logits(self, x_BCHW: Tensor) -> Tensor:
        logits_B1HW: Tensor = self.layers(x_BCHW)
        return logits_B1HW


class BamParallel(ParallelSum):
    """`x * (1 + sigmoid(Mc + Ms))` as the paper; the public code multiplies the logits, `fusion="product"`."""

    def __init__(self, channel: Gate, spatial: Gate, product: bool) -> None:
        super().__init__(channel, spatial)
        self.product = product

    def forward(self, x_BCHW: Tensor) -> Tensor:
        channel, spatial = self.channel.logits(x_BCHW), self.spatial.logits(x_BCHW)  # type: ignore[operator]
        logits_BCHW = channel * spatial if self.product else channel + spatial
        return x_BCHW * (1 + torch.sigmoid(logits_BCHW)).to(x_BCHW.dtype)


class GamChannel(Gate):
    """Per position, an MLP over channels C -> h -> C with ReLU, then a sigmoid (arXiv:2112.05561, eq. 1).

    The widely copied code multiplies by the MLP's output without the sigmoid: `channel_gate=False`.
    """

    def __init__(self, channels: int, hidden: int, dims: int, channel_gate: bool) -> None:
        super().__init__()
        self.channel_gate = channel_gate
        self.fc1 = conv(dims, channels, hidden)
        self.fc2 = conv(dims, hidden, channels)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        logits_BCHW: Tensor = self.fc2(torch.relu(self.fc1(x_BCHW)))
        return logits_BCHW

    def activate(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits) if self.channel_gate else logits


def channel_shuffle(x_BCHW: Tensor, groups: int) -> Tensor:
    """Channel i * (C / g) + j moves to j * g + i: every group of the next convolution sees every group of the last."""
    if groups == 1:
        return x_BCHW
    return x_BCHW.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class GamSpatial(Gate):
    """`sigmoid(BN(conv_k(shuffle(relu(BN(conv_k(x)))))))`, C -> h -> C, no pooling; both convolutions have g groups."""

    def __init__(self, channels: int, hidden: int, kernel: int, groups: int, dims: int) -> None:
        super().__init__()
        self.groups = groups
        self.conv1 = conv(dims, channels, hidden, kernel, groups=groups)
        self.norm1 = BatchNorm(hidden)
        self.conv2 = conv(dims, hidden, channels, kernel, groups=groups)
        self.norm2 = BatchNorm(channels)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        hidden_BhHW = channel_shuffle(torch.relu(self.norm1(self.conv1(x_BCHW))), self.groups)
        logits_BCHW: Tensor = self.norm2(self.conv2(hidden_BhHW))
        return logits_BCHW


def both_divisible(channels: int, hidden: int, groups: int) -> str:
    """Grouped convolutions C -> h -> C need g to divide both."""
    return "" if channels % groups == 0 and hidden % groups == 0 else f"g must divide C = {channels} and h = {hidden}"


class ScseSpatial(Gate):
    """`sigmoid(w . x + b)`, a 1x1 convolution C -> 1 (Roy et al. 2018, arXiv:1803.02579, sSE)."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.conv = conv(dims, channels, 1)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        logits_B1HW: Tensor = self.conv(x_BCHW)
        return logits_B1HW


class GalaSpatial(Gate):
    """1x1 C -> h, ReLU, k x k h -> h, ReLU, 1x1 h -> 1, all biased: GALA's local saliency S (arXiv:1805.08819)."""

    def __init__(self, channels: int, hidden: int, kernel: int, dims: int) -> None:
        super().__init__()
        self.conv1 = conv(dims, channels, hidden)
        self.conv2 = conv(dims, hidden, hidden, kernel)
        self.conv3 = conv(dims, hidden, 1)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        hidden_BhHW = torch.relu(self.conv2(torch.relu(self.conv1(x_BCHW))))
        logits_B1HW: Tensor = self.conv3(hidden_BhHW)
        return logits_B1HW


class GalaParallel(ParallelSum):
    """`x * sigmoid(alpha (S + F) + beta S F)`, alpha and beta per channel; `activation="tanh"` allows a change of sign."""

    def __init__(self, channel: Gate, spatial: Gate, channels: int, activation: str) -> None:
        super().__init__(channel, spatial)
        self.activation = activation
        self.alpha = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.ones(channels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        channel, spatial = self.channel.logits(x_BCHW), self.spatial.logits(x_BCHW)  # type: ignore[operator]
        alpha_C11, beta_C11 = like(self.alpha[None], x_BCHW), like(self.beta[None], x_BCHW)
        # alpha (S + F) + beta S F = alpha F + (alpha + beta F) S: the full map is touched by one fused multiply-add.
        logits_BCHW = torch.addcmul(alpha_C11 * channel, alpha_C11 + beta_C11 * channel, spatial)
        gate_BCHW = torch.tanh(logits_BCHW) if self.activation == "tanh" else torch.sigmoid(logits_BCHW)
        return x_BCHW * gate_BCHW.to(x_BCHW.dtype)


def _bam_spatial_params(s: Sizes) -> int:
    return s.channels * s.hidden + 10 * s.hidden + 1 + 2 * s.kernel**s.dims * s.hidden**2


def _gam_spatial_params(s: Sizes) -> int:
    weights = 2 * s.kernel**s.dims * s.channels * s.hidden // s.groups
    return weights + 3 * (s.hidden + s.channels)


CBAM_CHANNEL = part(
    id="cbam_channel",
    role="channel",
    build=lambda s: CbamChannel(s.channels, s.hidden),
    params=mlp_params,
    reduction=16,
    dims=(2, 3),
    formula="2Ch + h + C",
)
CBAM_SPATIAL = part(
    id="cbam_spatial",
    role="spatial",
    build=lambda s: PooledSpatial(s.kernel, s.dims),
    params=lambda s: 2 * s.kernel**s.dims + 2,
    kernel=7,
    dims=(2, 3),
    formula="2k² + 2",
)
BAM_CHANNEL = part(
    id="bam_channel",
    role="channel",
    build=lambda s: BamChannel(s.channels, s.hidden),
    params=lambda s: mlp_params(s) + 2 * s.hidden,
    reduction=16,
    dims=(2, 3),
    formula="2Ch + 3h + C",
)
BAM_SPATIAL = part(
    id="bam_spatial",
    role="spatial",
    build=lambda s: BamSpatial(s.channels, s.hidden, s.kernel, s.dims),
    params=_bam_spatial_params,
    reduction=16,
    kernel=3,
    dims=(2, 3),
    formula="Ch + 2k²h² + 10h + 1",
)
GAM_CHANNEL = part(
    id="gam_channel",
    role="channel",
    build=lambda s, channel_gate: GamChannel(s.channels, s.hidden, s.dims, channel_gate),
    params=mlp_params,
    reduction=4,
    flags={"channel_gate": (True, False)},
    dims=(2, 3),
    formula="2Ch + h + C",
)
GAM_SPATIAL = part(
    id="gam_spatial",
    role="spatial",
    build=lambda s: GamSpatial(s.channels, s.hidden, s.kernel, s.groups, s.dims),
    params=_gam_spatial_params,
    reduction=4,
    kernel=7,
    groups=1,
    fits={"groups": Fit("g divides C and h", both_divisible)},
    dims=(2, 3),
    formula="2Chk²/g + 3h + 3C",
)
AAM_CHANNEL = part(
    id="aam_channel",
    role="channel",
    build=lambda s: EfficientChannel(s.kernel, pool="max"),
    params=lambda s: s.kernel,
    kernel=eca_kernel,
    dims=(2, 3),
    formula="k_c",
)
AAM_SPATIAL = part(
    id="aam_spatial",
    role="spatial",
    build=lambda s: PooledSpatial(s.kernel, s.dims, norm=False, mean_first=True),
    params=lambda s: 2 * s.kernel**s.dims,
    kernel=7,
    dims=(2, 3),
    formula="2k²",
)
SCSE_CHANNEL = SE_PART.with_genes(reduction=2)
SCSE_SPATIAL = part(
    id="scse_spatial",
    role="spatial",
    build=lambda s: ScseSpatial(s.channels, s.dims),
    params=lambda s: s.channels + 1,
    dims=(2, 3),
    formula="C + 1",
)
GALA_CHANNEL = SE_PART.with_genes(reduction=4)
GALA_SPATIAL = part(
    id="gala_spatial",
    role="spatial",
    build=lambda s: GalaSpatial(s.channels, s.hidden, s.kernel, s.dims),
    params=lambda s: s.channels * s.hidden + s.kernel**s.dims * s.hidden**2 + 3 * s.hidden + 1,
    reduction=4,
    kernel=5,
    dims=(2, 3),
    formula="Ch + k²h² + 3h + 1",
)

BAM_FUSION = Fusion(
    id="bam",
    build=lambda channel, spatial, channels, fusion: BamParallel(channel, spatial, fusion == "product"),
    flags={"fusion": ("sum", "product")},
)
SCSE_FUSION = Fusion(
    id="scse",
    build=lambda channel, spatial, channels, fusion: {"sum": ParallelSum, "max": ParallelMax}[fusion](channel, spatial),
    flags={"fusion": ("sum", "max")},
)
GALA_FUSION = Fusion(
    id="gala",
    build=lambda channel, spatial, channels, activation: GalaParallel(channel, spatial, channels, activation),
    params=lambda channels: 2 * channels,
    flags={"activation": ("sigmoid", "tanh")},
)

register(
    AttentionType(
        "cbam",
        (CBAM_CHANNEL, CBAM_SPATIAL),
        "CBAM, Woo et al. 2018, arXiv:1807.06521",
        "2Ch + h + C + 2k² + 2",
        "series",
        equation="y = x * s(MLP(mean(x)) + MLP(max(x))); y * s(BN(conv_k([max_C(y), mean_C(y)])))",
        use="The usual next step after SE: which channels, then where, by a k x k view of pooled maps.",
    ),
    AttentionType(
        "bam",
        (BAM_CHANNEL, BAM_SPATIAL),
        "BAM, Park et al. 2018, arXiv:1807.06514",
        "3Ch + C + 2k²h² + 13h + 1",
        "parallel",
        BAM_FUSION,
        equation="x * (1 + s(W2 relu(BN(W1 mean(x))) + W4 D_k(D_k(W3 x)))), D_k a convolution of dilation 4",
        use="Wide views from dilated convolutions at low cost: between stages (`@stage`), as in its paper.",
    ),
    AttentionType(
        "gam",
        (GAM_CHANNEL, GAM_SPATIAL),
        "Global Attention Mechanism, Liu et al. 2021, arXiv:2112.05561",
        "2Ch(1 + k²/g) + 4h + 4C",
        "series",
        equation="y = x * s(W2 relu(W1 x)); y * s(BN(conv_k(shuffle(relu(BN(conv_k(y)))))))",
        use="The heaviest pair here: large k x k convolutions, no pooling. Where FLOPs hardly count; r and g tame it.",
    ),
    # AAM has neither public code nor a printed formula: this is its description in words, with sigmoids and no biases.
    AttentionType(
        "aam",
        (AAM_CHANNEL, AAM_SPATIAL),
        "AAM (adaptive attention module; described in words only, no public code or formula)",
        "k_c + 2k², k_c by ECA's rule",
        "parallel",
        equation="x * s(conv(max(x))) + x * s(conv_k([mean_C(x), max_C(x)])), the first convolution along the channels",
        use="A cheap pair of gates from maxima: where single strong responses matter more than averages.",
    ),
    AttentionType(
        "scse",
        (SCSE_CHANNEL, SCSE_SPATIAL),
        "scSE, Roy et al. 2018, arXiv:1803.02579",
        "2Ch + h + 2C + 1",
        "parallel",
        SCSE_FUSION,
        equation="x * s(W2 relu(W1 mean(x))) + x * s(w x)",
        use="Segmentation: channels and pixels, each by itself, summed. Its default r of 2 makes the channel part large.",
    ),
    AttentionType(
        "gala",
        (GALA_CHANNEL, GALA_SPATIAL),
        "GALA, Linsley et al. 2019, arXiv:1805.08819",
        "3Ch + k²h² + 4h + 3C + 1 (2C less in series)",
        "parallel",
        GALA_FUSION,
        equation="x * s(alpha (S + F) + beta S F), F = W2 relu(W1 mean(x)), S = W5 relu(conv_k(relu(W3 x)))",
        use="Local and global saliency, joined by learnt weights: where a k x k view of all channels is worth its MACs.",
    ),
)
