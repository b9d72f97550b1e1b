"""Faster R-CNN (Ren et al., 2015) on a feature pyramid, from torchvision's parts: its core, for costs and latency.

Which regions the second stage looks at depends on the content of an image, so a graph of fixed shapes cannot choose them. Here
it looks at regions that are the same for all images, as many as torchvision's does: what it costs is exact, and what it puts
out for them is right. It is not trained here. Legend: B batch, A anchors, P regions, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import roi_align

from spaces.heads.base import HEADS, DenseHead, DenseNetwork, Plan
from spaces.heads.levels import find_levels
from spaces.heads.pyramid import Pyramid

SIDE, ROWS, COLUMNS = 7, 10, 25  # of a region's map; regions of each level, which make 1,000 on four of them


class TwoStageDetector(DenseNetwork):
    """A pyramid, region proposals on every level, and boxes and classes of regions."""

    def __init__(self, backbone: nn.Module, neck: Pyramid, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, neck
        self.rpn = RPNHead(channels, 3)
        self.box_head = TwoMLPHead(channels * SIDE**2, width)
        self.box_predictor = FastRCNNPredictor(width, classes)
        self.decoder = tuple(neck.named("neck"))

    def get_classifier(self) -> list[nn.Module]:
        """The layer of the classes, and that of their boxes."""
        return [self.box_predictor.cls_score, self.box_predictor.bbox_pred]

    def forward(self, x_BCHW: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) -> raw ``boxes`` (B, A, 4) and ``scores`` (B, A, 1) of proposals, ``class_boxes`` (B, P, 4 K) and
        ``class_scores`` (B, P, K) of the fixed regions.
        """
        maps = self.neck(self.backbone(x_BCHW))
        scores, boxes = self.rpn(maps)
        regions = [self._regions(one, x_BCHW) for one in maps[: self.neck.count - 1]]
        pooled = torch.cat(regions, dim=1).flatten(0, 1)
        class_scores, class_boxes = self.box_predictor(self.box_head(pooled))
        batch = x_BCHW.shape[0]
        return {
            "boxes": torch.cat([_by_anchor(one, 4) for one in boxes], dim=1),
            "scores": torch.cat([_by_anchor(one, 1) for one in scores], dim=1),
            "class_boxes": class_boxes.unflatten(0, (batch, -1)),
            "class_scores": class_scores.unflatten(0, (batch, -1)),
        }

    def _regions(self, map_BCHW: Tensor, x_BCHW: Tensor) -> Tensor:
        """The maps of a grid of regions on one level, (B, ROWS * COLUMNS, C, SIDE, SIDE)."""
        height, width = map_BCHW.shape[-2:]
        y, x = torch.meshgrid(
            torch.linspace(0, 1, ROWS, device=map_BCHW.device),
            torch.linspace(0, 1, COLUMNS, device=map_BCHW.device),
            indexing="ij",
        )
        corner_P2 = torch.stack((x * max(0, width - SIDE), y * max(0, height - SIDE)), dim=-1).reshape(-1, 2)
        boxes_P4 = torch.cat((corner_P2, corner_P2 + SIDE), dim=1)
        found = roi_align(map_BCHW, [boxes_P4] * x_BCHW.shape[0], SIDE, 1.0, 2)
        return found.unflatten(0, (x_BCHW.shape[0], -1))


def _by_anchor(raw: Tensor, columns: int) -> Tensor:
    """(B, N * columns, H, W) -> (B, H * W * N, columns)."""
    return raw.unflatten(1, (-1, columns)).permute(0, 3, 4, 1, 2).flatten(1, 3)


@dataclass(frozen=True)
class FasterRCNNHead(DenseHead):
    """Faster R-CNN's core on the backbone's last four resolutions; it is counted and measured, not trained.

    ``classes`` counts the background, as class 0. ``channels`` of the pyramid, ``width`` of the second stage.
    ``frozen_norm``: the backbone's BatchNorms are constants, as in torchvision's detectors.
    """

    channels: int = 256
    width: int = 1024
    frozen_norm: bool = False

    name: ClassVar[str] = "fasterrcnn"
    side: ClassVar[int] = 256
    outputs: ClassVar[tuple[str, ...]] = ("boxes", "scores", "class_boxes", "class_scores")

    def plan(self, backbone: str) -> Plan:
        """Faster R-CNN on a backbone; torchvision's fasterrcnn_resnet50_fpn on resnet50 with ``frozen_norm``."""
        levels = find_levels(backbone)[-4:]
        channels = tuple(level.channels for level in levels)
        arguments = {"channels": channels, "pyramid": self.channels, "classes": self.classes, "width": self.width}
        return Plan(levels, fasterrcnn, arguments, frozen_norm=self.frozen_norm)


def fasterrcnn(maps: nn.Module, channels: Sequence[int], pyramid: int, classes: int, width: int) -> TwoStageDetector:
    """Faster R-CNN on a backbone whose maps have these channels."""
    return TwoStageDetector(maps, Pyramid(channels, pyramid, coarser=1), pyramid, classes, width)


HEADS.register(FasterRCNNHead.name, FasterRCNNHead)
