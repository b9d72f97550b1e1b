"""Attention beside a convolution: some channels attend to all positions, the others are convolved (Bello et al. 2019).

Shapes as in parts.py; P = H * W positions, n heads of width d.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

from spaces.attention.pairwise import HEADS
from spaces.attention.parts import conv, keep_format
from spaces.attention.registry import register
from spaces.attention.types import AttentionType, Sizes, part


def offsets(table_dT: Tensor, length: int) -> Tensor:
    """Embeddings (d, L, L) of the offset from each query position to each key position, resized from a table of T."""
    resized_dT = F.interpolate(table_dT[None], size=2 * length - 1, mode="linear", align_corners=False)[0]
    position_L = torch.arange(length, device=table_dT.device)
    return resized_dT[:, position_L[None, :] - position_L[:, None] + length - 1]


def relative_logits(q_BnPd: Tensor, rows_dT: Tensor, columns_dT: Tensor, height: int, width: int) -> Tensor:
    """q r_h + q r_w, (B, n, P, P)."""
    if has_torch_function((q_BnPd, rows_dT, columns_dT)):
        tensors = (q_BnPd, rows_dT, columns_dT)
        return handle_torch_function(relative_logits, tensors, *tensors, height, width)  # type: ignore[no-any-return]
    q_BnHWd = q_BnPd.unflatten(2, (height, width))
    by_row = torch.einsum("bnhwd,dhk->bnhwk", [q_BnHWd, offsets(rows_dT, height).to(q_BnPd.dtype)])
    by_column = torch.einsum("bnhwd,dwk->bnhwk", [q_BnHWd, offsets(columns_dT, width).to(q_BnPd.dtype)])
    return (by_row.unsqueeze(5) + by_column.unsqueeze(4)).flatten(4).flatten(2, 3)


def clip_logits(
    q_BnPd: Tensor, frames_dT: Tensor, rows_dT: Tensor, columns_dT: Tensor, length: int, height: int, width: int
) -> Tensor:
    """The same of a clip, q r_t + q r_h + q r_w."""
    if has_torch_function((q_BnPd, frames_dT, rows_dT, columns_dT)):
        tensors = (q_BnPd, frames_dT, rows_dT, columns_dT)
        return handle_torch_function(clip_logits, tensors, *tensors, length, height, width)  # type: ignore[no-any-return]
    q_BnTHWd = q_BnPd.unflatten(2, (length, height, width))
    by_frame = torch.einsum("bnthwd,dtk->bnthwk", [q_BnTHWd, offsets(frames_dT, length).to(q_BnPd.dtype)])
    by_row = torch.einsum("bnthwd,dhk->bnthwk", [q_BnTHWd, offsets(rows_dT, height).to(q_BnPd.dtype)])
    by_column = torch.einsum("bnthwd,dwk->bnthwk", [q_BnTHWd, offsets(columns_dT, width).to(q_BnPd.dtype)])
    logits = by_frame[..., :, None, None] + by_row[..., None, :, None] + by_column[..., None, None, :]
    return logits.flatten(5).flatten(2, 4)


class AugmentedConv(nn.Module):
    """`concat(conv3x3(x), MHA(x))`: h attention channels beside C - h convolution channels (arXiv:1904.09925).

    Bello et al., ICCV 2019. Logits `(q k + q r_w + q r_h) / sqrt(d)` with relative embeddings r along each axis,
    shared by the heads. They are tables of 2 * 14 - 1 offsets, interpolated to the 2L - 1 offsets of a side of length L.
    Of a clip there is a third table, of offsets in time, and the convolution is 3 x 3 x 3.
    """

    OFFSETS = 27

    def __init__(self, channels: int, hidden: int, heads: int, dims: int) -> None:
        super().__init__()
        self.heads = math.gcd(hidden, heads)
        depth = hidden // self.heads
        self.scale = depth**-0.5
        self.conv = conv(dims, channels, channels - hidden, 3) if channels > hidden else None
        self.conv_qkv = conv(dims, channels, 3 * hidden)
        self.project = conv(dims, hidden, hidden)
        self.relative_h = nn.Parameter(torch.randn(depth, self.OFFSETS) * depth**-0.5)
        self.relative_w = nn.Parameter(torch.randn(depth, self.OFFSETS) * depth**-0.5)
        table = nn.Parameter(torch.randn(depth, self.OFFSETS) * depth**-0.5) if dims == 3 else None
        self.register_parameter("relative_t", table)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        q, k, v = self.conv_qkv(x_BCHW).flatten(2).unflatten(1, (3, self.heads, -1)).transpose(3, 4).unbind(1)
        q = q * self.scale
        # Not fused: with a bias that learns, torch's fused attention falls back to more copies than this.
        if self.relative_t is not None:
            length, height, width = x_BCHW.shape[2], x_BCHW.shape[3], x_BCHW.shape[4]
            frames = self.relative_t
            relative_BnPP = clip_logits(q, frames, self.relative_h, self.relative_w, length, height, width)  # type: ignore[arg-type]
        else:
            height, width = x_BCHW.shape[2], x_BCHW.shape[3]
            relative_BnPP = relative_logits(q, self.relative_h, self.relative_w, height, width)
        weights_BnPP = (q @ k.transpose(2, 3) + relative_BnPP).softmax(3)
        z_BnPd = weights_BnPP.to(v.dtype) @ v
        attended_BhHW = self.project(z_BnPd.transpose(2, 3).flatten(1, 2).unflatten(2, x_BCHW.shape[2:]))
        parts = [attended_BhHW]
        if self.conv is not None:
            parts = [self.conv(x_BCHW), attended_BhHW]
        return keep_format(torch.cat(parts, 1).to(x_BCHW.dtype), x_BCHW)


def _augmented_params(s: Sizes) -> int:
    convolved = s.channels - s.hidden
    by_conv = 3**s.dims * s.channels * convolved + convolved
    tables = s.dims * AugmentedConv.OFFSETS * (s.hidden // math.gcd(s.hidden, HEADS[0]))
    return by_conv + 3 * s.channels * s.hidden + 4 * s.hidden + s.hidden**2 + tables


AUGMENTED_CONV = part(
    id="augmented_conv",
    role="whole",
    build=lambda s, heads: AugmentedConv(s.channels, s.hidden, heads, s.dims),
    params=_augmented_params,
    reduction=4,
    dims=(2, 3),
    flags={"heads": HEADS},
    formula="9C(C - h) + C - h + 3Ch + 4h + h² + 54h/n, n = gcd(h, 4) heads",
)

register(
    AttentionType(
        "augmented_conv",
        (AUGMENTED_CONV,),
        "Attention Augmented Convolution, Bello et al. 2019, arXiv:1904.09925",
        AUGMENTED_CONV.formula,
        equation="[conv_3(x), W softmax((QᵀK + QᵀR) / sqrt(d)) V], R relative positions",
        use="Convolution with heads of self-attention beside it: late stages, small maps; a layer, not a gate.",
    ),
)
