"""What all one-stage detectors are: maps, a neck that makes more of them, a head that reads each, and their anchors.

Legend: B batch, C channels, A anchors, K classes, L maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from spaces.backbones.insertion import on_meta
from spaces.heads.anchors import DefaultBoxes, GridAnchors
from spaces.heads.base import DenseHead, DenseNetwork
from spaces.meta import ShapesOnly


class Detector(DenseNetwork):
    """Maps of a backbone, a neck that makes more of them, and a head that reads each: raw boxes and class logits."""

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        boxes: DefaultBoxes | GridAnchors,
        *,
        decoder: Sequence[tuple[str, str]],
        class_layers: Sequence[str],
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head
        self.boxes = boxes
        self.decoder = tuple(decoder)
        self.class_layers = tuple(class_layers)
        self._made: dict[tuple[object, ...], dict[str, Tensor]] = {}

    def get_classifier(self) -> list[nn.Module]:
        """The last convolutions of the classes."""
        return [self.get_submodule(path) for path in self.class_layers]

    def maps(self, x_BCHW: Tensor) -> list[Tensor]:
        """The maps that the head reads, from fine to coarse, each (B, C', H', W')."""
        found: list[Tensor] = self.neck(self.backbone(x_BCHW))
        return found

    def forward(self, x_BCHW: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) -> ``boxes`` (B, A, 4) and ``scores`` (B, A, K), raw; of FCOS also ``centerness`` (B, A, 1).

        Besides, for losses and detections, what these are relative to: ``anchors`` (A, 4), and ``levels`` (L,) on the CPU, the
        anchors of each map. A graph that is traced or exported does without: they are constants of its input's size.
        """
        maps = self.maps(x_BCHW)
        found = self.head(maps)
        raw = {"boxes": found["bbox_regression"], "scores": found["cls_logits"]}
        if "bbox_ctrness" in found:
            raw["centerness"] = found["bbox_ctrness"]
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            return raw
        return raw | self._reference(x_BCHW, [(one.shape[-2], one.shape[-1]) for one in maps])

    def _reference(self, x_BCHW: Tensor, shapes: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """``anchors`` and ``levels`` for maps of these (H, W), made once; on the meta device without content."""
        size, boxes = (x_BCHW.shape[-2], x_BCHW.shape[-1]), self.boxes
        key = (size, tuple(shapes), x_BCHW.device)
        if key not in self._made:
            each = boxes.counts if isinstance(boxes, DefaultBoxes) else [boxes.count] * len(shapes)
            counts = [count * rows * columns for count, (rows, columns) in zip(each, shapes, strict=True)]
            if x_BCHW.is_meta:
                anchors_A4, levels_L = (
                    torch.empty(sum(counts), 4, device="meta"),
                    torch.empty(len(counts), device="meta"),
                )
            else:
                with torch.device("cpu"), torch.inference_mode(False):
                    anchors_A4 = boxes.make(size, shapes).to(x_BCHW.device)
                    levels_L = torch.tensor(counts)
            self._made[key] = {"anchors": anchors_A4, "levels": levels_L}
        return self._made[key]

    def anchors(self, size: tuple[int, int]) -> Tensor:
        """(A, 4) corners x1, y1, x2, y2 in pixels of an image of ``size`` (H, W), in the order of the outputs."""
        with torch.no_grad(), torch.device("meta"), ShapesOnly():
            maps = on_meta(self).eval().maps(torch.empty(1, self.in_chans, *size))
        with torch.device("cpu"):
            return self.boxes.make(size, [(one.shape[-2], one.shape[-1]) for one in maps])


@dataclass(frozen=True)
class DetectionHead(DenseHead):
    """A head whose raw boxes are relative to anchors.

    ``background``: whether ``classes`` counts the background, as class 0. ``box_weights``: of the box coder.
    """

    background: ClassVar[bool] = False
    box_weights: ClassVar[tuple[float, float, float, float]] = (1.0, 1.0, 1.0, 1.0)


class ExtraLayers(nn.Module):
    """The maps of a backbone, and those that further layers make of the last one, one after another.

    ``scale``: where given, the first map is normalised to length 1 over its channels and scaled by a learned factor for each
    that starts at 20 (Liu et al., ParseNet, 2015).
    """

    def __init__(self, layers: Sequence[nn.Module], *, replaces: bool = False, scale: int | None = None) -> None:
        super().__init__()
        self.extra = nn.ModuleList(layers)
        self.replaces = replaces  # the first layer's map stands in place of the last of the backbone
        self.scale_weight = None if scale is None else nn.Parameter(torch.full((scale,), 20.0))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C', H', W') from fine to coarse -> the same and more."""
        found = list(maps)
        x = found.pop() if self.replaces else found[-1]
        for layer in self.extra:
            x = layer(x)
            found.append(x)
        if self.scale_weight is not None:
            found[0] = self.scale_weight.view(1, -1, 1, 1) * normalize(found[0])
        return found

    def named(self, path: str) -> list[tuple[str, str]]:
        """The stages that the layers are."""
        return [(f"extra layer {number + 1}", f"{path}.extra.{number}") for number in range(len(self.extra))]
