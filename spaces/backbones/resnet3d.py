"""Residual networks of clips (B, C, T, H, W) with bottlenecks, and a tiny one for tasks of seconds.

Chen et al., A2-Nets: Double Attention Networks, NeurIPS 2018, train 3-D ResNets of 26 and 50 layers on clips of 112 pixels.
What is taken from there: bottlenecks whose middle convolution is 3 x 3 x 3, a stem of 3 x 5 x 5 with stride 2 in space and no
pooling, 8 frames from the first stage on, and in ResNet-26 half the widths. The rest is our reading of it, and no published
count is claimed. There are no pretrained weights.
"""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_unshuffle

from spaces.backbones.options import network_options

EXPANSION = 4
Stride = tuple[int, int, int]  # in time, and along both sides
ONE: Stride = (1, 1, 1)


def _conv(inside: int, outside: int, kernel: int = 1, stride: Stride = ONE) -> nn.Conv3d:
    return nn.Conv3d(inside, outside, kernel, stride, kernel // 2, bias=False)


class Bottleneck3d(nn.Module):
    """1x1x1, 3x3x3 with the stride, 1x1x1, each with BN; attention goes before the addition (slot ``se``)."""

    def __init__(self, inside: int, width: int, stride: Stride) -> None:
        super().__init__()
        outside = EXPANSION * width
        self.conv1, self.bn1 = _conv(inside, width), nn.BatchNorm3d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm3d(width)
        self.conv3, self.bn3 = _conv(width, outside), nn.BatchNorm3d(outside)
        self.se: nn.Module | None = None
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != ONE or inside != outside:
            self.downsample = nn.Sequential(_conv(inside, outside, 1, stride), nn.BatchNorm3d(outside))

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        y_BCTHW = self.relu(self.bn1(self.conv1(x_BCTHW)))
        y_BCTHW = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y_BCTHW)))))
        if self.se is not None:
            y_BCTHW = self.se(y_BCTHW)
        shortcut = x_BCTHW if self.downsample is None else self.downsample(x_BCTHW)
        return self.relu(y_BCTHW + shortcut)


class ResNet3d(nn.Module):
    """Stem, stages of bottlenecks, global pooling, linear classifier.

    ``stem``: its kernel as (t, h, w); its stride is 2 in space. ``strides``: of each stage's first block. ``clip``: the frames
    and pixels a side that it is meant for.
    """

    def __init__(
        self,
        blocks: tuple[int, ...],
        widths: tuple[int, ...],
        strides: tuple[Stride, ...],
        stem: tuple[int, int, int],
        channels: int,
        clip: tuple[int, int],
        *,
        num_classes: int = 400,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        padding = tuple(kernel // 2 for kernel in stem)
        self.conv1 = nn.Conv3d(in_chans, channels, stem, (1, 2, 2), padding, bias=False)  # type: ignore[arg-type]
        self.bn1, self.relu = nn.BatchNorm3d(channels), nn.ReLU(inplace=True)
        stages = []
        for count, width, first in zip(blocks, widths, strides, strict=True):
            made = []
            for stride in [first] + [ONE] * (count - 1):
                made.append(Bottleneck3d(channels, width, stride))
                channels = EXPANSION * width
            stages.append(nn.Sequential(*made))
        self.layers = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(channels, num_classes) if num_classes else nn.Identity()
        self.default_cfg = {"input_size": (in_chans, clip[0], clip[1], clip[1])}
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        x_BCTHW = self.relu(self.bn1(self.conv1(x_BCTHW)))
        logits_BK: Tensor = self.fc(self.pool(self.layers(x_BCTHW)).flatten(1))
        return logits_BK


HALVED: Stride = (1, 2, 2)


@register_model
def resnet3d_26(pretrained: bool = False, **kwargs: Any) -> ResNet3d:
    """Two bottlenecks a stage, of 32 to 256 channels; clips of 16 x 112 x 112."""
    widths, strides = (32, 64, 128, 256), ((2, 1, 1), HALVED, HALVED, HALVED)
    return ResNet3d((2, 2, 2, 2), widths, strides, (3, 5, 5), 16, (16, 112), **network_options(kwargs))


@register_model
def resnet3d_50(pretrained: bool = False, **kwargs: Any) -> ResNet3d:
    """3, 4, 6 and 3 bottlenecks of 64 to 512 channels; clips of 8 x 112 x 112."""
    widths, strides = (64, 128, 256, 512), (ONE, HALVED, HALVED, HALVED)
    return ResNet3d((3, 4, 6, 3), widths, strides, (3, 5, 5), 32, (8, 112), **network_options(kwargs))


class TinyResNet3d(ResNet3d):
    """Three stages of one bottleneck at 1/2, 1/4 and 1/8 of the resolution in space and 1, 1/2 and 1/4 in time.

    The stem is a patch embedding, 2 x 2 pixels of a frame to a vector. Orthogonal weights, as of `attune_tiny`, let a training
    of seconds begin to learn at once.
    """

    def __init__(self, num_classes: int = 400, in_chans: int = 3) -> None:
        strides: tuple[Stride, ...] = (ONE, (2, 2, 2), (2, 2, 2))
        options: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_chans}
        super().__init__((1, 1, 1), (4, 8, 16), strides, ONE, 16, (8, 32), **options)
        self.conv1 = _conv(4 * in_chans, 16)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.orthogonal_(module.weight, nn.init.calculate_gain("relu"))

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        if x_BCTHW.shape[3] % 2 or x_BCTHW.shape[4] % 2:
            x_BCTHW = pad(x_BCTHW, (0, x_BCTHW.shape[4] % 2, 0, x_BCTHW.shape[3] % 2))
        patches_BTDHW = pixel_unshuffle(x_BCTHW.transpose(1, 2), 2)
        return super().forward(patches_BTDHW.transpose(1, 2))


@register_model
def attune_tiny_3d(pretrained: bool = False, **kwargs: Any) -> TinyResNet3d:
    """16, 32 and 64 channels, for clips of 8 x 32 x 32; the backbone of the embedded video task."""
    return TinyResNet3d(**network_options(kwargs))
