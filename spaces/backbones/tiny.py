"""attune_tiny: a residual network small enough to train in seconds on one core; the backbone of the embedded default task."""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import nn


class TinyResNet(ResNet):
    """timm's ResNet with three stages of one basic block, each halving the resolution: S pixels -> S/2, S/4, S/8.

    The last BatchNorm of a block does not start at zero: in a training of seconds such a block would hardly take part.
    """

    def __init__(self, num_classes: int = 1000, in_chans: int = 3) -> None:
        stem, widths = 8, (16, 32, 64)
        super().__init__(
            BasicBlock, (1, 1, 1, 1), num_classes=num_classes, in_chans=in_chans, channels=(*widths, widths[2])
        )
        self.conv1 = nn.Conv2d(in_chans, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.maxpool = nn.Identity()
        shortcut = nn.Sequential(nn.Conv2d(stem, widths[0], 1, stride=2, bias=False), nn.BatchNorm2d(widths[0]))
        self.layer1 = nn.Sequential(BasicBlock(stem, widths[0], stride=2, downsample=shortcut))
        self.layer4 = nn.Identity()
        self.feature_info = [
            {"num_chs": width, "reduction": 2 ** (i + 1), "module": f"layer{i + 1}"} for i, width in enumerate(widths)
        ]
        self.init_weights(zero_init_last=False)


@register_model
def attune_tiny(pretrained: bool = False, **kwargs: Any) -> TinyResNet:
    """16, 32 and 64 channels; there are no pretrained weights."""
    return TinyResNet(**{key: kwargs[key] for key in ("num_classes", "in_chans") if key in kwargs})
