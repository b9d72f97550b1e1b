"""How good a segmentation is: a confusion matrix of pixels on the device, and what follows from it.

Intersection over union (Jaccard) of a class is the number of pixels that are the class in target and prediction over that of
those which are it in either (Everingham et al., The PASCAL Visual Object Classes Challenge, 2010). Its mean is over the classes
that are there in target or prediction, as torchvision's and mmsegmentation's means are; a class that is in neither says
nothing. Pixels without a label count nowhere. Legend: B batch, H and W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from evaluators.data.masks.codes import IGNORED
from evaluators.outcomes import EvaluationError, Metrics


@dataclass(frozen=True, eq=False)
class Overlap:
    """What a confusion matrix comes to. iou_K: NaN for a class that is in neither target nor prediction."""

    iou_K: Tensor
    mean_iou: float
    pixel_accuracy: float


def confusion_matrix(prediction_BHW: Tensor, target_BHW: Tensor, classes: int) -> Tensor:
    """(K, K) int64: pixels by class of the target (rows) and of the prediction (columns), those without a label left out."""
    labelled_BHW = target_BHW != IGNORED
    pair_P = target_BHW[labelled_BHW].long() * classes + prediction_BHW[labelled_BHW].long()
    return torch.bincount(pair_P, minlength=classes * classes).view(classes, classes)


def overlap(confusion_KK: Tensor) -> Overlap:
    """Per-class IoU, its mean over the classes in target or prediction, and the share of pixels that are right.

    Raises EvaluationError where no pixel has a label.
    """
    counts_KK = confusion_KK.double().cpu()
    both_K, total = counts_KK.diagonal(), float(counts_KK.sum())
    if not total:
        raise EvaluationError("no pixel of the validation split has a label")
    either_K = counts_KK.sum(0) + counts_KK.sum(1) - both_K
    iou_K = torch.where(either_K > 0, both_K / either_K.clamp(min=1), torch.nan)
    return Overlap(iou_K, float(iou_K.nanmean()), float(both_K.sum()) / total)


def explained_classes(target_BHW: Tensor, classes: int) -> Tensor:
    """(B,): the class with the second most pixels of each mask, or the one class of a mask that has one; 0 without labels."""
    counts_BK = torch.stack([torch.bincount(one[one != IGNORED].long(), minlength=classes) for one in target_BHW])
    most_B2 = counts_BK.topk(2, dim=1).indices
    second_B = counts_BK.gather(1, most_B2[:, 1:])[:, 0] > 0
    return torch.where(second_B, most_B2[:, 1], most_B2[:, 0])


class SegmentationScorer:
    """Adds up the confusion matrix of a split and its cross-entropy, without waiting for the device."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self._confusion_KK: Tensor | int = 0
        self._loss: Tensor | float = 0.0

    def update(self, output: Tensor, target: Tensor) -> None:
        """Logits (B, K, H, W) and classes (B, H, W) uint8, IGNORED where there is no label."""
        logits_BKHW = output.float()
        # the largest channel of each pixel: the first of several, as argmax has it
        found_KK = confusion_matrix(logits_BKHW.argmax(1), target, logits_BKHW.shape[1])
        self._confusion_KK = self._confusion_KK + found_KK
        self._loss = self._loss + cross_entropy(logits_BKHW, target.long(), ignore_index=IGNORED, reduction="sum")

    def compute(self) -> Metrics:
        """``mIoU`` and ``pixel_accuracy`` in [0, 1], ``loss``, the mean over pixels, and ``IoU CLASS`` of every class there is.

        Raises EvaluationError where an output was not finite, and where no pixel has a label.
        """
        loss = float(self._loss)
        if not abs(loss) < float("inf"):
            raise EvaluationError(f"the validation loss became {loss}")
        confusion_KK = torch.as_tensor(self._confusion_KK)
        found = overlap(confusion_KK)
        named = zip(self.class_names, found.iou_K.tolist(), strict=True)
        return {
            "mIoU": found.mean_iou,
            "pixel_accuracy": found.pixel_accuracy,
            "loss": loss / float(confusion_KK.sum()),
            **{f"IoU {name}": value for name, value in named if value == value},
        }
