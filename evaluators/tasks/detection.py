"""Object detection: boxes and their classes, the losses of the head's paper, COCO's mean average precision.

Legend: B batch, C channels, H and W pixels, M objects at most, A anchors, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from evaluators.data.boxes.augment import BoxAugment
from evaluators.data.boxes.batches import BoxBatches, Target
from evaluators.data.boxes.load import LAYOUTS, load_boxes
from evaluators.data.boxes.splits import BoxData, BoxSplit
from evaluators.data.boxes.summary import BoxSummary
from evaluators.detection.average_precision import check_installed
from evaluators.detection.losses import fcos_loss, retinanet_loss, ssd_loss
from evaluators.detection.postprocess import SETTINGS
from evaluators.detection.scorer import BoxScorer, without_crowds
from evaluators.detection.strongest import strongest
from evaluators.detection.two_stages import faster_rcnn_loss
from evaluators.recipe import Recipe
from evaluators.tasks.base import TASKS, Batches, Explained, Metric, Split
from evaluators.tasks.shared import HeadConfig, OnData, refuse_mixing
from spaces.errors import UsageError, unknown
from spaces.heads.base import HEADS, head_from_dict
from spaces.network import NetworkSpec

if TYPE_CHECKING:
    from spaces.heads.detector import DetectionHead  # torchvision's detectors take seconds to import

# How the output of each head that can be trained is read: a key of SETTINGS.
KINDS = {
    "ssdlite": "softmax",
    "ssd": "softmax",
    "retinanet": "sigmoid",
    "fcos": "centerness",
    "fasterrcnn": "regions",
}
# Random changes by the names that torchvision's references give them.
AUGMENTS = {
    "none": BoxAugment(),
    "hflip": BoxAugment(flip=True),
    "ssdlite": BoxAugment(flip=True, iou_crop=True),
    "ssd": BoxAugment(flip=True, iou_crop=True, zoom_out=4.0, photometric=True),
}
DEFAULT_AUGMENT = {"ssdlite": "ssdlite", "ssd": "ssd", "retinanet": "hflip", "fcos": "hflip", "fasterrcnn": "hflip"}
EXPLAINED = 10  # boxes whose score is followed back into a picture
JUDGED, MOST = 2**19, 64  # pixels, and pictures, of a batch where nothing is trained


@dataclass(frozen=True, eq=False)
class Detection(OnData[BoxSplit, BoxSummary]):
    """Object detection on pictures with boxes; the metric is COCO's mean average precision.

    head: what is put on a backbone. augment: the random changes of training; a recipe's ``flip`` and ``crop`` come on top.
    """

    data: BoxData
    head: DetectionHead
    augment: BoxAugment = AUGMENTS["hflip"]
    metric: ClassVar[Metric] = Metric("mAP", "share", higher_is_better=True, by_class="AP")
    cam: ClassVar[Literal["LayerCAM"]] = "LayerCAM"

    @cached_property
    def network(self) -> NetworkSpec:
        return NetworkSpec(self.data.in_chans, self.data.size, self.head)

    @cached_property
    def identity(self) -> str:
        meant = {"head": self.head.to_dict(), "augment": vars(self.augment)}
        return f"detection {self.data.identity} {json.dumps(meant, sort_keys=True)}"

    @property
    def kind(self) -> str:
        """How the head's output is read: a key of ``evaluators.detection.postprocess.SETTINGS``."""
        return KINDS[self.head.name]

    @property
    def validation_batch(self) -> int:
        return min(MOST, max(1, JUDGED // (self.data.size[0] * self.data.size[1])))

    def batches(
        self,
        split: Split,
        *,
        batch_size: int,
        device: torch.device,
        generator: torch.Generator | None = None,
        recipe: Recipe | None = None,
        workers: int = 2,
        limit: int | None = None,
    ) -> Batches:
        """Normalised pictures (B, C, H, W) and their padded targets, changed at random together.

        Raises UsageError for a recipe that mixes pictures, cuts squares out of them, or smooths labels that have no logits.
        """
        augment = None if recipe is None or generator is None else self._changes(recipe)
        pictures = self.data.split(split).part(limit)
        return BoxBatches(
            pictures, self.data, batch_size, device, augment=augment, generator=generator, workers=workers
        )

    def _changes(self, recipe: Recipe) -> BoxAugment:
        refuse_mixing(recipe, "detection")
        if recipe.label_smoothing and self.kind not in ("softmax", "regions"):
            raise UsageError(
                f"training.label_smoothing {recipe.label_smoothing} is for cross-entropy, which the head {self.head.name!r} "
                "does not have; valid: 0"
            )
        flip = self.data.flip if recipe.flip is None else recipe.flip
        values = {**vars(self.augment), "flip": self.augment.flip and flip, "shift": recipe.crop}
        return BoxAugment(**values)

    def loss(self, output: Mapping[str, Any], target: Target, *, smoothing: float = 0.0) -> Tensor:
        """The sum of the losses of the head's paper, over all objects but crowds."""
        anchors_A4, learned = output["anchors"], without_crowds(target)
        if self.kind == "softmax":
            losses = ssd_loss(output, learned, anchors_A4, self.head.box_weights, smoothing=smoothing)
        elif self.kind == "regions":
            losses = faster_rcnn_loss(output, learned, anchors_A4, self.head.box_weights, smoothing=smoothing)
        elif self.kind == "sigmoid":
            losses = retinanet_loss(output, learned, anchors_A4, self.head.box_weights)
        else:
            losses = fcos_loss(output, learned, anchors_A4)
        return torch.stack(list(losses.values())).sum()

    def scorer(self) -> BoxScorer:
        return BoxScorer(self.loss, self.kind, self.data.class_names, self.data.size)

    def explain(self, output: Mapping[str, Tensor], target: Target) -> Explained:
        """The sum of the class logits of the strongest boxes, whatever is marked in the picture."""
        score_B, best_B, label_B = strongest(output, self.kind, EXPLAINED)
        named = zip(label_B.tolist(), best_B.tolist(), strict=True)
        words = (
            f"the {EXPLAINED} strongest boxes, the first of class {self.data.class_names[label]} with {best:.2f}"
            for label, best in named
        )
        return Explained(score_B, tuple(words))

    def dummy_target(self, batch: int) -> Target:
        objects = max(1, max(len(one) for one in self.data.train.objects))
        return {
            "boxes": torch.zeros(batch, objects, 4),
            "labels": torch.zeros(batch, objects, dtype=torch.long),
            "kinds": torch.zeros(batch, objects, dtype=torch.uint8),
            "areas": torch.zeros(batch, objects),
            "scales": torch.ones(batch, 2),
        }

    def describe(self) -> dict[str, Any]:
        """What there is to know of the data, the head, and how detections are made of the output."""
        made = {"kind": self.kind, **SETTINGS[self.kind]}
        return {"task": "detection", **super().describe(), "head": self.head.to_dict(), "postprocess": made}


class DetectionConfig(HeadConfig):
    """Boxes and their classes; judged by mAP. Keys that are none of these are options of the head."""

    name: Literal["detection"] = "detection"
    head: str = Field(default="ssdlite", description="ssdlite, ssd, retinanet, fcos or fasterrcnn")
    augment: Literal["none", "hflip", "ssdlite", "ssd"] | None = Field(
        default=None,
        description="random changes, named as in torchvision's references; None: those of the head's paper",
    )
    scale: float = Field(default=1, ge=1, le=16, description="multi-scale training: largest factor of the size; 1: off")

    @classmethod
    def listed(cls) -> dict[str, Any]:
        return {"metric": Detection.metric.name, "heads": list(KINDS), "data": list(LAYOUTS)}

    def make_head(self, classes: int) -> DetectionHead:
        """The head for so many classes of objects; where it counts the background too, it has one more."""
        if self.head not in KINDS:
            raise unknown("head of a detection that can be trained", self.head, KINDS)
        background = int(cast("type[DetectionHead]", HEADS[self.head]).background)
        made = head_from_dict({"name": self.head, "classes": classes + background, **self.options})
        return cast("DetectionHead", made)

    def build(self, data: Any, *, seed: int) -> Detection:
        check_installed()  # before a candidate is trained that could not be judged
        found = load_boxes(data, seed=seed)
        augment = AUGMENTS[self.augment or DEFAULT_AUGMENT[self.head]]
        return Detection(found, self.make_head(found.num_classes), BoxAugment(**{**vars(augment), "scale": self.scale}))


TASKS.register("detection", DetectionConfig)
