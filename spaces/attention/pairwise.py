"""Attention between positions: A2-Nets and non-local blocks. All add to x instead of gating it.

Shapes as in parts.py; P = H * W positions, m and n the widths of A2's features and attention maps, d the width of
queries and keys.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from spaces.attention.parts import conv
from spaces.attention.registry import AttentionType, Part, register


class DoubleAttention(nn.Module):
    """`x + W Z`, Z = G softmax_n(V), G = A softmax_P(B)^T (Chen et al., NeurIPS 2018, arXiv:1810.11579).

    A (m x P), B and V (n x P) are 1x1 convolutions of x. The first softmax gathers: over the positions, for each of
    the n maps; the second distributes: over the n maps, at each position.
    """

    def __init__(self, channels: int, hidden: int, dims: int) -> None:
        super().__init__()
        self.conv_abv = conv(dims, channels, 3 * hidden)
        self.project = conv(dims, hidden, channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        a_BmP, b_BnP, v_BnP = self.conv_abv(x_BCHW).flatten(2).chunk(3, 1)
        g_Bmn = a_BmP @ b_BnP.softmax(2).transpose(1, 2)
        z_BmP = g_Bmn @ v_BnP.softmax(1)
        added: Tensor = self.project(z_BmP.unflatten(2, x_BCHW.shape[2:]))
        return x_BCHW + added.to(x_BCHW.dtype)


class NonLocal(nn.Module):
    """`x + W softmax(theta^T phi / sqrt(d)) g`, the embedded form (Wang et al., CVPR 2018, arXiv:1711.07971).

    W is zero-initialised, so that a fresh block is the identity, unless `zero_init=False`.
    """

    def __init__(self, channels: int, hidden: int, dims: int, zero_init: bool = True) -> None:
        super().__init__()
        self.conv_qkv = conv(dims, channels, 3 * hidden)
        self.project = conv(dims, hidden, channels)
        if zero_init:
            nn.init.zeros_(self.project.weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        qkv = self.conv_qkv(x_BCHW).flatten(2).transpose(1, 2).unsqueeze(1)
        z_B1Pd = F.scaled_dot_product_attention(*qkv.chunk(3, 3))
        z_BdHW = z_B1Pd.squeeze(1).transpose(1, 2).unflatten(2, x_BCHW.shape[2:])
        added: Tensor = self.project(z_BdHW)
        return x_BCHW + added.to(x_BCHW.dtype)


A2 = Part(
    id="double_attention",
    kind="whole",
    build=lambda s: DoubleAttention(s.channels, s.hidden, s.dims),
    params=lambda s: 4 * s.channels * s.hidden + 3 * s.hidden + s.channels,
    reduction=2,
    dims=(2, 3),
    formula="C(m + 2n) + m + 2n + mC + C, m = n = h",
)
NON_LOCAL = Part(
    id="non_local",
    kind="whole",
    build=lambda s, zero_init: NonLocal(s.channels, s.hidden, s.dims, zero_init),
    params=lambda s: 4 * s.channels * s.hidden + 3 * s.hidden + s.channels,
    reduction=2,
    dims=(2, 3),
    zero_init=True,
    formula="4Ch + 3h + C",
)

register(
    AttentionType("double_attention", (A2,), "A²-Nets, Chen et al. 2018, arXiv:1810.11579", A2.formula),
    AttentionType(
        "non_local", (NON_LOCAL,), "Non-local networks, Wang et al. 2018, arXiv:1711.07971", NON_LOCAL.formula
    ),
)
