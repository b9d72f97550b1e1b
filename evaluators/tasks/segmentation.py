"""Semantic segmentation: a class for every pixel, cross-entropy with Dice as an option, mean intersection over union.

Legend: B batch, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from evaluators.confusion import SegmentationScorer, explained_classes
from evaluators.data.masks.batches import MaskBatches
from evaluators.data.masks.codes import IGNORED
from evaluators.data.masks.joint import Joint
from evaluators.data.masks.load import list_mask_datasets, load_masks
from evaluators.data.masks.splits import MaskData, Masks, part
from evaluators.data.masks.summary import MaskSummary
from evaluators.pixel_loss import Weighing, class_weights, dice_loss, pixel_cross_entropy
from evaluators.recipe import Recipe
from evaluators.tasks.base import TASKS, Batches, Explained, Metric, Split
from evaluators.tasks.shared import HeadConfig, OnData, refuse_mixing
from spaces.errors import UsageError, unknown
from spaces.heads.base import DenseHead, Head, head_from_dict
from spaces.network import NetworkSpec

AUXILIARY = 0.5  # weight of an auxiliary head's loss, as in torchvision's references
JUDGED = 2**19  # pixels of a batch where nothing is trained
HEADS = ("deeplabv3", "lraspp", "fcn", "unet", "fpn", "whole")


@dataclass(frozen=True)
class PixelLoss:
    """What is minimised: cross-entropy, with ``weights`` of classes, plus ``dice`` times the Dice loss."""

    weights: tuple[float, ...] | None = None
    dice: float = 0.0

    def __call__(self, logits_BKHW: Tensor, target_BHW: Tensor, smoothing: float) -> Tensor:
        logits_BKHW = logits_BKHW.float().contiguous()  # the softmax of channels last is half as fast on the CPU
        weight_K = None if self.weights is None else torch.tensor(self.weights, device=logits_BKHW.device)
        loss = pixel_cross_entropy(logits_BKHW, target_BHW, weight_K, smoothing)
        return loss + self.dice * dice_loss(logits_BKHW, target_BHW) if self.dice else loss


@dataclass(frozen=True, eq=False)
class Segmentation(OnData[Masks, MaskSummary]):
    """Semantic segmentation on pictures with masks; the metric is the mean intersection over union.

    head: what is put on a backbone. scale: least and largest factor of the size in training; None: pictures keep it.
    """

    data: MaskData
    head: Head
    criterion: PixelLoss = field(default_factory=PixelLoss)
    scale: tuple[float, float] | None = None
    metric: ClassVar[Metric] = Metric("mIoU", "share", higher_is_better=True, by_class="IoU")
    cam: ClassVar[Literal["Grad-CAM"]] = "Grad-CAM"

    @cached_property
    def network(self) -> NetworkSpec:
        return NetworkSpec(self.data.in_chans, self.data.size, self.head)

    @cached_property
    def identity(self) -> str:
        head = self.head.to_dict() if isinstance(self.head, DenseHead) else repr(self.head)
        meant = {"head": head, "weights": self.criterion.weights, "dice": self.criterion.dice, "scale": self.scale}
        return f"segmentation {self.data.identity} {json.dumps(meant, sort_keys=True)}"

    @property
    def validation_batch(self) -> int:
        return max(1, JUDGED // (self.data.size[0] * self.data.size[1]))

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
        """Normalised pictures (B, C, H, W) and their classes (B, H, W) uint8, changed at random together by the recipe.

        Raises UsageError for a recipe that mixes pictures or cuts squares out of them.
        """
        joint = None if recipe is None or generator is None else self._joint(recipe)
        images = part(self.data.split(split), limit)
        return MaskBatches(images, self.data, batch_size, device, joint=joint, generator=generator, workers=workers)

    def _joint(self, recipe: Recipe) -> Joint:
        refuse_mixing(recipe, "segmentation")
        return Joint(self.data.flip if recipe.flip is None else recipe.flip, recipe.crop, self.scale)

    def loss(self, output: Any, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """The loss of logits (B, K, H, W) with classes (B, H, W); a pair is the logits and those of an auxiliary head."""
        if isinstance(output, tuple):
            logits, auxiliary = output
            return self.criterion(logits, target, smoothing) + AUXILIARY * self.criterion(auxiliary, target, smoothing)
        return self.criterion(output, target, smoothing)

    def scorer(self) -> SegmentationScorer:
        return SegmentationScorer(self.data.class_names)

    def explain(self, output: Tensor, target: Tensor) -> Explained:
        """The sum of a class's logits over the pixels that are predicted as it (Vinogradova et al., arXiv:2002.11434).

        The class is the second largest one of each mask: in most pictures the largest is what is around the things.
        """
        class_B = explained_classes(target, output.shape[1])
        predicted_BHW = output.argmax(1) == class_B[:, None, None]
        labelled_BHW, own_BHW = target != IGNORED, target == class_B[:, None, None]
        both_B = (predicted_BHW & own_BHW).sum((1, 2))
        either_B = ((predicted_BHW & labelled_BHW) | own_BHW).sum((1, 2))
        logits_BHW = output[torch.arange(len(output), device=output.device), class_B]
        iou = (both_B / either_B.clamp(min=1)).tolist()
        found = zip(class_B.tolist(), iou, predicted_BHW.flatten(1).any(1).tolist(), strict=True)
        words = (
            f"class {self.data.class_names[index]}, "
            + (f"IoU {value:.2f} in this picture" if anywhere else "which is predicted nowhere")
            for index, value, anywhere in found
        )
        return Explained((logits_BHW * predicted_BHW).sum((1, 2)), tuple(words))

    def dummy_target(self, batch: int) -> Tensor:
        return torch.zeros(batch, *self.data.size, dtype=torch.uint8)

    def describe(self) -> dict[str, Any]:
        """What there is to know of the data, and the head."""
        head = {"head": self.head.to_dict()} if isinstance(self.head, DenseHead) else {}
        return {"task": "segmentation", **super().describe(), **head}


Weight = Annotated[float, Field(ge=0, le=10**6)]
Factor = Annotated[float, Field(gt=0, le=16)]


class SegmentationConfig(HeadConfig):
    """A class for every pixel; judged by mIoU. Keys that are none of these are options of the head."""

    name: Literal["segmentation"] = "segmentation"
    head: str = Field(
        default="deeplabv3",
        description="deeplabv3, lraspp, fcn, unet or fpn; whole: the backbone is a whole network of your own",
    )
    class_weights: Weighing | tuple[Weight, ...] | None = Field(
        default=None, description="of classes in the loss: median, enet, or one number for each"
    )
    dice: float = Field(default=0, ge=0, le=1000, description="weight of the Dice loss beside cross-entropy")
    scale: tuple[Factor, Factor] | None = Field(
        default=None, description="least and largest factor of the size of training pictures, at random; None: 1"
    )

    @model_validator(mode="after")
    def _scale_in_order(self) -> SegmentationConfig:
        if self.scale is not None and self.scale[0] > self.scale[1]:
            raise UsageError(f"task.scale {list(self.scale)}; valid: [least, largest]")
        return self

    @classmethod
    def listed(cls) -> dict[str, Any]:
        return {"metric": Segmentation.metric.name, "heads": list(HEADS), "data": list_mask_datasets()}

    def make_head(self, classes: int) -> DenseHead:
        if self.head not in HEADS:
            raise unknown("head of a segmentation", self.head, HEADS)
        return head_from_dict({"name": self.head, "classes": classes, **self.options})

    def build(self, data: Any, *, seed: int) -> Segmentation:
        found = load_masks(data, seed=seed)
        criterion = PixelLoss(class_weights(self.class_weights, found.pixels[:-1]), self.dice)
        return Segmentation(found, self.make_head(found.num_classes), criterion, self.scale)


TASKS.register("segmentation", SegmentationConfig)
