"""Channel attention: one gate per channel from a pooled descriptor (SE, ECA and their kin).

Shapes as in parts.py. A gate is (B, C, 1, 1); the pooling is a plain mean or maximum over space, so no type
here depends on the size of the map.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

from spaces.attention.parts import BatchNorm, Gate, autocast, conv, gram, like, mean, peak, space, wide
from spaces.attention.registry import register
from spaces.attention.types import AttentionType, Sizes, part


class SqueezeExcite(Gate):
    """`x * sigmoid(W2 relu(W1 mean(x)))`, W1: C -> h, W2: h -> C, biased (Hu et al., CVPR 2018, arXiv:1709.01507)."""

    def __init__(self, channels: int, hidden: int, bias: bool = True) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, channels, bias=bias)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        hidden_Bh = torch.relu(self.fc1(mean(x_BCHW, space(x_BCHW))))
        return like(self.fc2(hidden_Bh), x_BCHW)


def eca_kernel(channels: int) -> int:
    """ECA's kernel for C channels: t = int(|(log2 C + 1) / 2|), the next odd number when t is even."""
    t = int(abs((math.log2(channels) + 1) / 2))
    return t if t % 2 else t + 1


class EfficientChannel(Gate):
    """`x * sigmoid(conv1d(mean(x)))`: each channel looks at k neighbours (Wang et al., CVPR 2020, arXiv:1910.03151).

    No bias. With `pool="max"` the descriptor is the maximum over space, as in AAM's channel part.
    """

    def __init__(self, kernel: int, pool: str = "mean") -> None:
        super().__init__()
        self.pool = pool
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        pooled_BC = peak(x_BCHW.flatten(2), 2) if self.pool == "max" else mean(x_BCHW, space(x_BCHW))
        return like(self.conv(pooled_BC.unsqueeze(1)).squeeze(1), x_BCHW)


class EffectiveSqueezeExcite(Gate):
    """`x * hard_sigmoid(W mean(x) + b)`, one full layer C -> C (Lee & Park, CVPR 2020, arXiv:1911.06667).

    ParNet's gate (Goyal et al. 2021, arXiv:2110.07641) is the same without bias and with a plain sigmoid.
    """

    def __init__(self, channels: int, bias: bool = True, hard: bool = True) -> None:
        super().__init__()
        self.hard = hard
        self.fc = nn.Linear(channels, channels, bias=bias)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        return like(self.fc(mean(x_BCHW, space(x_BCHW))), x_BCHW)

    def activate(self, logits: Tensor) -> Tensor:
        return F.hardsigmoid(logits) if self.hard else torch.sigmoid(logits)


class StyleRecalibration(Gate):
    """`x * sigmoid(BN(w_1 mean(x) + w_2 std(x)))`, two weights per channel (Lee et al., ICCV 2019, arXiv:1903.10829).

    The deviation is the paper's, over all P positions (the public code divides by P - 1, undefined on 1 x 1 maps).
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(channels, 2))
        self.norm = BatchNorm(channels)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        # Apart: the gradient of var_mean holds one map more than those of the two.
        mean_BC, var_BC = mean(x_BCHW, space(x_BCHW)), wide(x_BCHW).var(space(x_BCHW), correction=0)
        std_BC = (var_BC + self.eps).sqrt().to(mean_BC.dtype)
        mixed_BC = mean_BC * self.weight[:, 0] + std_BC * self.weight[:, 1]
        return like(self.norm(mixed_BC), x_BCHW)


# The 16 frequencies (row, column) that work best alone, on the 7 x 7 grid of the paper's selection.
FCA_FREQUENCIES = (
    (0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2),
    (0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2),
)


class FrequencyChannel(Gate):
    """SE without biases on DCT coefficients instead of means (Qin et al., ICCV 2021, arXiv:2012.11879).

    Channel c of C is described by `sum_ij x_ij cos(pi u (i + 1/2) / H) cos(pi v (j + 1/2) / W)`, orthonormal, with
    frequency number c * 16 // C of the paper's best 16. These are given on a 7 x 7 grid; on a map of H x W they are
    (u * H // 7, v * W // 7), which is the published rule where 7 divides H and W, and is defined for any size. Of a clip,
    the frequency in time is 0: the frames are summed and divided by sqrt(T).
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, channels, bias=False)
        self.frequencies_2C: Tensor
        chosen = [c * 16 // channels for c in range(channels)]
        self.register_buffer("frequencies_2C", torch.tensor(FCA_FREQUENCIES)[:, chosen], persistent=False)

    def basis(self, frequency_C: Tensor, size: int) -> Tensor:
        """The cosines (C, size) of each channel's frequency along one axis, in float64."""
        return cosines(frequency_C, size)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        coefficients_BC = transformed(x_BCHW, self.frequencies_2C)
        return like(self.fc2(torch.relu(self.fc1(coefficients_BC))), x_BCHW)


def cosines(frequency_C: Tensor, size: int) -> Tensor:
    """The orthonormal cosines (C, size) of frequencies on a grid of 7, along an axis of `size`.

    In float64 (float32 on Apple's GPU, which has no other): angles of many turns lose four digits in float32.
    """
    exact = torch.float32 if frequency_C.device.type == "mps" else torch.float64
    scaled_C = frequency_C * size // 7
    centre_L = torch.arange(size, device=frequency_C.device, dtype=exact) + 0.5
    waves_CL = torch.cos(math.pi / size * scaled_C.to(exact)[:, None] * centre_L)
    return waves_CL * ((1 + (scaled_C != 0).to(exact)) / size).sqrt()[:, None]


def transformed(x_BCHW: Tensor, frequencies_2C: Tensor) -> Tensor:
    """The coefficient (B, C) of each channel at its frequency."""
    if has_torch_function((x_BCHW, frequencies_2C)):
        tensors = (x_BCHW, frequencies_2C)
        return handle_torch_function(transformed, tensors, *tensors)  # type: ignore[no-any-return]
    half = x_BCHW.dtype == torch.float16 or x_BCHW.dtype == torch.bfloat16
    given = x_BCHW.dtype
    if x_BCHW.dim() == 5:
        x_BCHW = wide(x_BCHW).sum(2) * x_BCHW.shape[2] ** -0.5
    kind = torch.float64 if given == torch.float64 else torch.float32
    rows_CH = cosines(frequencies_2C[0], x_BCHW.shape[2]).to(kind)
    columns_CW = cosines(frequencies_2C[1], x_BCHW.shape[3]).to(kind)
    basis_CHW = rows_CH[:, :, None] * columns_CW[:, None]
    if half or autocast(x_BCHW):
        # One after the other in float32: a wave that half precision has rounded does not cancel what the map has in common.
        return (wide(x_BCHW) * basis_CHW).sum((2, 3)).to(given)
    return torch.einsum("bchw,chw->bc", [x_BCHW, basis_CHW])


class GatedChannelTransformation(Gate):
    """`x * (1 + tanh(s gamma / sqrt(mean_c(s^2) + eps) + beta))`, s = alpha |x|_2 (Yang et al., CVPR 2020, arXiv:1909.11519).

    gamma and beta start at 0: the identity, unless `zero_init=False`, which starts gamma at 1.
    """

    def __init__(self, channels: int, eps: float = 1e-5, zero_init: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.alpha = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(torch.full((channels,), 0.0 if zero_init else 1.0))
        self.beta = nn.Parameter(torch.zeros(channels))

    def logits(self, x_BCHW: Tensor) -> Tensor:
        # A product, whose gradient takes a pass less over the map than that of a square.
        wide_BCHW = wide(x_BCHW)
        norm_BC = ((wide_BCHW * wide_BCHW).sum(space(x_BCHW)) + self.eps).sqrt() * self.alpha
        scale_BC = self.gamma * (norm_BC.square().mean(1, keepdim=True) + self.eps).rsqrt()
        return like(norm_BC * scale_BC + self.beta, x_BCHW)

    def activate(self, logits: Tensor) -> Tensor:
        return 1 + torch.tanh(logits)


class SecondOrder(Gate):
    """A gate from the covariance of channels (GSoP: Gao et al., CVPR 2019, arXiv:1811.12006).

    1x1 C -> h, BN, ReLU; covariance over the positions (h x h); BN over its rows; row-wise convolution, each row to
    4 numbers; 1x1 4h -> C; sigmoid. All biased. Public code puts a ReLU before all of it, which changes nothing where x
    comes from one; `first_relu=True` does too. The gate multiplies x as it came.
    """

    def __init__(self, channels: int, hidden: int, dims: int, first_relu: bool = False) -> None:
        super().__init__()
        self.first_relu = first_relu
        self.reduce = conv(dims, channels, hidden)
        self.norm = BatchNorm(hidden)
        self.row_norm = BatchNorm(hidden)
        self.rows = nn.Conv1d(hidden, 4 * hidden, hidden, groups=hidden)
        self.expand = nn.Linear(4 * hidden, channels)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        seen_BCHW = torch.relu(x_BCHW) if self.first_relu else x_BCHW
        y_BhP = torch.relu(self.norm(self.reduce(seen_BCHW))).flatten(2)
        centred_BhP = y_BhP - y_BhP.mean(2, keepdim=True)
        covariance_Bhh = (gram(centred_BhP) / y_BhP.shape[2]).to(y_BhP.dtype)
        return like(self.expand(self.rows(self.row_norm(covariance_Bhh)).flatten(1)), x_BCHW)


def mlp_params(sizes: Sizes) -> int:
    """Two biased layers C -> h -> C."""
    return 2 * sizes.channels * sizes.hidden + sizes.hidden + sizes.channels


SE_PART = part(
    id="se",
    role="channel",
    build=lambda s, bias: SqueezeExcite(s.channels, s.hidden, bias),
    params=mlp_params,
    reduction=16,
    flags={"bias": (True, False)},
    dims=(2, 3),
    formula="2Ch + h + C",
)
ECA_PART = part(
    id="eca",
    role="channel",
    build=lambda s: EfficientChannel(s.kernel),
    params=lambda s: s.kernel,
    kernel=eca_kernel,
    dims=(2, 3),
    formula="k",
)
EFFECTIVE_SE = part(
    id="effective_se",
    role="channel",
    build=lambda s: EffectiveSqueezeExcite(s.channels),
    params=lambda s: s.channels**2 + s.channels,
    dims=(2, 3),
    formula="C² + C",
)
PARNET = part(
    id="parnet",
    role="channel",
    build=lambda s: EffectiveSqueezeExcite(s.channels, bias=False, hard=False),
    params=lambda s: s.channels**2,
    dims=(2, 3),
    formula="C²",
)
SRM = part(
    id="srm",
    role="channel",
    build=lambda s: StyleRecalibration(s.channels),
    params=lambda s: 4 * s.channels,
    dims=(2, 3),
    formula="4C",
)
FCA = part(
    id="fca",
    role="channel",
    build=lambda s: FrequencyChannel(s.channels, s.hidden),
    params=lambda s: 2 * s.channels * s.hidden,
    reduction=16,
    dims=(2, 3),
    formula="2Ch",
)
GCT = part(
    id="gct",
    role="channel",
    build=lambda s, zero_init: GatedChannelTransformation(s.channels, zero_init=zero_init),
    params=lambda s: 3 * s.channels,
    dims=(2, 3),
    zero_init=True,
    formula="3C",
)
SECOND_ORDER = part(
    id="second_order",
    role="channel",
    build=lambda s, first_relu: SecondOrder(s.channels, s.hidden, s.dims, first_relu),
    params=lambda s: 5 * s.channels * s.hidden + 4 * s.hidden**2 + 9 * s.hidden + s.channels,
    reduction=16,
    flags={"first_relu": (False, True)},
    dims=(2, 3),
    formula="5Ch + 4h² + 9h + C",
)

register(
    AttentionType(
        "se",
        (SE_PART,),
        "Squeeze-and-Excitation, Hu et al. 2018, arXiv:1709.01507",
        "2Ch + h + C",
        equation="x * s(W2 relu(W1 mean(x)))",
        use="The first to try: two small matrices, next to no MACs, any stage. The baseline that others have to beat.",
    ),
    AttentionType(
        "eca",
        (ECA_PART,),
        "ECA-Net, Wang et al. 2020, arXiv:1910.03151",
        "k",
        equation="x * s(conv_k(mean(x))), the convolution along the channels",
        use="The cheapest channel gate: k parameters, no bottleneck. For very small networks.",
    ),
    AttentionType(
        "effective_se",
        (EFFECTIVE_SE,),
        "CenterMask (eSE), Lee & Park 2020, arXiv:1911.06667",
        "C² + C",
        equation="x * hard_sigmoid(W mean(x))",
        use="A channel gate without a bottleneck, with C² parameters: detectors (its paper's use), not wide classifiers.",
    ),
    AttentionType(
        "parnet",
        (PARNET,),
        "ParNet (skip-squeeze-excitation), Goyal et al. 2021, arXiv:2110.07641",
        "C²",
        equation="x * s(W mean(x))",
        use="SE in one layer, C² parameters and no bottleneck: shallow and wide networks, as in its paper.",
    ),
    AttentionType(
        "srm",
        (SRM,),
        "SRM, Lee et al. 2019, arXiv:1903.10829",
        "4C",
        equation="x * s(BN(w1 mean(x) + w2 std(x)))",
        use="Mean and deviation of each channel for 4C parameters: style and texture, every stage.",
    ),
    AttentionType(
        "fca",
        (FCA,),
        "FcaNet, Qin et al. 2021, arXiv:2012.11879",
        "2Ch",
        equation="x * s(W2 relu(W1 DCT_uv(x))), one frequency (u, v) per channel",
        use="SE with frequencies in place of the mean: where texture matters; no more parameters than SE without its biases.",
    ),
    AttentionType(
        "gct",
        (GCT,),
        "Gated Channel Transformation, Yang et al. 2020, arXiv:1909.11519",
        "3C",
        equation="x * (1 + tanh(a gamma / sqrt(mean_C(a²)) + beta)), a = alpha norm(x)",
        use="Three vectors of parameters and almost no MACs; competition and cooperation of channels. Safe in every block.",
    ),
    AttentionType(
        "second_order",
        (SECOND_ORDER,),
        "GSoP-Net, Gao et al. 2019, arXiv:1811.12006",
        SECOND_ORDER.formula,
        equation="x * s(W2 rows(BN(cov(relu(BN(W1 x))))))",
        use="Covariances of channels in place of means: fine-grained classes; small r costs h² per row.",
    ),
)
