"""Heads of semantic segmentation: (B, C, H, W) -> logits (B, K, H, W) at the size of the input.

DeepLabV3: Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017. LR-ASPP: Howard et al.,
Searching for MobileNetV3, 2019. FCN: Long et al., 2015, on dilated backbones. These three are torchvision's own parts, whose
names of weights they keep. U-Net (Ronneberger et al., 2015) and FPN (Kirillov et al., Panoptic Feature Pyramid Networks,
2019) are in ``spaces.heads.decoders``. Legend: B batch, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models.segmentation.deeplabv3 import ASPP, DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead as FCNLayers
from torchvision.models.segmentation.lraspp import LRASPPHead as LRASPPLayers

from spaces.errors import UsageError, shortened
from spaces.heads.base import HEADS, DenseHead, DenseNetwork, Plan
from spaces.heads.layers import conv_norm_act, safe_norms
from spaces.heads.levels import Level, find_levels, last_level, level_at

STRIDES = (8, 16, 32)
RATES = (12, 24, 36)  # of ASPP at an output stride of 8; half of them at 16
ASPP_CHANNELS = 256


class Segmenter(DenseNetwork):
    """Maps of a backbone, a decoder that makes logits of them, and its output at the size of the input.

    ``last``: the decoder gets the last map alone; else it gets all maps, from fine to coarse. With an auxiliary head, which
    reads the first map, the network gives a pair (logits, auxiliary logits) in training mode.
    """

    def __init__(
        self,
        backbone: nn.Module,
        classifier: nn.Module,
        decoder: Sequence[tuple[str, str]],
        class_layers: Sequence[str],
        *,
        last: bool = False,
        aux_classifier: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self.aux_classifier = aux_classifier
        self.decoder = tuple(decoder)
        self.class_layers, self.last = tuple(class_layers), last

    def get_classifier(self) -> list[nn.Module]:
        """The last convolutions, of the auxiliary head too."""
        return [self.get_submodule(path) for path in self.class_layers]

    def forward(self, x_BCHW: Tensor) -> Any:
        """(B, C, H, W) -> logits (B, K, H, W)."""
        maps = self.backbone(x_BCHW)
        logits = self.classifier(maps[-1] if self.last else maps)
        logits_BKHW = at_size(logits, x_BCHW)
        if self.aux_classifier is None or not self.training:
            return logits_BKHW
        aux = self.aux_classifier(maps[0])
        return logits_BKHW, at_size(aux, x_BCHW)


def at_size(logits_BKHW: Tensor, x_BCHW: Tensor) -> Tensor:
    """Logits at the size of the input, bilinear where they are smaller."""
    if logits_BKHW.shape[-2:] == x_BCHW.shape[-2:]:
        return logits_BKHW
    return interpolate(logits_BKHW, size=x_BCHW.shape[-2:], mode="bilinear", align_corners=False)


def check_stride(output_stride: Any) -> None:
    """Raise UsageError for an output stride that is none."""
    if output_stride not in STRIDES:
        raise UsageError(f"output_stride = {shortened(output_stride)}; valid: {', '.join(map(str, STRIDES))}")


def check_tap(tap: Any) -> None:
    """Raise UsageError for a tap that is none."""
    if tap not in ("block", "conv"):
        raise UsageError(f"tap = {shortened(tap)}; valid: block, conv")


def coarsest(backbone: str, tap: str) -> Level:
    """The map of the last block, or of the last convolution before a backbone pools."""
    return last_level(backbone) if tap == "conv" else find_levels(backbone)[-1]


def _auxiliary(backbone: str, stride: int | None) -> tuple[Level, ...]:
    """The level that an auxiliary head reads; none without a stride."""
    return () if stride is None else (level_at(backbone, stride),)


def auxiliary_head(channels: int | None, classes: int) -> tuple[nn.Module | None, list[str]]:
    """An FCN head on a map of so many channels, and the path of its last layer; none without channels."""
    return (None, []) if channels is None else (FCNLayers(channels, classes), ["aux_classifier.4"])


@dataclass(frozen=True)
class DeepLabV3Head(DenseHead):
    """Atrous spatial pyramid pooling on the last map, then a convolution and the logits.

    ``output_stride``: pixels of the input per pixel of that map. ``separable``: depthwise-separable convolutions. ``refine``:
    the 3 x 3 convolution between ASPP and the logits, which torchvision has and the paper has not. ``tap``: ``block``, the last
    block's map, or ``conv``, that of the backbone's last convolution before it pools. ``auxiliary_stride``: where given, an FCN
    head on the backbone's stage of this stride helps training (torchvision: 16 on ResNets, 8 on MobileNetV3).
    """

    output_stride: int = 16
    separable: bool = False
    refine: bool = True
    tap: str = "block"
    auxiliary_stride: int | None = None

    name: ClassVar[str] = "deeplabv3"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_stride(self.output_stride)
        check_tap(self.tap)

    def plan(self, backbone: str) -> Plan:
        """DeepLabV3 on a backbone; torchvision's network where its options are torchvision's."""
        level, extra = coarsest(backbone, self.tap), _auxiliary(backbone, self.auxiliary_stride)
        arguments = {
            "channels": level.channels,
            "classes": self.classes,
            "rates": tuple(rate * 8 // self.output_stride for rate in RATES),
            "with_separable": self.separable,
            "refine": self.refine,
            "auxiliary": extra[0].channels if extra else None,
        }
        return Plan((*extra, level), deeplab, arguments, self.output_stride)


def deeplab(
    maps: nn.Module,
    channels: int,
    classes: int,
    rates: Sequence[int],
    with_separable: bool,
    refine: bool,
    auxiliary: int | None,
) -> Segmenter:
    """DeepLabV3 on a backbone whose last map has so many ``channels``; ``auxiliary``: those of its first map."""
    layers = list(DeepLabHead(channels, classes, tuple(rates)))
    if with_separable:
        layers[0] = SeparableASPP(channels, rates)
        layers[1:4] = list(separable(ASPP_CHANNELS, ASPP_CHANNELS))
    if not refine:
        layers = [layers[0], layers[-1]]
    aux, aux_layers = auxiliary_head(auxiliary, classes)
    classifier, names = safe_norms(nn.Sequential(*layers)), [f"classifier.{len(layers) - 1}", *aux_layers]
    return Segmenter(maps, classifier, [("ASPP output", "classifier.0")], names, last=True, aux_classifier=aux)


def separable(inside: int, outside: int, dilation: int = 1) -> nn.Sequential:
    """A depthwise 3 x 3 and a pointwise convolution, each with BatchNorm and ReLU."""
    return nn.Sequential(
        *conv_norm_act(inside, inside, 3, dilation=dilation, groups=inside), *conv_norm_act(inside, outside, 1)
    )


class SeparableASPP(ASPP):
    """torchvision's ASPP with depthwise-separable convolutions in its dilated branches."""

    def __init__(self, channels: int, rates: Sequence[int]) -> None:
        super().__init__(channels, list(rates))
        for number, rate in enumerate(rates, start=1):
            self.convs[number] = separable(channels, ASPP_CHANNELS, rate)


@dataclass(frozen=True)
class LRASPPHead(DenseHead):
    """Lite reduced ASPP: the last map, gated by its own mean, plus the map of stride 8. Made for MobileNetV3.

    ``tap``: as in ``DeepLabV3Head``; ``channels`` of the gated map.
    """

    output_stride: int = 16
    channels: int = 128
    tap: str = "conv"

    name: ClassVar[str] = "lraspp"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_stride(self.output_stride)
        check_tap(self.tap)

    def plan(self, backbone: str) -> Plan:
        """LR-ASPP on a backbone."""
        low, high = level_at(backbone, 8), coarsest(backbone, self.tap)
        arguments = {"low": low.channels, "high": high.channels, "classes": self.classes, "width": self.channels}
        return Plan((low, high), lraspp, arguments, self.output_stride)


def lraspp(maps: nn.Module, low: int, high: int, classes: int, width: int) -> Segmenter:
    """LR-ASPP on a backbone whose two maps have ``low`` and ``high`` channels."""
    layers = ["classifier.low_classifier", "classifier.high_classifier"]
    return Segmenter(maps, LowAndHigh(low, high, classes, width), [("LR-ASPP map", "classifier.cbr")], layers)


class LowAndHigh(LRASPPLayers):
    """torchvision's LR-ASPP on a pair of maps."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Two maps (B, C', H', W'), the finer first -> logits (B, K, H', W') at the size of the finer."""
        low, high = maps
        return super().forward({"low": low, "high": high})


@dataclass(frozen=True)
class FCNHead(DenseHead):
    """A convolution and the logits on the last map. ``auxiliary_stride``: as in ``DeepLabV3Head``."""

    output_stride: int = 8
    auxiliary_stride: int | None = None

    name: ClassVar[str] = "fcn"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_stride(self.output_stride)

    def plan(self, backbone: str) -> Plan:
        """FCN on a backbone."""
        level, extra = find_levels(backbone)[-1], _auxiliary(backbone, self.auxiliary_stride)
        auxiliary = extra[0].channels if extra else None
        arguments = {"channels": level.channels, "classes": self.classes, "auxiliary": auxiliary}
        return Plan((*extra, level), fcn, arguments, self.output_stride)


def fcn(maps: nn.Module, channels: int, classes: int, auxiliary: int | None) -> Segmenter:
    """FCN on a backbone whose last map has so many ``channels``; ``auxiliary``: those of its first map."""
    aux, aux_layers = auxiliary_head(auxiliary, classes)
    layers = ["classifier.4", *aux_layers]
    head = FCNLayers(channels, classes)
    return Segmenter(maps, head, [("FCN map", "classifier.2")], layers, last=True, aux_classifier=aux)


for _head in (DeepLabV3Head, LRASPPHead, FCNHead):
    HEADS.register(_head.name, _head)
