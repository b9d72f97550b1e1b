"""attune_tiny: a residual network small enough to train in seconds on one core; the backbone of the embedded default task."""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_unshuffle

from spaces.backbones.options import network_options


class EvenSides(nn.Module):
    """Adds a row or a column of zeros where a side is odd. A module, since torch.fx cannot follow a branch on the shape."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H', W') with even H' and W'."""
        rows, columns = x_BCHW.shape[2] % 2, x_BCHW.shape[3] % 2
        return pad(x_BCHW, (0, columns, 0, rows)) if rows or columns else x_BCHW


class TinyResNet(ResNet):
    """timm's ResNet with three stages of one bottleneck block, at 1/2, 1/4 and 1/8 of the input's resolution.

    Its 3x3 convolutions are three, so that an output sees 18 pixels of the input: less than a glyph of the embedded task.
    What a placement adds is the view beyond that. The stem is a patch embedding, 2x2 pixels to a vector.
    Orthogonal weights (Saxe et al. 2014) and a last BatchNorm that does not start at zero let a training of seconds
    begin to learn at once, whatever its seed.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        widths: tuple[int, int, int] = (16, 32, 64),
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        planes = [width // Bottleneck.expansion for width in widths]
        super().__init__(
            Bottleneck,
            (1, 1, 1, 1),
            num_classes=num_classes,
            in_chans=in_chans,
            channels=(*planes, planes[2]),
            zero_init_last=False,
            global_pool=global_pool,
            drop_rate=drop_rate,
        )
        self.conv1 = nn.Conv2d(4 * in_chans, widths[0], 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.maxpool = nn.Identity()
        self.even = EvenSides()
        self.layer1 = nn.Sequential(Bottleneck(widths[0], planes[0]))
        self.layer4 = nn.Identity()
        self.feature_info = [
            {"num_chs": width, "reduction": 2 ** (index + 1), "module": f"layer{index + 1}"}
            for index, width in enumerate(widths)
        ]
        self.init_weights(zero_init_last=False)

    def init_weights(self, zero_init_last: bool = True) -> None:
        super().init_weights(zero_init_last)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.orthogonal_(module.weight, nn.init.calculate_gain("relu"))

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 64, H/8, W/8), rounded up."""
        return super().forward_features(pixel_unshuffle(self.even(x), 2))


@register_model
def attune_tiny(pretrained: bool = False, **kwargs: Any) -> TinyResNet:
    """16, 32 and 64 channels; there are no pretrained weights."""
    return TinyResNet(**network_options(kwargs))
