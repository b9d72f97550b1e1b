"""attune_tiny: a residual network small enough to train in seconds on one core; the backbone of the embedded default task."""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn
from torch.nn.functional import pad


class TinyResNet(ResNet):
    """timm's ResNet with three stages of one basic block, at 1/2, 1/4 and 1/8 of the input's resolution.

    The input's 2x2 pixels become channels before the first convolution, which costs nothing. The last BatchNorm of a block
    does not start at zero: in a training of seconds such a block would hardly take part.
    """

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, widths: tuple[int, int, int] = (8, 16, 32)) -> None:
        super().__init__(
            BasicBlock, (1, 1, 1, 1), num_classes=num_classes, in_chans=in_chans, channels=(*widths, widths[2])
        )
        self.conv1 = nn.Conv2d(4 * in_chans, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.maxpool = nn.Identity()
        self.layer1 = nn.Sequential(BasicBlock(widths[0], widths[0]))
        self.layer4 = nn.Identity()
        self.feature_info = [
            {"num_chs": width, "reduction": 2 ** (index + 1), "module": f"layer{index + 1}"}
            for index, width in enumerate(widths)
        ]
        self.init_weights(zero_init_last=False)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 32, H/8, W/8), rounded up."""
        if x.shape[2] % 2 or x.shape[3] % 2:
            x = pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        B, C, H, W = x.shape
        x = x.reshape(B, C, H // 2, 2, W // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(B, 4 * C, H // 2, W // 2)
        return super().forward_features(x)


@register_model
def attune_tiny(pretrained: bool = False, **kwargs: Any) -> TinyResNet:
    """8, 16 and 32 channels; there are no pretrained weights."""
    return TinyResNet(**{key: kwargs[key] for key in ("num_classes", "in_chans") if key in kwargs})
