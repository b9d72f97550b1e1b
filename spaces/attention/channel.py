"""Channel attention: one gate per channel from a pooled descriptor (SE, ECA and their kin).

Shapes as in parts.py. A gate is (B, C, 1, 1); the pooling is a plain mean or maximum over space, so no type
here depends on the size of the map.
"""

import math

import torch
from torch import Tensor, nn

from spaces.attention.parts import Gate, like, space
from spaces.attention.registry import AttentionType, Part, Sizes, register


class SqueezeExcite(Gate):
    """`x * sigmoid(W2 relu(W1 mean(x)))`, W1: C -> h, W2: h -> C, biased (Hu et al., CVPR 2018, arXiv:1709.01507)."""

    def __init__(self, channels: int, hidden: int, bias: bool = True) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, channels, bias=bias)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        hidden_Bh = torch.relu(self.fc1(x_BCHW.mean(space(x_BCHW))))
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
        axes = space(x_BCHW)
        pooled_BC = x_BCHW.amax(axes) if self.pool == "max" else x_BCHW.mean(axes)
        return like(self.conv(pooled_BC.unsqueeze(1)).squeeze(1), x_BCHW)


def mlp_params(sizes: Sizes) -> int:
    """Two biased layers C -> h -> C."""
    return 2 * sizes.channels * sizes.hidden + sizes.hidden + sizes.channels


SE_PART = Part(
    id="se",
    kind="channel",
    build=lambda s, bias: SqueezeExcite(s.channels, s.hidden, bias),
    params=mlp_params,
    reduction=16,
    flags={"bias": (True, False)},
    dims=(2, 3),
    formula="2Ch + h + C",
)
ECA_PART = Part(
    id="eca",
    kind="channel",
    build=lambda s: EfficientChannel(s.kernel),
    params=lambda s: s.kernel,
    kernel=eca_kernel,
    dims=(2, 3),
    formula="k",
)

register(
    AttentionType("se", (SE_PART,), "Squeeze-and-Excitation, Hu et al. 2018, arXiv:1709.01507", "2Ch + h + C"),
    AttentionType("eca", (ECA_PART,), "ECA-Net, Wang et al. 2020, arXiv:1910.03151", "k"),
)
