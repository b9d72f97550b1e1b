"""The feature pyramid of detectors (Lin et al., Feature Pyramid Networks for Object Detection, 2017), torchvision's."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7


class Pyramid(FeaturePyramidNetwork):
    """torchvision's pyramid on a list of maps with ``inside`` channels.

    ``coarser``: 2 adds two maps by convolutions, 1 one by leaving out pixels.
    """

    def __init__(self, inside: Sequence[int], channels: int, *, coarser: int) -> None:
        more = LastLevelP6P7(channels, channels) if coarser == 2 else LastLevelMaxPool()
        super().__init__(list(inside), channels, more)
        self.count = len(inside) + coarser
        self.coarser = coarser

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C', H', W') from fine to coarse -> maps of one number of channels, more of them."""
        found: dict[str, Tensor] = super().forward(OrderedDict((str(i), one) for i, one in enumerate(maps)))
        return list(found.values())

    def named(self, path: str) -> list[tuple[str, str]]:
        """The stages that its levels are, from fine to coarse."""
        own = [f"{path}.layer_blocks.{i}" for i in range(self.count - self.coarser)]
        more = [f"{path}.extra_blocks.p6", f"{path}.extra_blocks.p7"] if self.coarser == 2 else []
        return [(f"FPN level {number}", one) for number, one in enumerate([*own, *more], start=1)]
