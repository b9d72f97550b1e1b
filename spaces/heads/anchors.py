"""Anchors of detectors: the boxes in pixels that raw regressions are relative to, in the order of the outputs.

SSD's default boxes: Liu et al., SSD: Single Shot MultiBox Detector, ECCV 2016. Legend: A anchors, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator


@dataclass(frozen=True)
class DefaultBoxes:
    """SSD's default boxes. For each map: sides of the small and of the large square, and aspect ratios, in shares of the image.

    ``steps``: pixels between the centres of each map; empty: the image divided by the map.
    """

    small: tuple[float, ...]
    large: tuple[float, ...]
    ratios: tuple[tuple[float, ...], ...]
    steps: tuple[int, ...] = ()

    @property
    def counts(self) -> list[int]:
        """Boxes at each position, by map."""
        return [2 + 2 * len(ratios) for ratios in self.ratios]

    def make(self, size: tuple[int, int], maps: Sequence[tuple[int, int]]) -> Tensor:
        """(A, 4) corners x1, y1, x2, y2 in pixels of an image of ``size`` (H, W); no side is longer than the image's."""
        height, width = size
        found = []
        for k, (rows, columns) in enumerate(maps):
            step_y, step_x = (self.steps[k],) * 2 if self.steps else (height / rows, width / columns)
            small, between = self.small[k], (self.small[k] * self.large[k]) ** 0.5
            sides = [(small, small), (between, between)]
            for ratio in self.ratios[k]:
                sides += [(small * ratio**0.5, small / ratio**0.5), (small / ratio**0.5, small * ratio**0.5)]
            half_n2 = torch.tensor(sides).clamp(0, 1) * torch.tensor([width, height]) / 2
            y, x = torch.meshgrid(
                (torch.arange(rows) + 0.5) * step_y, (torch.arange(columns) + 0.5) * step_x, indexing="ij"
            )
            centre_P12 = torch.stack((x, y), dim=-1).reshape(-1, 1, 2)
            found.append(torch.cat((centre_P12 - half_n2, centre_P12 + half_n2), dim=-1).reshape(-1, 4))
        return torch.cat(found)


@dataclass(frozen=True)
class GridAnchors:
    """Anchors of pyramids: boxes of some sides and aspect ratios (height by width) around the corner of every cell of a map.

    ``sides``: in pixels, by map; ``stride`` of the finest map, at which these sides are right.
    """

    sides: tuple[tuple[int, ...], ...]
    ratios: tuple[float, ...]
    stride: int

    @property
    def count(self) -> int:
        """Boxes at each position."""
        return len(self.sides[0]) * len(self.ratios)

    def make(self, size: tuple[int, int], maps: Sequence[tuple[int, int]]) -> Tensor:
        """(A, 4) corners x1, y1, x2, y2 in pixels of an image of ``size`` (H, W), as torchvision's generator places them.

        Where a rewritten stem keeps the resolution of small images, the sides shrink with the strides.
        """
        actual = max(1, round(size[0] / maps[0][0]))
        sides = tuple(tuple(max(1, side * actual // self.stride) for side in sides) for sides in self.sides)
        generator = AnchorGenerator(sides, (self.ratios,) * len(sides))
        strides = [[torch.tensor(size[0] // rows), torch.tensor(size[1] // columns)] for rows, columns in maps]
        return torch.cat(generator.grid_anchors([list(one) for one in maps], strides))
