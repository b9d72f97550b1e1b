"""Heads of segmentation that go back to fine maps: U-Net and a feature pyramid. (B, C, H, W) -> logits (B, K, H, W).

U-Net: Ronneberger et al., 2015, on the maps of a backbone, each step a nearest up-sampling, the backbone's map beside it, and
two convolutions. FPN: Kirillov et al., Panoptic Feature Pyramid Networks, 2019, figure 3. Widths and layers are those of
segmentation-models-pytorch, so that sizes can be compared. Legend: B batch, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from spaces.errors import UsageError, shortened
from spaces.heads.base import HEADS, DenseHead, Plan
from spaces.heads.layers import conv_norm_act
from spaces.heads.levels import find_levels, stem_level
from spaces.heads.segmentation import Segmenter


class UpStep(nn.Module):
    """Up-samples a map, to the size of a finer one that is put beside it where there is one, and convolves twice."""

    def __init__(self, inside: int, skipped: int, outside: int) -> None:
        super().__init__()
        self.conv1 = conv_norm_act(inside + skipped, outside)
        self.conv2 = conv_norm_act(outside, outside)

    def forward(self, x_BCHW: Tensor, skip_BCHW: Tensor | None = None) -> Tensor:
        """A map, and one of twice its size -> a map of that size."""
        if skip_BCHW is None:
            return self.conv2(self.conv1(interpolate(x_BCHW, scale_factor=2.0, mode="nearest")))
        x_BCHW = interpolate(x_BCHW, size=skip_BCHW.shape[-2:], mode="nearest")
        return self.conv2(self.conv1(torch.cat((x_BCHW, skip_BCHW), dim=1)))


class UNetDecoder(nn.Module):
    """From the coarsest map to the finest, and once more where that is not at the input's resolution."""

    def __init__(self, channels: Sequence[int], widths: Sequence[int], classes: int) -> None:
        super().__init__()
        skipped = [*reversed(channels[:-1]), 0]  # of each step; the last has none beside it
        inside = [channels[-1], *widths]
        self.blocks = nn.ModuleList(UpStep(inside[i], skipped[i], width) for i, width in enumerate(widths))
        self.logits = nn.Conv2d(widths[-1], classes, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C', H', W') from fine to coarse -> logits."""
        x, skips = maps[-1], list(reversed(maps[:-1]))
        for i, block in enumerate(self.blocks):
            x = block(x, skips[i]) if i < len(skips) else block(x)
        return self.logits(x)


@dataclass(frozen=True)
class UNetHead(DenseHead):
    """U-Net on every resolution of a backbone. ``width``: channels of the finest step; each coarser one has twice as many."""

    width: int = 16

    name: ClassVar[str] = "unet"

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.width) is not int or self.width < 1:
            raise UsageError(f"width = {shortened(self.width)}; valid: a number of channels")

    def plan(self, backbone: str) -> Plan:
        """U-Net on a backbone."""
        stem = stem_level(backbone)
        levels = (*([stem] if stem else []), *find_levels(backbone))
        widths = tuple(self.width * 2**i for i in reversed(range(len(levels) - (levels[0].stride == 1))))
        channels = tuple(level.channels for level in levels)
        return Plan(levels, unet, {"channels": channels, "widths": widths, "classes": self.classes})


def unet(maps: nn.Module, channels: Sequence[int], widths: Sequence[int], classes: int) -> Segmenter:
    """U-Net on a backbone whose maps have these channels; ``widths`` of its steps."""
    named = [(f"decoder level {i + 1}", f"classifier.blocks.{i}") for i in range(len(widths))]
    return Segmenter(maps, UNetDecoder(channels, widths, classes), named, ["classifier.logits"])


class TopDown(nn.Module):
    """A backbone's map in the pyramid's channels, and the coarser level of the pyramid added to it."""

    def __init__(self, inside: int, channels: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(inside, channels, 1)

    def forward(self, x_BCHW: Tensor, coarser_BCHW: Tensor | None = None) -> Tensor:
        """(B, C', H', W'), (B, C, H'', W'') -> (B, C, H', W')."""
        own = self.lateral(x_BCHW)
        return own if coarser_BCHW is None else own + interpolate(coarser_BCHW, size=own.shape[-2:], mode="nearest")


class Climb(nn.Module):
    """Convolutions with GroupNorm and ReLU that each double the resolution, as often as ``times``; one that does not for 0."""

    def __init__(self, inside: int, outside: int, times: int) -> None:
        super().__init__()
        self.times = times
        self.steps = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inside if i == 0 else outside, outside, 3, padding=1, bias=False),
                nn.GroupNorm(32, outside),
                nn.ReLU(inplace=True),
            )
            for i in range(max(1, times))
        )

    def forward(self, x_BCHW: Tensor, like_BCHW: Tensor) -> Tensor:
        """(B, C, H', W') -> (B, C', H, W), the size of ``like``."""
        for i, step in enumerate(self.steps, start=1):
            x_BCHW = step(x_BCHW)
            if i < self.times:
                x_BCHW = interpolate(x_BCHW, scale_factor=2.0, mode="bilinear", align_corners=True)
            elif self.times:  # the last one to the very size, which may be odd
                x_BCHW = interpolate(x_BCHW, size=like_BCHW.shape[-2:], mode="bilinear", align_corners=True)
        return x_BCHW


class PyramidDecoder(nn.Module):
    """A pyramid whose levels are brought to the resolution of the finest one and added up."""

    def __init__(self, channels: Sequence[int], pyramid: int, width: int, classes: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(TopDown(inside, pyramid) for inside in channels)
        self.climbs = nn.ModuleList(Climb(pyramid, width, times) for times in range(len(channels)))
        self.dropout = nn.Dropout2d(0.2)
        self.logits = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C', H', W') from fine to coarse -> logits at the size of the finest."""
        coarser: Tensor | None = None
        total: Tensor | None = None
        for level, climb, x in reversed(list(zip(self.levels, self.climbs, maps, strict=True))):
            coarser = level(x, coarser)
            climbed = climb(coarser, maps[0])
            total = climbed if total is None else total + climbed
        return self.logits(self.dropout(total))


@dataclass(frozen=True)
class FPNHead(DenseHead):
    """A feature pyramid on a backbone's resolutions from stride 4.

    ``channels`` of the pyramid, ``width`` of the maps that are added up, a multiple of 32.
    """

    channels: int = 256
    width: int = 128

    name: ClassVar[str] = "fpn"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width not in range(32, 4097, 32):
            raise UsageError(f"width = {shortened(self.width)}; valid: a multiple of 32, for GroupNorm")

    def plan(self, backbone: str) -> Plan:
        """A pyramid on a backbone."""
        levels = tuple(level for level in find_levels(backbone) if level.stride >= 4)
        if not levels:
            raise UsageError(f"backbone {shortened(backbone)} has no stage of stride 4 or more")
        channels = tuple(level.channels for level in levels)
        arguments = {"channels": channels, "pyramid": self.channels, "width": self.width, "classes": self.classes}
        return Plan(levels, fpn, arguments)


def fpn(maps: nn.Module, channels: Sequence[int], pyramid: int, width: int, classes: int) -> Segmenter:
    """A pyramid on a backbone whose maps have these channels."""
    named = [(f"FPN level {i + 1}", f"classifier.levels.{i}") for i in range(len(channels))]
    return Segmenter(maps, PyramidDecoder(channels, pyramid, width, classes), named, ["classifier.logits"])


for _head in (UNetHead, FPNHead):
    HEADS.register(_head.name, _head)
