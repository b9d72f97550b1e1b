"""Gates that differ from position to position: pixel attention, SimAM, large separable kernels, gather-excite.

Shapes as in parts.py.
"""

from typing import Final

from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function, has_torch_function_unary

from spaces.attention.channel import mlp_params
from spaces.attention.parts import BatchNorm, Gate, conv, mean, space, wide
from spaces.attention.registry import register
from spaces.attention.types import AttentionType, Sizes, part


class PixelAttention(Gate):
    """`x * sigmoid(W x + b)`, a 1x1 convolution C -> C (Zhao et al. 2020, arXiv:2010.01073), or C -> 1 (`single_map`)."""

    def __init__(self, channels: int, dims: int, single_map: bool) -> None:
        super().__init__()
        self.conv = conv(dims, channels, 1 if single_map else channels)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        logits_BCHW: Tensor = self.conv(x_BCHW)
        return logits_BCHW


class SimAM(Gate):
    """`x * sigmoid(d / (4 (sum d / n + 1e-4)) + 0.5)`, d = (x - mean)^2, n = P - 1 (Yang et al., ICML 2021).

    No parameters. On a 1 x 1 map d is 0 and n is taken as 1, so that the gate is sigmoid(0.5).
    """

    def logits(self, x_BCHW: Tensor) -> Tensor:
        axes = space(x_BCHW)
        x_BCHW = wide(x_BCHW)
        d_BCHW = (x_BCHW - mean(x_BCHW, axes, keepdim=True)).square()
        scale_BC11 = 0.25 / (d_BCHW.sum(axes, keepdim=True) / others(x_BCHW) + 1e-4)
        return d_BCHW * scale_BC11 + 0.5


def others(x_BCHW: Tensor) -> int:
    """P - 1, and at least 1."""
    if has_torch_function_unary(x_BCHW):
        return handle_torch_function(others, (x_BCHW,), x_BCHW)  # type: ignore[no-any-return]
    count = 1
    for side in x_BCHW.shape[2:]:
        count *= side
    return max(1, count - 1)


# kernel -> (taps of the first pair, taps of the dilated pair, its dilation), Table 1 of the paper.
LSKA_KERNELS = {7: (3, 3, 2), 11: (3, 5, 2), 23: (5, 7, 3), 35: (5, 11, 3)}


class LargeSeparableKernel(Gate):
    """`x * conv_1x1(dilated(local(x)))`, depthwise, each k x k split into 1 x k and k x 1 (Lau et al., arXiv:2309.01439).

    All biased, no sigmoid. Of a clip, k x k x k is split into three, one along each axis.
    """

    def __init__(self, channels: int, kernel: int, dims: int) -> None:
        super().__init__()
        local, far, dilation = LSKA_KERNELS[kernel]
        kind = nn.Conv3d if dims == 3 else nn.Conv2d
        layers: list[nn.Module] = []
        for size, step in ((local, 1), (far, dilation)):
            pad = (size - 1) // 2 * step
            for axis in reversed(range(dims)):
                shape = tuple(size if place == axis else 1 for place in range(dims))
                padding = tuple(pad if place == axis else 0 for place in range(dims))
                layers.append(kind(channels, channels, shape, padding=padding, dilation=step, groups=channels))  # type: ignore[arg-type]
        self.layers = nn.Sequential(*layers, conv(dims, channels, channels))

    def logits(self, x_BCHW: Tensor) -> Tensor:
        logits_BCHW: Tensor = self.layers(x_BCHW)
        return logits_BCHW

    def activate(self, logits: Tensor) -> Tensor:
        return logits


class GatherExcite(Gate):
    """`x * sigmoid(excite(gather(x)))`, spread to the map by nearest neighbours (Hu et al., NeurIPS 2018, arXiv:1810.12348).

    Without parameters (GE-theta-minus) gather is the mean over the map (extent 0) or over windows of 2e - 1 around
    every e-th position. With (GE-theta), it is log2(e) depthwise 3 x 3 convolutions of stride 2, each with BN, ReLU
    between them; the paper's global extent is tied to one image size and has no such form here. GE-theta-plus (h > 0)
    excites by 1x1 C -> h, ReLU, 1x1 h -> C; the others leave what was gathered. Of a clip, windows and convolutions reach as
    far in time as in space.
    """

    dims: Final[int]  # of TorchScript's constants: it compiles one branch only

    def __init__(self, channels: int, hidden: int, extent: int, learned: bool, dims: int) -> None:
        super().__init__()
        self.extent = extent
        self.dims = dims
        kind = nn.Conv3d if dims == 3 else nn.Conv2d
        self.gather: nn.Module | None = None
        if learned:
            layers: list[nn.Module] = []
            for _ in range(extent.bit_length() - 1):
                reduced = kind(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)
                layers += [reduced, BatchNorm(channels), nn.ReLU(inplace=True)]
            self.gather = nn.Sequential(*layers[:-1])
        self.excite: nn.Module | None = None
        if hidden:
            inner, outer = conv(dims, channels, hidden), conv(dims, hidden, channels)
            self.excite = nn.Sequential(inner, nn.ReLU(inplace=True), outer)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        if self.gather is not None:
            gathered = self.gather(x_BCHW)
        elif self.extent:
            e = self.extent
            if self.dims == 3:
                gathered = F.avg_pool3d(x_BCHW, 2 * e - 1, stride=e, padding=e - 1, count_include_pad=False)
            else:
                gathered = F.avg_pool2d(x_BCHW, 2 * e - 1, stride=e, padding=e - 1, count_include_pad=False)
        else:
            gathered = mean(x_BCHW, space(x_BCHW), keepdim=True)
        if self.excite is not None:
            gathered = self.excite(gathered)
        return gathered

    def gate(self, x_BCHW: Tensor) -> Tensor:
        # The activation comes before the spreading: the same values, on e * e times fewer elements.
        return spread(self.activate(self.logits(x_BCHW)).to(x_BCHW.dtype), x_BCHW)


def spread(gate_BChw: Tensor, x_BCHW: Tensor) -> Tensor:
    """A gate of windows, spread to the map by nearest neighbours; one number for all positions is left as it is.

    Where a network is exported for any size, whether it is one number is not known, and that is spread too.
    """
    if has_torch_function((gate_BChw, x_BCHW)):
        return handle_torch_function(spread, (gate_BChw, x_BCHW), gate_BChw, x_BCHW)  # type: ignore[no-any-return]
    if isinstance(x_BCHW.shape[2], int):
        count = 1
        for side in gate_BChw.shape[2:]:
            count *= side
        if count == 1:
            return gate_BChw
    return F.interpolate(gate_BChw, size=x_BCHW.shape[2:], mode="nearest")


def _lska_params(s: Sizes) -> int:
    local, far, _ = LSKA_KERNELS[s.kernel]
    return s.channels**2 + s.channels + s.dims * (local + 1 + far + 1) * s.channels


def _gather_params(s: Sizes) -> int:
    """Three depthwise convolutions (e = 8), each with its BN."""
    return 3 * (3**s.dims + 2) * s.channels


PIXEL = part(
    id="pixel_attention",
    role="spatial",
    build=lambda s, single_map: PixelAttention(s.channels, s.dims, single_map),
    params=lambda s: s.channels**2 + s.channels,
    flags={"single_map": (False, True)},
    dims=(2, 3),
    formula="C² + C",
)
SIMAM = part(
    id="simam",
    role="whole",
    build=lambda s: SimAM(),
    params=lambda s: 0,
    dims=(2, 3),
    formula="0",
)
LSKA = part(
    id="lska",
    role="spatial",
    build=lambda s: LargeSeparableKernel(s.channels, s.kernel, s.dims),
    params=_lska_params,
    kernel=7,
    dims=(2, 3),
    only={"kernel": tuple(LSKA_KERNELS)},
    formula="C² + 17C at k = 7, + 21C at 11, + 29C at 23, + 37C at 35",
)
GE_PLUS = part(
    id="gather_excite",
    role="whole",
    build=lambda s, extent: GatherExcite(s.channels, s.hidden, extent, learned=True, dims=s.dims),
    params=lambda s: _gather_params(s) + mlp_params(s),
    reduction=16,
    dims=(2, 3),
    flags={"extent": (8, 2, 4)},
    formula="33C + 2Ch + h + C (11C log2 e gathers; e = 8)",
)
GE_THETA = part(
    id="gather_excite_theta",
    role="whole",
    build=lambda s, extent: GatherExcite(s.channels, 0, extent, learned=True, dims=s.dims),
    params=_gather_params,
    dims=(2, 3),
    flags={"extent": (8, 2, 4)},
    formula="33C (11C log2 e; e = 8)",
)
GE_MINUS = part(
    id="gather_excite_minus",
    role="whole",
    build=lambda s, extent: GatherExcite(s.channels, 0, extent, learned=False, dims=s.dims),
    params=lambda s: 0,
    dims=(2, 3),
    flags={"extent": (0, 2, 4, 8)},
    formula="0",
)
GE_PAPER = "Gather-Excite, Hu et al. 2018, arXiv:1810.12348"

register(
    AttentionType(
        "pixel_attention",
        (PIXEL,),
        "PAN, Zhao et al. 2020, arXiv:2010.01073",
        PIXEL.formula,
        equation="x * s(W x)",
        use="A gate for every pixel and channel from a 1x1 convolution: restoration and fine detail; C² MACs at every pixel.",
    ),
    AttentionType(
        "simam",
        (SIMAM,),
        "SimAM, Yang et al. 2021, ICML",
        SIMAM.formula,
        equation="x * s(d / (4 (sum(d) / (P - 1) + 1e-4)) + 0.5), d = (x - mean(x))²",
        use="No parameters at all: an energy formula weighs every value. A free control for any stage.",
    ),
    AttentionType(
        "lska",
        (LSKA,),
        "LSKA, Lau et al. 2023, arXiv:2309.01439",
        LSKA.formula,
        equation="x * W dilated(local(x)), each a 1 x k and a k x 1 depthwise convolution",
        use="A large kernel from thin depthwise strips: a wide view in late stages, linear in k.",
    ),
    AttentionType(
        "gather_excite",
        (GE_PLUS,),
        f"{GE_PAPER} (theta-plus)",
        GE_PLUS.formula,
        equation="x * s(W2 relu(W1 gather(x))), gather: depthwise convolutions of stride 2",
        use="Gates from wide windows rather than the whole map: early stages with large maps.",
    ),
    AttentionType(
        "gather_excite_theta",
        (GE_THETA,),
        f"{GE_PAPER} (theta)",
        GE_THETA.formula,
        equation="x * s(gather(x)), gather: depthwise convolutions of stride 2",
        use="Learnt gathering without the two matrices: between the other two of its paper in cost.",
    ),
    AttentionType(
        "gather_excite_minus",
        (GE_MINUS,),
        f"{GE_PAPER} (theta-minus)",
        GE_MINUS.formula,
        equation="x * s(mean(x)), or of windows",
        use="A gate without parameters, from means alone: a floor to compare others with.",
    ),
)
