"""Mobile networks that neither timm nor torchvision has, written from their papers and registered with timm.

MobileNeXt: Zhou et al., Rethinking Bottleneck Structure for Efficient Mobile Network Design, ECCV 2020.
HBONet: Li et al., HBONet: Harmonious Bottleneck on Two Orthogonal Dimensions, ICCV 2019.
ProxylessNAS: Cai et al., ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware, ICLR 2019.

All go by ``(num_classes, in_chans)`` and have no pretrained weights here. Letters: t expansion or reduction ratio, c output
channels, n repeats, s stride of the first repeat, as in the papers' tables.
"""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from timm.layers import make_divisible
from timm.models import adapt_input_conv, register_model
from torch import Tensor, nn

from spaces.backbones.options import network_options


def _conv(inside: int, outside: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Module:
    """Convolution, BatchNorm and, unless it is linear, ReLU6."""
    layers = [
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outside),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6(inplace=True)] if act else []))


def _depthwise(channels: int, kernel: int = 3, stride: int = 1, act: bool = True) -> nn.Module:
    return _conv(channels, channels, kernel, stride, channels, act)


class MobileNetwork(nn.Module):
    """Stem, blocks, an optional last pointwise convolution, global pooling and a linear classifier."""

    def __init__(self, stem: nn.Module, blocks: list[nn.Module], head: nn.Module, width: int, num_classes: int) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.Sequential(*blocks)
        self.head = head
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, num_classes) if num_classes else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if isinstance(self.classifier, nn.Linear):
            nn.init.normal_(self.classifier.weight, 0, 0.01)
            nn.init.zeros_(self.classifier.bias)

    def get_classifier(self) -> nn.Module:
        return self.classifier

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.classifier(self.pool(self.head(self.blocks(self.stem(x_BCHW)))).flatten(1))


class InvertedBottleneck(nn.Module):
    """MobileNetV2's block: pointwise expansion by t, depthwise convolution, linear projection."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, t: int) -> None:
        super().__init__()
        self.residual = stride == 1 and inside == outside
        self.expand = _conv(inside, inside * t) if t > 1 else nn.Identity()
        self.depthwise = _depthwise(inside * t, kernel, stride)
        self.project = _conv(inside * t, outside, act=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.project(self.depthwise(self.expand(x_BCHW)))
        return x_BCHW + y_BCHW if self.residual else y_BCHW


# --- MobileNeXt -------------------------------------------------------------------------------------------------------


class SandGlass(nn.Module):
    """Depthwise convolutions at the wide ends of a bottleneck that reduces by t; the shortcut joins the wide maps.

    A block that changes its width keeps only the depthwise convolution that it needs: none at stride 1, the last at stride
    2 (the paper's table, and its note on the second stage).
    """

    def __init__(self, inside: int, outside: int, stride: int, t: int, both: bool = False) -> None:
        super().__init__()
        hidden = inside // t
        if hidden < outside / 6:
            hidden = make_divisible(-(-outside // 6), 16)
        keeps = inside == outside or t == 2 or both
        self.residual = stride == 1 and inside == outside and not both
        self.depthwise1 = _depthwise(inside) if keeps else nn.Identity()
        self.reduce = _conv(inside, hidden, act=False)
        self.expand = _conv(hidden, outside)
        self.depthwise2 = _depthwise(outside, stride=stride, act=False) if keeps or stride == 2 else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.depthwise2(self.expand(self.reduce(self.depthwise1(x_BCHW))))
        return x_BCHW + y_BCHW if self.residual else y_BCHW


def _mobilenext(width: float, num_classes: int = 1000, in_chans: int = 3) -> MobileNetwork:
    table: tuple[tuple[int, int, int, int], ...] = ((2, 96, 1, 2), (6, 144, 1, 1), (6, 192, 3, 2), (6, 288, 3, 2))
    table += ((6, 384, 4, 1), (6, 576, 4, 2), (6, 960, 3, 1), (6, 1280, 1, 1))
    inside = first = make_divisible(32 * width, 8)
    blocks: list[nn.Module] = []
    for t, c, n, s in table:
        outside = 1280 if c == 1280 and width < 1 else make_divisible(c * width, 8)
        for i in range(n):
            blocks.append(SandGlass(inside, outside, s if i == 0 else 1, t, both=n == 1 and s == 1))
            inside = outside
    return MobileNetwork(_conv(in_chans, first, 3, 2), blocks, nn.Identity(), inside, num_classes)


# --- HBONet -----------------------------------------------------------------------------------------------------------


class HarmoniousBottleneck(nn.Module):
    """Contracts space by two and expands channels by t, then the reverse; half of the output is that of the input.

    Stride 1: the first half of the input's channels joins the new map before a depthwise convolution, the rest is
    concatenated. Stride 2: the contraction is the down-sampling, and the pooled rest is concatenated.
    """

    def __init__(self, inside: int, outside: int, stride: int, t: int) -> None:
        super().__init__()
        self.new, self.kept, self.stride = outside // 2, outside - outside // 2, stride
        self.contract = _depthwise(inside, 5, 2, act=False)
        self.expand = _conv(inside, inside * t)
        self.depthwise = _depthwise(inside * t)
        self.project = _conv(inside * t, self.new, act=False)
        self.merge = _depthwise(self.new, 5, act=False) if stride == 1 else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.project(self.depthwise(self.expand(self.contract(x_BCHW))))
        kept_BCHW = x_BCHW[:, -self.kept :]
        if self.stride == 2:
            return torch.cat((nn.functional.avg_pool2d(kept_BCHW, 2, ceil_mode=True), y_BCHW), dim=1)
        y_BCHW = nn.functional.interpolate(y_BCHW, size=x_BCHW.shape[-2:])
        return torch.cat((kept_BCHW, self.merge(x_BCHW[:, : self.new] + y_BCHW)), dim=1)


def _hbonet(width: float, num_classes: int = 1000, in_chans: int = 3) -> MobileNetwork:
    divisor = 2 if width in (0.25, 0.5) else 8
    table = ((2, 36, 1, 1), (2, 72, 3, 2), (2, 96, 4, 2), (2, 192, 4, 2), (2, 288, 1, 1))
    first, inside = make_divisible(32 * width, divisor), make_divisible(20 * width, divisor)
    blocks: list[nn.Module] = [InvertedBottleneck(first, inside, 3, 1, 1)]
    for t, c, n, s in table:
        outside = make_divisible(c * width, divisor)
        for i in range(n):
            blocks.append(HarmoniousBottleneck(inside, outside, s if i == 0 else 1, t))
            inside = outside
    narrow, last = make_divisible(144 * width, divisor), 1600 if width <= 1 else make_divisible(1600 * width, divisor)
    blocks.append(_conv(inside, narrow, act=False))
    inside = narrow
    for c, n, s in ((200, 2, 2), (400, 1, 1)):
        outside = make_divisible(c * width, divisor)
        for i in range(n):
            blocks.append(InvertedBottleneck(inside, outside, 3, s if i == 0 else 1, 6))
            inside = outside
    return MobileNetwork(_conv(in_chans, first, 3, 2), blocks, _conv(inside, last), last, num_classes)


# --- ProxylessNAS -----------------------------------------------------------------------------------------------------

# Per network: stem, last width, and for each run of blocks (channels, ((kernel, t), ...)); searched blocks left out.
_PROXYLESS: dict[str, Any] = {
    "cpu": (
        40,
        1432,
        (
            (24, ((3, 1),)),
            (32, ((3, 6), (3, 3), (3, 3), (3, 3))),
            (48, ((3, 6), (3, 3), (3, 3), (5, 3))),
            (88, ((3, 6), (3, 3))),
            (104, ((5, 6), (3, 3), (3, 3), (3, 3))),
            (216, ((5, 6), (5, 3), (5, 3), (3, 3))),
            (360, ((5, 6),)),
        ),
    ),
    "gpu": (
        40,
        1728,
        (
            (24, ((3, 1),)),
            (32, ((5, 3),)),
            (56, ((7, 3), (3, 3))),
            (112, ((7, 6), (5, 3))),
            (128, ((5, 6), (3, 3), (5, 3))),
            (256, ((7, 6), (7, 6), (7, 6), (5, 6))),
            (432, ((7, 6),)),
        ),
    ),
    "mobile": (
        32,
        1280,
        (
            (16, ((3, 1),)),
            (32, ((5, 3), (3, 3))),
            (40, ((7, 3), (3, 3), (5, 3), (5, 3))),
            (80, ((7, 6), (5, 3), (5, 3), (5, 3))),
            (96, ((5, 6), (5, 3), (5, 3), (5, 3))),
            (192, ((7, 6), (7, 6), (7, 3), (7, 3))),
            (320, ((7, 6),)),
        ),
    ),
}
_PROXYLESS["mobile_14"] = (
    48,
    1792,
    tuple(zip((24, 40, 56, 112, 136, 256, 448), (run[1] for run in _PROXYLESS["mobile"][2]), strict=True)),
)
_PROXYLESS_STRIDES = (1, 2, 2, 2, 1, 2, 1)


def _proxylessnas(variant: str, num_classes: int = 1000, in_chans: int = 3) -> MobileNetwork:
    first, last, runs = _PROXYLESS[variant]
    inside = first
    blocks: list[nn.Module] = []
    for (outside, units), stride in zip(runs, _PROXYLESS_STRIDES, strict=True):
        for i, (kernel, t) in enumerate(units):
            blocks.append(InvertedBottleneck(inside, outside, kernel, stride if i == 0 else 1, t))
            inside = outside
    return MobileNetwork(_conv(in_chans, first, 3, 2), blocks, _conv(inside, last), last, num_classes)


# --- the registry -----------------------------------------------------------------------------------------------------


@register_model
def mobilenext_100(pretrained: bool = False, **kwargs: Any) -> MobileNetwork:
    """Published: 3.5 M parameters, 300 M multiply-adds; the authors' own code, like this, has 3.54 M and 311 M."""
    return _mobilenext(1.0, **network_options(kwargs))


@register_model
def mobilenext_075(pretrained: bool = False, **kwargs: Any) -> MobileNetwork:
    return _mobilenext(0.75, **network_options(kwargs))


@register_model
def mobilenext_050(pretrained: bool = False, **kwargs: Any) -> MobileNetwork:
    return _mobilenext(0.5, **network_options(kwargs))


@register_model
def mobilenext_140(pretrained: bool = False, **kwargs: Any) -> MobileNetwork:
    return _mobilenext(1.4, **network_options(kwargs))


@register_model
def hbonet_100(pretrained: bool = False, **kwargs: Any) -> MobileNetwork:
    """Published: 4.56 M parameters, 305 M multiply-adds."""
    return _hbonet(1.0, **network_options(kwargs))


@register_model
def hbonet_080(pretrained: bool = False, **kwargs: Any) -> MobileNetwork:
    return _hbonet(0.8, **network_options(kwargs))


@register_model
def hbonet_050(pretrained: bool = False, **kwargs: Any) -> MobileNetwork:
    return _hbonet(0.5, **network_options(kwargs))


@register_model
def proxylessnas_cpu(pretrained: bool = False, **kwargs: Any) -> MobileNetwork:
    return _proxylessnas("cpu", **network_options(kwargs))


@register_model
def proxylessnas_gpu(pretrained: bool = False, **kwargs: Any) -> MobileNetwork:
    return _proxylessnas("gpu", **network_options(kwargs))


@register_model
def proxylessnas_mobile(pretrained: bool = False, **kwargs: Any) -> MobileNetwork:
    return _proxylessnas("mobile", **network_options(kwargs))


@register_model
def proxylessnas_mobile_14(pretrained: bool = False, **kwargs: Any) -> MobileNetwork:
    return _proxylessnas("mobile_14", **network_options(kwargs))


def _shufflenet(width: str, num_classes: int = 1000, in_chans: int = 3, pretrained: bool = False) -> nn.Module:
    """torchvision's ShuffleNetV2 (Ma et al., ECCV 2018)."""
    weights = "DEFAULT" if pretrained else None
    model = torchvision.models.get_model(f"shufflenet_v2_x{width}", weights=weights)
    if num_classes != 1000:
        model.fc = nn.Linear(model.fc.in_features, num_classes)
    if in_chans != 3:
        old = model.conv1[0]
        model.conv1[0] = nn.Conv2d(in_chans, old.out_channels, 3, 2, 1, bias=False)
        if pretrained:
            model.conv1[0].weight.data.copy_(adapt_input_conv(in_chans, old.weight.data))
    return model


@register_model
def mobilenetv3_large_reduced_tail(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """torchvision's MobileNetV3-Large whose last blocks have half the channels (Howard et al., 2019, section 6.3).

    It is the backbone of ssdlite320_mobilenet_v3_large. There are no pretrained weights.
    """
    options = network_options(kwargs)
    model = torchvision.models.mobilenet_v3_large(num_classes=options.get("num_classes", 1000), reduced_tail=True)
    if (in_chans := options.get("in_chans", 3)) != 3:
        model.features[0][0] = nn.Conv2d(in_chans, 16, 3, 2, 1, bias=False)
    return model


@register_model
def shufflenet_v2_x0_5(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return _shufflenet("0_5", pretrained=pretrained, **network_options(kwargs))


@register_model
def shufflenet_v2_x1_0(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return _shufflenet("1_0", pretrained=pretrained, **network_options(kwargs))


@register_model
def shufflenet_v2_x1_5(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return _shufflenet("1_5", pretrained=pretrained, **network_options(kwargs))


@register_model
def shufflenet_v2_x2_0(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return _shufflenet("2_0", pretrained=pretrained, **network_options(kwargs))
