"""Attention by a small network of its own: spatial transformers and the residual attention mask.

Shapes as in parts.py.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function, has_torch_function_unary

from spaces.attention.parts import BatchNorm, Gate, conv, keep_format, wide
from spaces.attention.registry import register
from spaces.attention.types import AttentionType, part

POOLED = 4  # the localisation head of the spatial transformer reads a grid of 4 x 4, whatever the map


class SpatialTransformer(nn.Module):
    """`grid_sample(x, affine_grid(theta(x)))`, one affine map per image (Jaderberg et al. 2015, arXiv:1506.02025).

    theta: 1x1 C -> h, ReLU, mean over a 4 x 4 grid, linear 16h -> 6 with zero weight and the identity as bias. Sampling
    is bilinear, zero outside. The identity start needs a theta that moves something: `zero_init=False`.

    Of a clip, as in the paper's appendix on higher dimensions: a grid of 4 x 4 x 4, linear 64h -> 12, an affine map of three
    axes, trilinear sampling.
    """

    def __init__(self, channels: int, hidden: int, dims: int, zero_init: bool = True) -> None:
        super().__init__()
        self.pooled = POOLED
        self.dims = dims
        self.reduce = conv(dims, channels, hidden)
        self.theta = nn.Linear(POOLED**dims * hidden, dims * (dims + 1))
        if zero_init:
            nn.init.zeros_(self.theta.weight)
        with torch.no_grad():
            self.theta.bias.copy_(torch.eye(dims, dims + 1).flatten())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        pooled_Bh44 = pooled(torch.relu(self.reduce(x_BCHW)), self.pooled)
        theta_B23 = self.theta(pooled_Bh44.flatten(1)).unflatten(1, (self.dims, self.dims + 1))
        return keep_format(sampled(x_BCHW, theta_B23), x_BCHW)


def pooled(x_BCHW: Tensor, side: int) -> Tensor:
    """Means over a grid of side x side, (B, C, side, side), by products where a network is exported for any size.

    ONNX has no operator for windows that depend on the size.
    """
    if has_torch_function_unary(x_BCHW):
        return handle_torch_function(pooled, (x_BCHW,), x_BCHW, side)  # type: ignore[no-any-return]
    if x_BCHW.dim() == 5:
        return F.adaptive_avg_pool3d(x_BCHW, side)
    if isinstance(x_BCHW.shape[2], int) and isinstance(x_BCHW.shape[3], int):
        return F.adaptive_avg_pool2d(x_BCHW, side)
    return windows(x_BCHW.shape[2], side, x_BCHW) @ x_BCHW @ windows(x_BCHW.shape[3], side, x_BCHW).t()


def windows(size: int, count: int, like: Tensor) -> Tensor:
    """The (count, size) weights of adaptive pooling along one side: window i is [floor(i n / k), ceil((i + 1) n / k))."""
    number_k = torch.arange(count, device=like.device)
    place_n = torch.arange(size, device=like.device)
    start_k, end_k = number_k * size // count, ((number_k + 1) * size + count - 1) // count
    inside_kn = (place_n >= start_k[:, None]) & (place_n < end_k[:, None])
    return inside_kn.to(like.dtype) / (end_k - start_k)[:, None].to(like.dtype)


def centres(size: int, like: Tensor) -> Tensor:
    """Where the middles of `size` pixels are on [-1, 1], in dtype and on the device of `like`."""
    return (2 * torch.arange(size, device=like.device, dtype=like.dtype) + 1) / size - 1


def sampled(x_BCHW: Tensor, theta_B23: Tensor) -> Tensor:
    """x at the places that an affine map sends each pixel to, bilinear, zero outside.

    Places are computed in at least float32, since half precision would be off by pixels; by sums and not by a matrix product
    (as `affine_grid` does it), which autocast would turn to half precision, and which has no gradient where a side is 1.
    """
    if has_torch_function((x_BCHW, theta_B23)):
        return handle_torch_function(sampled, (x_BCHW, theta_B23), x_BCHW, theta_B23)  # type: ignore[no-any-return]
    source_BCHW = wide(x_BCHW)
    theta_B23 = theta_B23.to(source_BCHW.dtype)
    if x_BCHW.dim() == 5:
        theta_B34 = theta_B23
        frame_T11 = centres(x_BCHW.shape[2], source_BCHW)[:, None, None]
        line_H1, place_W = centres(x_BCHW.shape[3], source_BCHW)[:, None], centres(x_BCHW.shape[4], source_BCHW)
        by_w, by_h, by_t, moved = theta_B34[:, :, None, None, None].unbind(5)
        grid_B3THW = by_w * place_W + by_h * line_H1 + by_t * frame_T11 + moved
        grid_BTHW3 = grid_B3THW.permute(0, 2, 3, 4, 1)
        found = F.grid_sample(source_BCHW, grid_BTHW3, mode="bilinear", padding_mode="zeros", align_corners=False)
        return found.to(x_BCHW.dtype)
    row_H1 = centres(x_BCHW.shape[2], source_BCHW)[:, None]
    column_W = centres(x_BCHW.shape[3], source_BCHW)
    by_x, by_y, shift = theta_B23[:, :, None, None].unbind(4)
    grid_B2HW = by_x * column_W + by_y * row_H1 + shift
    found_BCHW = F.grid_sample(
        source_BCHW, grid_B2HW.permute(0, 2, 3, 1), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return found_BCHW.to(x_BCHW.dtype)


class ResidualAttention(Gate):
    """`x * (1 + sigmoid(mask(x)))`, the mask an hourglass (Wang et al., CVPR 2017, arXiv:1704.06904, eq. 3).

    1x1 C -> h; twice max pooling by 2 and a 3 x 3 convolution; twice bilinear up-sampling, with a skip connection and
    a 3 x 3 convolution between; 1x1 h -> C. BN and ReLU after all but the last, which alone is biased. Of a clip, time is
    pooled and up-sampled with space.
    """

    dims: Final[int]  # of TorchScript's constants: it compiles one branch only

    def __init__(self, channels: int, hidden: int, dims: int) -> None:
        super().__init__()
        self.dims = dims

        def layer(width: int, kernel: int) -> nn.Module:
            return nn.Sequential(
                conv(dims, width, hidden, kernel, bias=False), BatchNorm(hidden), nn.ReLU(inplace=True)
            )

        self.enter, self.down1, self.down2, self.up1 = (
            layer(channels, 1),
            layer(hidden, 3),
            layer(hidden, 3),
            layer(hidden, 3),
        )
        self.leave = conv(dims, hidden, channels)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        if self.dims == 3:
            half = self.down1(F.max_pool3d(self.enter(x_BCHW), 3, stride=2, padding=1))
            quarter = self.down2(F.max_pool3d(half, 3, stride=2, padding=1))
            skip = half + F.interpolate(quarter, size=half.shape[2:], mode="trilinear", align_corners=False)
            wide_BhTHW = F.interpolate(self.up1(skip), size=x_BCHW.shape[2:], mode="trilinear", align_corners=False)
            logits_BCTHW: Tensor = self.leave(wide_BhTHW)
            return logits_BCTHW
        half = self.down1(F.max_pool2d(self.enter(x_BCHW), 3, stride=2, padding=1))
        quarter = self.down2(F.max_pool2d(half, 3, stride=2, padding=1))
        skip = half + F.interpolate(quarter, size=half.shape[2:], mode="bilinear", align_corners=False)
        mask = F.interpolate(self.up1(skip), size=x_BCHW.shape[2:], mode="bilinear", align_corners=False)
        logits_BCHW: Tensor = self.leave(mask)
        return logits_BCHW

    def activate(self, logits: Tensor) -> Tensor:
        return 1 + torch.sigmoid(logits)


STN = part(
    id="spatial_transformer",
    role="whole",
    build=lambda s, zero_init: SpatialTransformer(s.channels, s.hidden, s.dims, zero_init),
    params=lambda s: (s.channels + 1) * s.hidden + (POOLED**s.dims * s.hidden + 1) * s.dims * (s.dims + 1),
    reduction=16,
    dims=(2, 3),
    zero_init=True,
    formula="Ch + 97h + 6",
)
RESIDUAL = part(
    id="residual_attention",
    role="whole",
    build=lambda s: ResidualAttention(s.channels, s.hidden, s.dims),
    params=lambda s: 2 * s.channels * s.hidden + 3 * 3**s.dims * s.hidden**2 + 8 * s.hidden + s.channels,
    reduction=4,
    dims=(2, 3),
    formula="2Ch + 27h² + 8h + C",
)

register(
    AttentionType(
        "spatial_transformer",
        (STN,),
        "STN, Jaderberg et al. 2015, arXiv:1506.02025",
        STN.formula,
        equation="grid_sample(x, affine(W2 pool_4(relu(W1 x))))",
        use="Undoes shifts, scales and turns of the whole map: early, once (`@stage`); not a gate.",
    ),
    AttentionType(
        "residual_attention",
        (RESIDUAL,),
        "Residual Attention, Wang et al. 2017, arXiv:1704.06904",
        RESIDUAL.formula,
        equation="x * (1 + s(hourglass(x)))",
        use="An hourglass that looks at several scales: few sites, maps that can still be halved.",
    ),
)
