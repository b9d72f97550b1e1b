"""Attention along one axis at a time: Coordinate Attention and the paper's one-direction ablations.

Shapes as in parts.py, and m = max(8, C // r) the hidden width of the shared transform.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spaces.attention.parts import BatchNorm
from spaces.attention.registry import AttentionType, Part, register


def coordinate_width(channels: int, reduction: int) -> int:
    """The published floor of Coordinate Attention: max(8, C // r)."""
    return max(8, channels // reduction)


class Coordinate(nn.Module):
    """`x * a_h * a_w`, a gate per row and a gate per column (Hou et al., CVPR 2021, arXiv:2103.02907).

    Means over W (B,C,H,1) and over H (B,C,1,W) are laid end to end, go through one 1x1 convolution C -> m, BN and
    h-swish, are split again, and one 1x1 convolution m -> C with a sigmoid each makes the gates. All biased.
    """

    def __init__(self, channels: int, hidden: int, directions: str = "hw") -> None:
        super().__init__()
        self.directions = directions
        self.conv1 = nn.Conv1d(channels, hidden, 1)
        self.norm = BatchNorm(hidden)
        self.convs = nn.ModuleDict({axis: nn.Conv1d(hidden, channels, 1) for axis in directions})

    def forward(self, x_BCHW: Tensor) -> Tensor:
        height, width = x_BCHW.shape[-2:]
        # A row's descriptor is the mean over W (axis 3), a column's the mean over H (axis 2).
        pooled = [x_BCHW.mean(3 if axis == "h" else 2) for axis in self.directions]
        lengths = [height if axis == "h" else width for axis in self.directions]
        shared_BmL = F.hardswish(self.norm(self.conv1(torch.cat(pooled, 2))))
        gates = {
            axis: torch.sigmoid(self.convs[axis](part_BmL)).to(x_BCHW.dtype)
            for axis, part_BmL in zip(self.directions, shared_BmL.split(lengths, 2), strict=True)
        }
        if "h" in gates:
            x_BCHW = x_BCHW * gates["h"].unsqueeze(3)
        if "w" in gates:
            x_BCHW = x_BCHW * gates["w"].unsqueeze(2)
        return x_BCHW


def coordinate_type(name: str, directions: str) -> AttentionType:
    """Coordinate attention over both directions, or over one."""
    n = len(directions)
    formula = f"{n + 1}Cm + 3m + {n}C, m = max(8, C // r)".replace("1C", "C")
    part = Part(
        id=name,
        kind="whole",
        build=lambda s: Coordinate(s.channels, s.hidden, directions),
        params=lambda s: (n + 1) * s.channels * s.hidden + 3 * s.hidden + n * s.channels,
        reduction=32,
        hidden=coordinate_width,
        formula=formula,
    )
    return AttentionType(name, (part,), "Coordinate Attention, Hou et al. 2021, arXiv:2103.02907", formula)


register(
    coordinate_type("coordinate", "hw"),
    coordinate_type("coordinate_h", "h"),
    coordinate_type("coordinate_w", "w"),
)
