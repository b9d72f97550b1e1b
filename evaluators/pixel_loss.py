"""Losses of segmentation: cross-entropy with weights of classes, and soft Dice; pixels without a label count nowhere.

Dice: Milletari et al., V-Net, 2016, of all images of a batch together and the mean over the classes of the target, as nnU-Net
computes it (Isensee et al., 2021). Weights: `median`, median frequency balancing (Eigen and Fergus, 2015), `enet`, 1 / ln(1.02
+ p) of the share p of a class (Paszke et al., ENet, 2016). Legend: B batch, H and W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from evaluators.data.masks.codes import IGNORED
from spaces.errors import UsageError

Weighing = Literal["median", "enet"]
WEIGHINGS: tuple[Weighing, ...] = get_args(Weighing)
SMOOTH = 1.0  # pixels added to both sides of a Dice quotient


def class_weights(how: Weighing | Sequence[float] | None, pixels: Sequence[int]) -> tuple[float, ...] | None:
    """The weight of every class in the loss, by its training pixels; None weighs all pixels alike.

    A class without training pixels has weight 1: nothing is known of how frequent it is. Raises UsageError for another number
    of weights than of classes.
    """
    if how is None:
        return None
    if not isinstance(how, str):
        if len(how) != len(pixels):
            raise UsageError(f"task.class_weights are {len(how)}; valid: {len(pixels)}, one of each class")
        return tuple(map(float, how))
    pixels_K = torch.tensor(pixels, dtype=torch.float64)
    there_K = pixels_K > 0
    if not there_K.any():
        raise UsageError("task.class_weights: no training pixel has a label")
    share_K = pixels_K / pixels_K.sum()
    weight_K = share_K[there_K].median() / share_K if how == "median" else 1 / torch.log(1.02 + share_K)
    return tuple(round(float(value), 6) for value in torch.where(there_K, weight_K, 1.0))


def pixel_cross_entropy(logits_BKHW: Tensor, target_BHW: Tensor, weight_K: Tensor | None, smoothing: float) -> Tensor:
    """The mean cross-entropy of the labelled pixels, weighted by class; 0 where none is labelled, which torch makes NaN."""
    labels_BHW = target_BHW.long()
    total = cross_entropy(
        logits_BKHW, labels_BHW, weight_K, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing
    )
    labelled_BHW = labels_BHW != IGNORED
    if weight_K is None:
        return total / labelled_BHW.sum().clamp(min=1)
    weight_BHW = weight_K[labels_BHW.masked_fill(~labelled_BHW, 0)] * labelled_BHW
    return total / weight_BHW.sum().clamp(min=torch.finfo(weight_BHW.dtype).tiny)


def dice_loss(logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
    """1 - the mean soft Dice over the classes that are in the target; 0 where no pixel is labelled."""
    K = logits_BKHW.shape[1]
    labels_BHW = target_BHW.long()
    labelled_BHW = labels_BHW != IGNORED
    target_BKHW = one_hot(labels_BHW.masked_fill(~labelled_BHW, 0), K).movedim(3, 1) * labelled_BHW[:, None]
    share_BKHW = logits_BKHW.softmax(1) * labelled_BHW[:, None]
    both_K = (share_BKHW * target_BKHW).sum((0, 2, 3))
    target_K = target_BKHW.sum((0, 2, 3))
    dice_K = (2 * both_K + SMOOTH) / (share_BKHW.sum((0, 2, 3)) + target_K + SMOOTH)
    there_K = target_K > 0
    return ((1 - dice_K) * there_K).sum() / there_K.sum().clamp(min=1)
