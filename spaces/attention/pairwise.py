"""Attention between positions or between channels by their products: A2-Nets, non-local blocks and their kin.

Shapes as in parts.py; P = H * W positions, m and n the widths of A2's features and attention maps, d the width of
queries and keys.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function, has_torch_function_unary

from spaces.attention.parts import (
    MapConv2d,
    MapConv3d,
    PositionConv2d,
    PositionConv3d,
    conv,
    gram,
    like,
    positions,
    slow_half,
    to_map,
)
from spaces.attention.registry import register
from spaces.attention.types import SUM, AttentionType, part


def position_conv(dims: int, in_channels: int, out_channels: int) -> PositionConv2d | PositionConv3d:
    """A 1x1 convolution over `dims` spatial axes, computed over rows of positions."""
    kind = PositionConv3d if dims == 3 else PositionConv2d
    return kind(in_channels, out_channels, 1)


def map_conv(dims: int, in_channels: int, out_channels: int) -> MapConv2d | MapConv3d:
    """A 1x1 convolution over `dims` spatial axes, which can be computed as a product for each image."""
    kind = MapConv3d if dims == 3 else MapConv2d
    return kind(in_channels, out_channels, 1)


def flat_positions(x_BCHW: Tensor) -> int:
    """The number of positions P of a map that lies in memory channel by channel; 0 of one that does not."""
    if has_torch_function_unary(x_BCHW):
        return handle_torch_function(flat_positions, (x_BCHW,), x_BCHW)  # type: ignore[no-any-return]
    count = 1
    for side in x_BCHW.shape[2:]:
        count *= side
    return count if x_BCHW.is_contiguous() else 0


def weighted(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """softmax(scale Q K^T) V as two products, (..., P, d), the weights of all pairs of positions written out."""
    weights = (q @ k.transpose(-2, -1)).mul_(scale).softmax(-1)
    return weights.to(v.dtype) @ v


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V for (B, heads, P, d), by the better of torch's fused form and two products.

    The fused form holds no weights, P for each of d numbers; but its gradient holds those of Q, K and V beside them, where
    the products let go of one after the other. On a CPU, where P <= d, both take the same time and the products less
    memory. In bfloat16 there, the fused form takes twice the time that it takes in float32; the products are faster until
    the weights outgrow the cache.
    """
    if has_torch_function((q, k, v)):
        return handle_torch_function(attended, (q, k, v), q, k, v)  # type: ignore[no-any-return]
    count, depth = q.shape[2], q.shape[3]
    if not torch.jit.is_scripting():  # noqa: SIM102
        if (
            torch.onnx.is_in_onnx_export()
        ):  # the exporter of old opsets knows the fused form late, and for one size only
            return weighted(q, k, v, depth**-0.5)
    learning = q.device.type == "cpu" and q.requires_grad
    if (learning and count <= depth) or (slow_half(q) and count <= 4 * depth):
        return weighted(q, k, v, depth**-0.5)
    return F.scaled_dot_product_attention(q, k, v)


class DoubleAttention(nn.Module):
    """`x + W Z`, Z = G softmax_n(V), G = A softmax_P(B)^T (Chen et al., NeurIPS 2018, arXiv:1810.11579).

    A (m x P), B and V (n x P) are 1x1 convolutions of x. The first softmax gathers: over the positions, for each of
    the n maps; the second distributes: over the n maps, at each position.
    """

    def __init__(self, channels: int, hidden: int, dims: int) -> None:
        super().__init__()
        # Apart: softmaxes of parts of one convolution's output would copy them, and views would keep all of it.
        self.conv_a, self.conv_b, self.conv_v = (map_conv(dims, channels, hidden) for _ in range(3))
        self.project = map_conv(dims, hidden, channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        # Products hold a gradient of the weights for each image, and take less time and memory where those are smaller
        # than the map. While training only: exported and counted networks have the published convolutions.
        product = self.training and x_BCHW.shape[1] < flat_positions(x_BCHW)
        a_BmP = self.conv_a(x_BCHW, product).flatten(2)
        g_Bmn = a_BmP @ self.conv_b(x_BCHW, product).flatten(2).softmax(2).transpose(1, 2)
        z_BmP = g_Bmn @ self.conv_v(x_BCHW, product).flatten(2).softmax(1)
        added_BCHW = self.project(z_BmP.unflatten(2, x_BCHW.shape[2:]), product)
        return x_BCHW + added_BCHW.to(x_BCHW.dtype)


class NonLocal(nn.Module):
    """`x + W softmax(theta^T phi / sqrt(d)) g`, the embedded form (Wang et al., CVPR 2018, arXiv:1711.07971).

    `scaled=False` leaves 1 / sqrt(d) out, as the paper's equation 4 does; its public code divides by default. W is
    zero-initialised, so that a fresh block is the identity, unless `zero_init=False`. Public code has a batch
    normalisation after W, zero-initialised in W's place, and can halve the map of keys and values by max pooling. Both
    are left out.
    """

    def __init__(self, channels: int, hidden: int, dims: int, zero_init: bool = True, scaled: bool = True) -> None:
        super().__init__()
        self.scaled = scaled
        self.depth = hidden
        self.conv_qkv = position_conv(dims, channels, 3 * hidden)
        self.project = position_conv(dims, hidden, channels)
        if zero_init:
            nn.init.zeros_(self.project.weight)
            nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        # By image where the gradients of its weights (3C / 2 for each of C numbers) are not much more than the map.
        # While training only: exported and counted networks have one product.
        by_image = self.training and x_BCHW.shape[1] <= 2 * flat_positions(x_BCHW)
        q, k, v = positions(self.conv_qkv(x_BCHW, by_image)).unsqueeze(1).chunk(3, 3)
        if not self.scaled:
            q = q * self.depth**0.5
        z_BPd = attended(q, k, v).squeeze(1)
        return x_BCHW + self.project(to_map(z_BPd, x_BCHW)).to(x_BCHW.dtype)


class SelfAttention(nn.Module):
    """`x + W MHA(x)`: multi-head attention over all positions (Vaswani et al. 2017, arXiv:1706.03762, on maps).

    Queries, keys and values of h = C / r channels, shared out to the largest number of heads up to `heads` that divides
    h. `position="conv"` adds a depthwise 3 x 3 convolution of the values (as in CSWin, arXiv:2107.00652), a position
    encoding that is defined for any map.
    """

    def __init__(self, channels: int, hidden: int, dims: int, heads: int, position: str) -> None:
        super().__init__()
        self.heads = math.gcd(hidden, heads)
        self.conv_qkv = position_conv(dims, channels, 3 * hidden)
        self.local = conv(dims, hidden, hidden, 3, groups=hidden) if position == "conv" else None
        self.project = position_conv(dims, hidden, channels)

    def attend(self, x_BCHW: Tensor) -> Tensor:
        """The values that every head attends to, (B, P, heads, d).

        Apart, as it lets go of the projections when it returns: of several heads, products hold copies.
        """
        qkv_BP3h = positions(self.conv_qkv(x_BCHW))
        qkv_BP3nd = qkv_BP3h.reshape(qkv_BP3h.shape[0], qkv_BP3h.shape[1], 3, self.heads, -1)
        q, k, v = qkv_BP3nd.permute(2, 0, 3, 1, 4).unbind()
        z_BPnd = attended(q, k, v).transpose(1, 2)
        if self.local is not None:
            values_BhHW = to_map(qkv_BP3h.chunk(3, 2)[2], x_BCHW).to(x_BCHW.dtype)
            local_BPh = positions(self.local(values_BhHW))
            z_BPnd = z_BPnd + local_BPh.unflatten(2, (self.heads, -1))
        return z_BPnd

    def forward(self, x_BCHW: Tensor) -> Tensor:
        z_BPh = self.attend(x_BCHW).flatten(2)
        return x_BCHW + self.project(to_map(z_BPh, x_BCHW)).to(x_BCHW.dtype)


class DualPosition(nn.Module):
    """DANet's position attention `x + gamma V softmax(Q^T K)^T`, not scaled (Fu et al., CVPR 2019, arXiv:1809.02983).

    Q and K have h channels, V has C. gamma starts at 0, so that a fresh block is the identity, unless `zero_init=False`.
    """

    def __init__(self, channels: int, hidden: int, dims: int, zero_init: bool = True) -> None:
        super().__init__()
        self.widths = [hidden, hidden, channels]
        self.conv_qkv = position_conv(dims, channels, 2 * hidden + channels)
        self.gamma = nn.Parameter(torch.full((), 0.0 if zero_init else 1.0))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        # Not fused: where keys and values differ in width, torch's fused form falls back to float32 and to more copies.
        q, k, v = positions(self.conv_qkv(x_BCHW)).split(self.widths, 2)
        z_BCHW = to_map(weighted(q, k, v, 1.0), x_BCHW)
        return x_BCHW + self.gamma.to(x_BCHW.dtype) * z_BCHW.to(x_BCHW.dtype)


class DualChannel(nn.Module):
    """DANet's channel attention `x + gamma softmax(-X X^T) X` over X (C x P); gamma as in the position attention.

    The published code subtracts the energies from their row's maximum, which a softmax does not see.
    """

    def __init__(self, zero_init: bool = True) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((), 0.0 if zero_init else 1.0))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCP = x_BCHW.flatten(2)
        weights_BCC = (-gram(x_BCP)).softmax(2)
        z_BCHW = (weights_BCC.to(x_BCP.dtype) @ x_BCP).unflatten(2, x_BCHW.shape[2:])
        return x_BCHW + self.gamma.to(x_BCHW.dtype) * z_BCHW.to(x_BCHW.dtype)


class GlobalContext(nn.Module):
    """`x + W2 relu(LN(W1 sum_p softmax_p(w x) x))`, one context for all positions (Cao et al. 2019, arXiv:1904.11492).

    W2 is zero-initialised, so that a fresh block is the identity, unless `zero_init=False`.
    """

    def __init__(self, channels: int, hidden: int, dims: int, zero_init: bool = True) -> None:
        super().__init__()
        self.attend = conv(dims, channels, 1)
        self.fc1 = nn.Linear(channels, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.fc2 = nn.Linear(hidden, channels)
        if zero_init:
            nn.init.zeros_(self.fc2.weight)
            nn.init.zeros_(self.fc2.bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        weights_BP1 = self.attend(x_BCHW).flatten(2).softmax(2).transpose(1, 2)
        context_BC = (x_BCHW.flatten(2) @ weights_BP1.to(x_BCHW.dtype)).squeeze(2)
        added_BC = self.fc2(torch.relu(self.norm(self.fc1(context_BC))))
        return x_BCHW + like(added_BC, x_BCHW).to(x_BCHW.dtype)


HEADS = (4, 1, 2, 8, 16)
A2 = part(
    id="double_attention",
    role="whole",
    build=lambda s: DoubleAttention(s.channels, s.hidden, s.dims),
    params=lambda s: 4 * s.channels * s.hidden + 3 * s.hidden + s.channels,
    reduction=2,
    dims=(2, 3),
    formula="C(m + 2n) + m + 2n + mC + C, m = n = h",
)
NON_LOCAL = part(
    id="non_local",
    role="whole",
    build=lambda s, scaled, zero_init: NonLocal(s.channels, s.hidden, s.dims, zero_init, scaled),
    params=lambda s: 4 * s.channels * s.hidden + 3 * s.hidden + s.channels,
    reduction=2,
    flags={"scaled": (True, False)},
    dims=(2, 3),
    zero_init=True,
    formula="4Ch + 3h + C",
)
SELF_ATTENTION = part(
    id="self_attention",
    role="whole",
    build=lambda s, heads, position: SelfAttention(s.channels, s.hidden, s.dims, heads, position),
    params=lambda s: 4 * s.channels * s.hidden + 3 * s.hidden + s.channels,
    reduction=1,
    flags={"heads": HEADS, "position": ("none", "conv")},
    dims=(2, 3),
    formula="4Ch + 3h + C",
)
DUAL_CHANNEL = part(
    id="dual_channel",
    role="channel",
    build=lambda s, zero_init: DualChannel(zero_init),
    params=lambda s: 1,
    dims=(2, 3),
    zero_init=True,
    gated=False,
    formula="1",
)
DUAL_POSITION = part(
    id="dual_position",
    role="spatial",
    build=lambda s, zero_init: DualPosition(s.channels, s.hidden, s.dims, zero_init),
    params=lambda s: 2 * s.channels * s.hidden + 2 * s.hidden + s.channels**2 + s.channels + 1,
    reduction=8,
    dims=(2, 3),
    zero_init=True,
    gated=False,
    formula="C² + C + 2Ch + 2h + 1",
)
GLOBAL_CONTEXT = part(
    id="global_context",
    role="whole",
    build=lambda s, zero_init: GlobalContext(s.channels, s.hidden, s.dims, zero_init),
    params=lambda s: 2 * s.channels * s.hidden + 2 * s.channels + 3 * s.hidden + 1,
    reduction=16,
    dims=(2, 3),
    zero_init=True,
    formula="2Ch + 2C + 3h + 1",
)

register(
    AttentionType(
        "double_attention",
        (A2,),
        "A²-Nets, Chen et al. 2018, arXiv:1810.11579",
        A2.formula,
        equation="x + W (A softmax_P(B)ᵀ softmax_n(V)), A, B, V = W x",
        use="Looks at the whole map at a cost that is linear in its positions: one or two sites in late stages.",
    ),
    AttentionType(
        "non_local",
        (NON_LOCAL,),
        "Non-local networks, Wang et al. 2018, arXiv:1711.07971",
        NON_LOCAL.formula,
        equation="x + W softmax(QᵀK / sqrt(d)) V, Q, K, V = W x",
        use="Relations of all pairs of positions: a few sites, small maps, clips. Quadratic in positions.",
    ),
    AttentionType(
        "self_attention",
        (SELF_ATTENTION,),
        "Multi-head self-attention, Vaswani et al. 2017, arXiv:1706.03762",
        SELF_ATTENTION.formula,
        equation="x + W MHA(Q, K, V), Q, K, V = W x",
        use="Global relations with heads: the last stage, small maps. Quadratic in positions.",
    ),
    AttentionType(
        "dual_attention",
        (DUAL_CHANNEL, DUAL_POSITION),
        "DANet, Fu et al. 2019, arXiv:1809.02983",
        "C² + C + 2Ch + 2h + 2",
        "parallel",
        SUM,
        equation="x + g1 softmax(-XXᵀ) X + x + g2 softmax(QᵀK) V",
        use="Segmentation heads: relations between channels and between positions, each added to x. Quadratic in positions.",
    ),
    AttentionType(
        "global_context",
        (GLOBAL_CONTEXT,),
        "GCNet, Cao et al. 2019, arXiv:1904.11492",
        GLOBAL_CONTEXT.formula,
        equation="x + W2 relu(LN(W1 sum_P softmax_P(w x) x))",
        use="What non-local blocks were found to compute, at the cost of SE: late stages, detectors.",
    ),
)
