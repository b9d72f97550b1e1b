"""One-stage detectors on any backbone with stages, from torchvision's parts: (B, C, H, W) -> raw boxes and class logits.

What they give is the core: no normalisation, no losses, no suppression, in training and in eval mode alike. Decoding is the
matter of ``anchors`` and of each head's box coder. SSDLite: Sandler et al., MobileNetV2, 2018, section 6.2. SSD: Liu et al.,
2016. RetinaNet: Lin et al., 2017. FCOS: Tian et al., 2019. Legend: B batch, C channels, A anchors, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOSHead as FCOSLayers
from torchvision.models.detection.retinanet import RetinaNetHead as RetinaNetLayers
from torchvision.models.detection.ssd import SSDHead as SSDLayers
from torchvision.models.detection.ssd import SSDScoringHead
from torchvision.models.detection.ssdlite import SSDLiteHead as SSDLiteLayers
from torchvision.ops.misc import Conv2dNormActivation

from spaces.errors import UsageError, unknown
from spaces.heads.anchors import DefaultBoxes, GridAnchors
from spaces.heads.base import HEADS, Plan
from spaces.heads.detector import DetectionHead, Detector, ExtraLayers
from spaces.heads.layers import SafeBatchNorm
from spaces.heads.levels import Level, expanded_level, find_levels, last_level, level_at
from spaces.heads.pyramid import Pyramid

# --- SSDLite ----------------------------------------------------------------------------------------------------------

_NORM: Callable[..., nn.Module] = partial(SafeBatchNorm, eps=0.001, momentum=0.03)


def separable_down(inside: int, hidden: int, outside: int, *, linear: bool = False) -> nn.Sequential:
    """A pointwise, a depthwise convolution of stride 2, and a pointwise one, which may be linear; ReLU6 after the others."""
    last = nn.Identity if linear else nn.ReLU6
    make = partial(Conv2dNormActivation, norm_layer=_NORM, inplace=None)
    return nn.Sequential(
        make(inside, hidden, 1, activation_layer=nn.ReLU6),
        make(hidden, hidden, 3, stride=2, groups=hidden, activation_layer=nn.ReLU6),
        make(hidden, outside, 1, activation_layer=last),
    )


def normal_start(module: nn.Module) -> None:
    """Convolutions of standard deviation 0.03 and without bias, as SSDLite's extra layers start."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.03)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def separable_scores(channels: Sequence[int], counts: Sequence[int], columns: int) -> SSDScoringHead:
    """A score for every column of every default box: depthwise-separable convolutions, the last map's a pointwise one."""
    layers: list[nn.Module] = []
    for number, (inside, count) in enumerate(zip(channels, counts, strict=True), start=1):
        last = nn.Conv2d(inside, count * columns, 1)
        depthwise = nn.Conv2d(inside, inside, 3, padding=1, groups=inside)
        whole = [depthwise, _NORM(inside), nn.ReLU6(inplace=True), last]
        layers.append(last if number == len(channels) else nn.Sequential(*whole))
    head = SSDScoringHead(nn.ModuleList(layers), columns)
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return head


class SeparableHead(nn.Module):
    """The head of SSDLite as the Coordinate Attention authors' code has it."""

    def __init__(self, channels: Sequence[int], counts: Sequence[int], classes: int) -> None:
        super().__init__()
        self.classification_head = separable_scores(channels, counts, classes)
        self.regression_head = separable_scores(channels, counts, 4)

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """Maps -> ``bbox_regression`` (B, A, 4) and ``cls_logits`` (B, A, K)."""
        return {"bbox_regression": self.regression_head(maps), "cls_logits": self.classification_head(maps)}


def _evenly(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(low + (high - low) * k / (count - 1) for k in range(count))


_TORCHVISION = (*_evenly(0.2, 0.95, 6), 1.0)
_AUTHORS = tuple(side / 320 for side in (45, 90, 135, 180, 225, 270, 315))
_VOC = tuple(side / 320 for side in (120, 180, 220, 260, 300, 320))
_SIX = ((2.0, 3.0),) * 6
# torchvision: the maps of the last expansion and of the last convolution. The others: of Hou et al., Coordinate Attention,
# 2021, by the configuration files of their first author's SSDLite (github.com/houqb/ssdlite-pytorch-mobilenext).
_DESIGNS = {
    "torchvision": DefaultBoxes(_TORCHVISION[:-1], _TORCHVISION[1:], _SIX),
    "coordinate-coco": DefaultBoxes(_AUTHORS[:-1], _AUTHORS[1:], (*_SIX[:5], (2.0,))),
    "coordinate-voc": DefaultBoxes(_AUTHORS[:-1], _VOC, _SIX),
}


@dataclass(frozen=True)
class SSDLiteHead(DetectionHead):
    """SSD with depthwise-separable convolutions, on two maps of the backbone and four extra layers; made for 320 pixels.

    ``classes`` counts the background, as class 0. ``design``: ``torchvision``, as its ssdlite320 is; ``coordinate-coco`` and
    ``coordinate-voc``, as the Coordinate Attention authors have it for these data.
    """

    design: str = "torchvision"

    name: ClassVar[str] = "ssdlite"
    side: ClassVar[int] = 320
    outputs: ClassVar[tuple[str, ...]] = ("boxes", "scores")
    background: ClassVar[bool] = True
    box_weights: ClassVar[tuple[float, float, float, float]] = (10.0, 10.0, 5.0, 5.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.design not in _DESIGNS:
            raise unknown("design", self.design, _DESIGNS)

    def plan(self, backbone: str) -> Plan:
        """SSDLite on a backbone."""
        first = expanded_level(backbone) if self.design == "torchvision" else _before_last(backbone)
        levels = (first, last_level(backbone))
        channels = tuple(level.channels for level in levels)
        return Plan(levels, ssdlite, {"channels": channels, "classes": self.classes, "design": self.design})


def ssdlite(maps: nn.Module, channels: Sequence[int], classes: int, design: str) -> Detector:
    """SSDLite on a backbone whose two maps have these channels."""
    boxes, theirs = _DESIGNS[design], design == "torchvision"
    widths = (512, 256, 256, 128) if theirs else (512, 256, 256, 64)
    hidden = (256, 128, 128, 64) if theirs else (round(0.2 * channels[1]), 256, 128, 128)
    inside = (channels[1], *widths)
    neck = ExtraLayers([separable_down(inside[i], hidden[i], widths[i], linear=not theirs) for i in range(len(widths))])
    read = [*channels, *widths]
    paths = [f"head.classification_head.module_list.{i}" for i in range(len(read))]
    if theirs:
        normal_start(neck)
        head: nn.Module = SSDLiteLayers(read, boxes.counts, classes, _NORM)
        layers = [f"{path}.1" for path in paths]
    else:
        head = SeparableHead(read, boxes.counts, classes)
        layers = [*(f"{path}.3" for path in paths[:-1]), paths[-1]]
    return Detector(maps, neck, head, boxes, decoder=neck.named("neck"), class_layers=layers)


def _before_last(backbone: str) -> Level:
    """The map of the resolution before the coarsest."""
    levels = find_levels(backbone)
    if len(levels) < 2:
        raise UsageError(f"backbone {backbone} has maps of one resolution only; a detector reads two and more")
    return levels[-2]


# --- SSD --------------------------------------------------------------------------------------------------------------

_SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
_SSD_BOXES = DefaultBoxes(_SCALES[:-1], _SCALES[1:], ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,)))
_STEPS = (8, 16, 32, 64, 100, 300)  # of its paper's 300 pixels


@dataclass(frozen=True)
class SSDHead(DetectionHead):
    """SSD on a backbone's maps of stride 8 and 16 and five extra layers, of which the first is dilated; made for 300 pixels.

    Stages of a larger stride are dilated. ``classes`` counts the background, as class 0.
    """

    name: ClassVar[str] = "ssd"
    side: ClassVar[int] = 300
    outputs: ClassVar[tuple[str, ...]] = ("boxes", "scores")
    background: ClassVar[bool] = True
    box_weights: ClassVar[tuple[float, float, float, float]] = (10.0, 10.0, 5.0, 5.0)

    def plan(self, backbone: str) -> Plan:
        """SSD on a backbone; torchvision's ssd300 on VGG16."""
        last = find_levels(backbone)[-1]
        stride = min(last.stride, 16)
        levels = (level_at(backbone, stride // 2), last)
        channels = tuple(level.channels for level in levels)
        return Plan(levels, ssd, {"channels": channels, "classes": self.classes}, stride)


def ssd(maps: nn.Module, channels: Sequence[int], classes: int) -> Detector:
    """SSD on a backbone whose two maps have these channels."""
    for module in maps.modules():
        if isinstance(module, nn.MaxPool2d) and module.kernel_size == module.stride == 2:
            module.ceil_mode = True  # the paper's size of maps where a side is odd
    relu = partial(nn.ReLU, inplace=True)
    wide = nn.Conv2d(channels[1], 1024, 3, padding=6, dilation=6)
    layers = [nn.Sequential(nn.MaxPool2d(3, 1, 1), wide, relu(), nn.Conv2d(1024, 1024, 1), relu())]
    inside = 1024
    for hidden, outside, stride in ((256, 512, 2), (128, 256, 2), (128, 256, 1), (128, 256, 1)):
        down = nn.Conv2d(hidden, outside, 3, stride, padding=1 if stride == 2 else 0)
        layers.append(nn.Sequential(nn.Conv2d(inside, hidden, 1), relu(), down, relu()))
        inside = outside
    for layer in nn.ModuleList(layers).modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    neck = ExtraLayers(layers, replaces=True, scale=channels[0])
    read = [channels[0], 1024, 512, 256, 256, 256]
    head = SSDLayers(read, _SSD_BOXES.counts, classes)
    paths = [f"head.classification_head.module_list.{i}" for i in range(len(read))]
    return Detector(maps, neck, head, _SSD_BOXES, decoder=neck.named("neck"), class_layers=paths)


# --- detectors on a pyramid -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _PyramidHead(DetectionHead):
    """A detector on a feature pyramid of the backbone's last three resolutions and two coarser ones.

    ``channels`` of the pyramid. ``frozen_norm``: the backbone's BatchNorms are constants, as in torchvision's detectors.
    """

    channels: int = 256
    frozen_norm: bool = False

    side: ClassVar[int] = 256
    outputs: ClassVar[tuple[str, ...]] = ("boxes", "scores")
    background: ClassVar[bool] = False
    box_weights: ClassVar[tuple[float, float, float, float]] = (1.0, 1.0, 1.0, 1.0)

    def _on_pyramid(self, backbone: str, make: Callable[..., Detector]) -> Plan:
        levels = find_levels(backbone)[-3:]
        arguments = {
            "channels": tuple(level.channels for level in levels),
            "pyramid": self.channels,
            "classes": self.classes,
            "stride": levels[0].stride,
        }
        return Plan(levels, make, arguments, frozen_norm=self.frozen_norm)


@dataclass(frozen=True)
class RetinaNetHead(_PyramidHead):
    """RetinaNet: nine anchors at every position of a feature pyramid. ``classes`` counts as torchvision's constructor does."""

    name: ClassVar[str] = "retinanet"

    def plan(self, backbone: str) -> Plan:
        """RetinaNet on a backbone; torchvision's retinanet_resnet50_fpn on resnet50 with ``frozen_norm``."""
        return self._on_pyramid(backbone, retinanet)


def retinanet(maps: nn.Module, channels: Sequence[int], pyramid: int, classes: int, stride: int) -> Detector:
    """RetinaNet on a backbone whose maps have these channels, the finest of this ``stride``."""
    neck = Pyramid(channels, pyramid, coarser=2)
    bases = [4 * stride * 2**k for k in range(neck.count)]
    sides = tuple((base, int(base * 2 ** (1 / 3)), int(base * 2 ** (2 / 3))) for base in bases)
    boxes = GridAnchors(sides, (0.5, 1.0, 2.0), stride)
    head = RetinaNetLayers(pyramid, boxes.count, classes)
    layers = ["head.classification_head.cls_logits"]
    return Detector(maps, neck, head, boxes, decoder=neck.named("neck"), class_layers=layers)


@dataclass(frozen=True)
class FCOSHead(_PyramidHead):
    """FCOS: no anchors, but a location at every position of a feature pyramid, with distances to four sides.

    ``classes`` counts as torchvision's constructor does. ``anchors`` are squares of the stride's side around the locations;
    distances are in multiples of that side. The output has ``centerness`` besides.
    """

    name: ClassVar[str] = "fcos"
    outputs: ClassVar[tuple[str, ...]] = ("boxes", "scores", "centerness")

    def plan(self, backbone: str) -> Plan:
        """FCOS on a backbone; torchvision's fcos_resnet50_fpn on resnet50 with ``frozen_norm``."""
        return self._on_pyramid(backbone, fcos)


def fcos(maps: nn.Module, channels: Sequence[int], pyramid: int, classes: int, stride: int) -> Detector:
    """FCOS on a backbone whose maps have these channels, the finest of this ``stride``."""
    neck = Pyramid(channels, pyramid, coarser=2)
    boxes = GridAnchors(tuple((stride * 2**k,) for k in range(neck.count)), (1.0,), stride)
    head = FCOSLayers(pyramid, boxes.count, classes, 4)
    layers = ["head.classification_head.cls_logits"]
    return Detector(maps, neck, head, boxes, decoder=neck.named("neck"), class_layers=layers)


for _head in (SSDLiteHead, SSDHead, RetinaNetHead, FCOSHead):
    HEADS.register(_head.name, _head)
