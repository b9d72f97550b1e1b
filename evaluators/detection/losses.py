"""Losses of one-stage detectors on the raw output of their network, with torchvision's constants.

An output is a dict: ``boxes`` (B, A, 4) raw, ``scores`` (B, A, K) logits, FCOS also ``centerness`` (B, A, 1). A target is a
dict of padded tensors: ``boxes`` (B, M, 4) in pixels and ``labels`` (B, M), -1 where there is no object; crowds are left out.
Legend: B batch, M objects at most, A anchors, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, smooth_l1_loss

from evaluators.detection.matching import BETWEEN, match_fcos, match_retinanet, match_ssd

THIN = 1e-2  # pixels: what a box without width or height is taken for
TINY = 1e-7  # what keeps a division from zero
Weights = tuple[float, float, float, float]
Losses = dict[str, Tensor]


def ssd_loss(
    output: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    anchors_A4: Tensor,
    weights: Weights,
    *,
    smoothing: float = 0.0,
    negatives: float = 3.0,
) -> Losses:
    """Smooth L1 of matched boxes, and cross-entropy of these and of the hardest background, three for one.

    Class 0 of K is background. Both are sums over the batch by its matched anchors (Liu et al., SSD, 2016, eq. 1 to 3).
    """
    scores_BAK, boxes_BA4 = output["scores"].float(), output["boxes"].float()
    labels_BM, valid_BM = target["labels"], target["labels"] >= 0
    match_BA = match_ssd(target["boxes"], valid_BM, anchors_A4)
    found_BA = match_BA >= 0
    matched_BA4, label_BA = _matched(target["boxes"], labels_BM, match_BA)
    wanted_BA = torch.where(found_BA, label_BA + 1, 0)
    wanted_BA4 = encode(matched_BA4, anchors_A4, weights)
    box_BA = smooth_l1_loss(boxes_BA4, wanted_BA4, reduction="none").sum(-1)
    class_BA = cross_entropy(
        scores_BAK.flatten(0, 1), wanted_BA.flatten(), reduction="none", label_smoothing=smoothing
    ).view(wanted_BA.shape)
    hardness_BA = class_BA.detach().masked_fill(found_BA, -float("inf"))
    rank_BA = hardness_BA.argsort(dim=1, descending=True).argsort(dim=1)
    hard_BA = (rank_BA < negatives * found_BA.sum(1, keepdim=True)) & ~found_BA
    count = found_BA.sum().clamp_min(1)
    return {
        "classification": torch.where(found_BA | hard_BA, class_BA, 0.0).sum() / count,
        "boxes": torch.where(found_BA, box_BA, 0.0).sum() / count,
    }


def retinanet_loss(
    output: Mapping[str, Tensor], target: Mapping[str, Tensor], anchors_A4: Tensor, weights: Weights
) -> Losses:
    """Focal loss of all anchors but those in between, and L1 of matched boxes; by the matched anchors of each image.

    Lin et al., Focal Loss for Dense Object Detection, 2017: alpha .25, gamma 2.
    """
    from torchvision.ops import sigmoid_focal_loss  # here because it takes seconds to import

    scores_BAK, boxes_BA4 = output["scores"].float(), output["boxes"].float()
    match_BA = match_retinanet(target["boxes"], target["labels"] >= 0, anchors_A4)
    found_BA = match_BA >= 0
    matched_BA4, label_BA = _matched(target["boxes"], target["labels"], match_BA)
    wanted_BAK = _one_hot(label_BA, found_BA, scores_BAK)
    focal_BA = sigmoid_focal_loss(scores_BAK, wanted_BAK, reduction="none").sum(-1)
    box_BA = (boxes_BA4 - encode(matched_BA4, anchors_A4, weights)).abs().sum(-1)
    count_B = found_BA.sum(1).clamp_min(1)
    return {
        "classification": (torch.where(match_BA != BETWEEN, focal_BA, 0.0).sum(1) / count_B).mean(),
        "boxes": (torch.where(found_BA, box_BA, 0.0).sum(1) / count_B).mean(),
    }


def fcos_loss(output: Mapping[str, Tensor], target: Mapping[str, Tensor], anchors_A4: Tensor) -> Losses:
    """Focal loss of all locations, generalised IoU and centerness of matched ones, divided by the batch's matched locations.

    Tian et al., FCOS: A Simple and Strong Anchor-free Object Detector, 2020.
    """
    from torchvision.ops import sigmoid_focal_loss

    scores_BAK, boxes_BA4 = output["scores"].float(), output["boxes"].float()
    match_BA = match_fcos(target["boxes"], target["labels"] >= 0, anchors_A4)
    found_BA = match_BA >= 0
    matched_BA4, label_BA = _matched(target["boxes"], target["labels"], match_BA)
    side_A1 = (anchors_A4[:, 2] - anchors_A4[:, 0])[:, None]
    centre_A2 = (anchors_A4[:, :2] + anchors_A4[:, 2:]) / 2
    sides_BA4 = boxes_BA4 * side_A1
    box_BA4 = torch.cat([centre_A2 - sides_BA4[..., :2], centre_A2 + sides_BA4[..., 2:]], dim=-1)
    # locations without an object get one that gives no loss and no gradient
    safe_BA4 = torch.where(found_BA[..., None], matched_BA4, box_BA4.detach())
    giou_BA = generalised_iou_loss(box_BA4, safe_BA4)
    low_BA2, high_BA2 = centre_A2 - safe_BA4[..., :2], safe_BA4[..., 2:] - centre_A2
    ratio_BA2 = torch.minimum(low_BA2, high_BA2) / torch.maximum(low_BA2, high_BA2).clamp_min(1e-9)
    centred_BA = ratio_BA2.prod(-1).clamp(0, 1).sqrt()
    centerness_BA = binary_cross_entropy_with_logits(
        output["centerness"].float().squeeze(-1), centred_BA, reduction="none"
    )
    focal_BAK = sigmoid_focal_loss(scores_BAK, _one_hot(label_BA, found_BA, scores_BAK), reduction="none")
    count = found_BA.sum().clamp_min(1)
    return {
        "classification": focal_BAK.sum() / count,
        "boxes": torch.where(found_BA, giou_BA, 0.0).sum() / count,
        "centerness": torch.where(found_BA, centerness_BA, 0.0).sum() / count,
    }


def generalised_iou_loss(one_BA4: Tensor, other_BA4: Tensor) -> Tensor:
    """(B, A): 1 - IoU and the share of the box around both that neither fills (Rezatofighi et al., 2019)."""
    low_BA2, high_BA2 = torch.maximum(one_BA4, other_BA4)[..., :2], torch.minimum(one_BA4, other_BA4)[..., 2:]
    side_BA2 = high_BA2 - low_BA2
    shared_BA = torch.where((side_BA2 > 0).all(-1), side_BA2.prod(-1), 0.0)
    areas = [(boxes_BA4[..., 2:] - boxes_BA4[..., :2]).prod(-1) for boxes_BA4 in (one_BA4, other_BA4)]
    union_BA = areas[0] + areas[1] - shared_BA
    left_BA2, right_BA2 = torch.minimum(one_BA4, other_BA4)[..., :2], torch.maximum(one_BA4, other_BA4)[..., 2:]
    around_BA = (right_BA2 - left_BA2).prod(-1)
    return 1 - shared_BA / (union_BA + TINY) + (around_BA - union_BA) / (around_BA + TINY)


def encode(boxes_BA4: Tensor, anchors_A4: Tensor, weights: Weights) -> Tensor:
    """(B, A, 4): centres and sizes in units of the anchors (Ren et al., Faster R-CNN, 2015, eq. 2), times ``weights``."""
    side_A2 = anchors_A4[..., 2:] - anchors_A4[..., :2]
    side_BA2 = (boxes_BA4[..., 2:] - boxes_BA4[..., :2]).clamp_min(THIN)
    shift_BA2 = (boxes_BA4[..., :2] + 0.5 * side_BA2 - anchors_A4[..., :2] - 0.5 * side_A2) / side_A2
    scale_BA2 = torch.log(side_BA2 / side_A2)
    return torch.cat([shift_BA2, scale_BA2], dim=-1) * boxes_BA4.new_tensor(weights)


def _matched(boxes_BM4: Tensor, labels_BM: Tensor, match_BA: Tensor) -> tuple[Tensor, Tensor]:
    """The box (B, A, 4) and the label (B, A) of each anchor's object; those of some object where there is none."""
    at_BA = match_BA.clamp_min(0)
    return boxes_BM4.gather(1, at_BA[..., None].expand(-1, -1, 4)), labels_BM.gather(1, at_BA)


def _one_hot(label_BA: Tensor, found_BA: Tensor, like_BAK: Tensor) -> Tensor:
    """(B, A, K), zero where nothing is found."""
    classes_K = torch.arange(like_BAK.shape[-1], device=like_BAK.device)
    return (torch.where(found_BA, label_BA, -1)[..., None] == classes_K).to(like_BAK.dtype)
