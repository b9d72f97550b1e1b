"""Faster R-CNN (Ren et al., 2015) on a feature pyramid (Lin et al., 2017), from torchvision's parts, with its constants.

The first stage puts out raw boxes and scores like a one-stage detector. The second looks at the regions that these propose,
and which these are depends on the content of an image: it needs non-maximum suppression inside of the network. A graph of
fixed shapes cannot hold that. Where one is made (costs, memory, on the meta device and in traces), the second stage looks at a
grid of regions that is the same for all images, as many as there would be: what it costs is exact.
Legend: B batch, C channels, A anchors, R regions, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign, batched_nms, roi_align

from spaces.heads.anchors import GridAnchors
from spaces.heads.base import HEADS, Plan
from spaces.heads.detector import DetectionHead, Detector
from spaces.heads.levels import find_levels
from spaces.heads.pyramid import Pyramid

SIDE = 7  # of a region's map
COLUMNS = 25  # regions beside each other, where they lie on a grid
PROPOSED = {True: 2000, False: 1000}  # by whether it is in training: the most of a level, and of an image
OVERLAP = 0.7  # beyond which a proposal is suppressed
LEAST = 1e-3  # pixels: the least side of a proposal


class Proposals(nn.Module):
    """Raw boxes and scores of every position of every level, as an output of the first stage."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.layers = RPNHead(channels, count)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Maps (B, C, H', W') -> ``bbox_regression`` (B, A, 4) and ``cls_logits`` (B, A, 1)."""
        scores, boxes = self.layers(list(maps))
        return {
            "bbox_regression": torch.cat([_by_anchor(one, 4) for one in boxes], dim=1),
            "cls_logits": torch.cat([_by_anchor(one, 1) for one in scores], dim=1),
        }


def _by_anchor(raw: Tensor, columns: int) -> Tensor:
    """(B, N * columns, H, W) -> (B, H * W * N, columns)."""
    return raw.unflatten(1, (-1, columns)).permute(0, 3, 4, 1, 2).flatten(1, 3)


class Regions:
    """The maps of one batch, of which the second stage tells what is in some regions."""

    def __init__(self, network: TwoStageDetector, maps: Sequence[Tensor], size: tuple[int, int]) -> None:
        self.network, self.maps, self.size = network, maps, size

    def read(self, boxes_BR4: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, R, K), and raw boxes (B, R, 4 K) relative to the regions, which are corners in pixels of the input."""
        batch, count = boxes_BR4.shape[:2]
        if boxes_BR4.is_meta:
            pooled = on_grid(self.maps, count)
        else:
            named = {str(level): one for level, one in enumerate(self.maps)}
            pooled = self.network.pool(named, list(boxes_BR4.to(self.maps[0].dtype)), [self.size] * batch)
        scores, boxes = self.network.box_predictor(self.network.box_head(pooled))
        return scores.unflatten(0, (batch, count)), boxes.unflatten(0, (batch, count))


class TwoStageDetector(Detector):
    """A pyramid, region proposals on every level, and boxes and classes of regions."""

    def __init__(
        self, backbone: nn.Module, neck: Pyramid, boxes: GridAnchors, channels: int, classes: int, width: int
    ) -> None:
        head = Proposals(channels, boxes.count)
        layers = ["box_predictor.cls_score", "box_predictor.bbox_pred"]
        super().__init__(backbone, neck, head, boxes, decoder=neck.named("neck"), class_layers=layers)
        self.read_levels = neck.count - neck.coarser  # the coarsest level proposes regions only
        self.pool = MultiScaleRoIAlign([str(level) for level in range(self.read_levels)], SIDE, 2)
        self.box_head = TwoMLPHead(channels * SIDE**2, width)
        self.box_predictor = FastRCNNPredictor(width, classes)

    def forward(self, x_BCHW: Tensor) -> dict[str, Any]:
        """(B, C, H, W) -> raw ``boxes`` (B, A, 4) and ``scores`` (B, A, 1), relative to ``anchors`` (A, 4) of ``levels`` (L,).

        ``proposals`` (B, R, 4): the regions that follow from these, corners in pixels, and zeros where there are less. In eval
        mode also ``class_boxes`` (B, R, 4 K) and ``class_scores`` (B, R, K) of them, raw. ``regions`` tells these of any other.
        """
        maps = self.maps(x_BCHW)
        found = self.head(maps)
        raw: dict[str, Any] = {"boxes": found["bbox_regression"], "scores": found["cls_logits"]}
        batch, size = x_BCHW.shape[0], (x_BCHW.shape[-2], x_BCHW.shape[-1])
        regions = Regions(self, maps[: self.read_levels], size)
        if torch.jit.is_tracing():
            pooled = on_grid(regions.maps, min(PROPOSED[False], int(raw["boxes"].shape[1])))
            scores, boxes = self.box_predictor(self.box_head(pooled))
            return raw | {
                "class_boxes": boxes.unflatten(0, (batch, -1)),
                "class_scores": scores.unflatten(0, (batch, -1)),
            }
        raw |= self._reference(x_BCHW, [(one.shape[-2], one.shape[-1]) for one in maps])
        raw["proposals"] = propose(raw, size, PROPOSED[self.training])
        raw["regions"] = regions
        if not self.training:
            raw["class_scores"], raw["class_boxes"] = regions.read(raw["proposals"])
        return raw


@torch.no_grad()
def propose(raw: dict[str, Tensor], size: tuple[int, int], most: int) -> Tensor:
    """(B, R, 4): the best ``most`` boxes of an image that no better one of their level overlaps by more than ``OVERLAP``.

    Candidates are the best ``most`` of each level. Where less remain, the rest is zero. On the meta device nothing is
    suppressed: the shape is the same.
    """
    scores_BA, anchors_A4 = raw["scores"].detach().float().squeeze(-1), raw["anchors"]
    batch = scores_BA.shape[0]
    if scores_BA.is_meta:
        return scores_BA.new_zeros(batch, min(most, scores_BA.shape[1]), 4)
    places, levels = [], []
    for level, part_BA in enumerate(scores_BA.split(raw["levels"].tolist(), dim=1)):
        start = sum(raw["levels"][:level].tolist())
        best_BN = part_BA.topk(min(most, part_BA.shape[1]), dim=1).indices
        places.append(best_BN + start)
        levels.append(torch.full_like(best_BN, level))
    place_BN, level_BN = torch.cat(places, 1), torch.cat(levels, 1)
    raw_BN4 = raw["boxes"].detach().float().gather(1, place_BN[..., None].expand(-1, -1, 4))
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    boxes_BN4 = coder.decode_single(raw_BN4.flatten(0, 1), anchors_A4[place_BN].flatten(0, 1)).view_as(raw_BN4)
    limit_4 = boxes_BN4.new_tensor([size[1], size[0]] * 2)
    boxes_BN4 = torch.minimum(boxes_BN4.clamp_min(0), limit_4)
    score_BN = scores_BA.gather(1, place_BN).sigmoid()
    wide_BN = (boxes_BN4[..., 2:] - boxes_BN4[..., :2] >= LEAST).all(-1)
    found = boxes_BN4.new_zeros(batch, min(most, place_BN.shape[1]), 4)
    for index in range(batch):
        own_N = wide_BN[index]
        boxes_n4 = boxes_BN4[index][own_N]
        kept = batched_nms(boxes_n4, score_BN[index][own_N], level_BN[index][own_N], OVERLAP)[:most]
        found[index, : len(kept)] = boxes_n4[kept]
    return found


def on_grid(maps: Sequence[Tensor], count: int) -> Tensor:
    """The maps of ``count`` regions that are the same for all images, spread over levels and positions: (B * R, C, S, S)."""
    pooled = []
    for level, map_BCHW in enumerate(maps):
        own = count // len(maps) + (level < count % len(maps))
        height, width = map_BCHW.shape[-2:]
        index_R = torch.arange(own, device=map_BCHW.device)
        x_R, y_R = (
            (index_R % COLUMNS) / (COLUMNS - 1),
            torch.div(index_R, COLUMNS, rounding_mode="floor") / (own / COLUMNS),
        )
        corner_R2 = torch.stack((x_R * max(0, width - SIDE), y_R * max(0, height - SIDE)), dim=-1)
        boxes_R4 = torch.cat((corner_R2, corner_R2 + SIDE), dim=1).to(map_BCHW.dtype)
        pooled.append(roi_align(map_BCHW, [boxes_R4] * map_BCHW.shape[0], SIDE, 1.0, 2).unflatten(0, (-1, own)))
    return torch.cat(pooled, dim=1).flatten(0, 1)


@dataclass(frozen=True)
class FasterRCNNHead(DetectionHead):
    """Faster R-CNN on the backbone's last four resolutions.

    ``classes`` counts the background, as class 0. ``channels`` of the pyramid, ``width`` of the second stage.
    ``frozen_norm``: the backbone's BatchNorms are constants, as in torchvision's detectors.
    """

    channels: int = 256
    width: int = 1024
    frozen_norm: bool = False

    name: ClassVar[str] = "fasterrcnn"
    side: ClassVar[int] = 256
    outputs: ClassVar[tuple[str, ...]] = ("proposals", "class_boxes", "class_scores")
    background: ClassVar[bool] = True
    box_weights: ClassVar[tuple[float, float, float, float]] = (10.0, 10.0, 5.0, 5.0)
    data_dependent: ClassVar[str] = (
        "its second stage looks at regions that the first proposes, and choosing these takes non-maximum suppression in between"
    )

    def plan(self, backbone: str) -> Plan:
        """Faster R-CNN on a backbone; torchvision's fasterrcnn_resnet50_fpn on resnet50 with ``frozen_norm``."""
        levels = find_levels(backbone)[-4:]
        arguments = {
            "channels": tuple(level.channels for level in levels),
            "pyramid": self.channels,
            "classes": self.classes,
            "width": self.width,
            "stride": levels[0].stride,
        }
        return Plan(levels, fasterrcnn, arguments, frozen_norm=self.frozen_norm)


def fasterrcnn(
    maps: nn.Module, channels: Sequence[int], pyramid: int, classes: int, width: int, stride: int
) -> TwoStageDetector:
    """Faster R-CNN on a backbone whose maps have these channels, the finest of this ``stride``."""
    neck = Pyramid(channels, pyramid, coarser=1)
    boxes = GridAnchors(tuple((8 * stride * 2**k,) for k in range(neck.count)), (0.5, 1.0, 2.0), stride)
    return TwoStageDetector(maps, neck, boxes, pyramid, classes, width)


HEADS.register(FasterRCNNHead.name, FasterRCNNHead)
