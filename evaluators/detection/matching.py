"""Which object each anchor is to find, for a whole batch at once.

Targets are padded: a label of -1 is no object. Legend: B batch, M objects at most, A anchors. Boxes are (x1, y1, x2, y2).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

NOTHING, BETWEEN = -1, -2  # matched to no object: background; too near to one to be background
PAIRS = 2**24  # of objects and anchors that are compared at once


def by_parts(match: Callable[[Tensor, Tensor], Tensor], boxes_BM4: Tensor, valid_BM: Tensor, anchors: int) -> Tensor:
    """``match`` over parts of a batch that are small enough to be held: (B, A)."""
    B, M = valid_BM.shape
    step = max(1, PAIRS // max(1, M * anchors))
    parts = [match(boxes_BM4[at : at + step], valid_BM[at : at + step]) for at in range(0, B, step)]
    return torch.cat(parts)


def pair_iou(boxes_BM4: Tensor, valid_BM: Tensor, anchors_A4: Tensor) -> Tensor:
    """(B, M, A) intersection over union; -1 where there is no object. Anchors may also be (B, 1, A, 4), of each image."""
    low_BMA2 = torch.maximum(boxes_BM4[:, :, None, :2], anchors_A4[..., :2])
    high_BMA2 = torch.minimum(boxes_BM4[:, :, None, 2:], anchors_A4[..., 2:])
    shared_BMA = (high_BMA2 - low_BMA2).clamp_min(0).prod(-1)
    areas_BM1 = (boxes_BM4[..., 2:] - boxes_BM4[..., :2]).prod(-1)[:, :, None]
    areas_A = (anchors_A4[..., 2:] - anchors_A4[..., :2]).prod(-1)
    union_BMA = areas_BM1 + areas_A - shared_BMA
    return torch.where(valid_BM[:, :, None], shared_BMA / union_BMA, -1.0)


def match_ssd(boxes_BM4: Tensor, valid_BM: Tensor, anchors_A4: Tensor, least: float = 0.5) -> Tensor:
    """(B, A) the object of each anchor, or NOTHING: the one it overlaps most, from ``least`` on; and each object gets the
    anchor that overlaps it most, whatever that is (Liu et al., SSD, 2016, section 2.2).
    """
    A = len(anchors_A4)

    def match(boxes_bM4: Tensor, valid_bM: Tensor) -> Tensor:
        iou_bMA = pair_iou(boxes_bM4, valid_bM, anchors_A4)
        best_bA, match_bA = iou_bMA.max(dim=1)
        match_bA = torch.where(best_bA >= least, match_bA, NOTHING)
        places_bM = torch.where(valid_bM, iou_bMA.argmax(dim=2), A)  # one anchor more takes what is no object
        objects_bM = torch.arange(valid_bM.shape[1], device=boxes_bM4.device).expand(valid_bM.shape)
        own_bA1 = torch.full((len(boxes_bM4), A + 1), NOTHING, device=boxes_bM4.device)
        own_bA = own_bA1.scatter_reduce(1, places_bM, objects_bM, "amax")[:, :A]
        return torch.where(own_bA >= 0, own_bA, match_bA)

    return by_parts(match, boxes_BM4, valid_BM, A)


def match_retinanet(
    boxes_BM4: Tensor, valid_BM: Tensor, anchors_A4: Tensor, least: float = 0.5, background: float = 0.4
) -> Tensor:
    """(B, A) the object of each anchor, NOTHING below an overlap of ``background``, or BETWEEN.

    The anchors that overlap an object most are kept, however little that is (Lin et al., Focal Loss for Dense Object Detection,
    2017, section 4).
    """

    def match(boxes_bM4: Tensor, valid_bM: Tensor) -> Tensor:
        iou_bMA = pair_iou(boxes_bM4, valid_bM, anchors_A4)
        best_bA, nearest_bA = iou_bMA.max(dim=1)
        match_bA = torch.where(best_bA >= least, nearest_bA, BETWEEN)
        match_bA = torch.where(best_bA < background, NOTHING, match_bA)
        most_bM1 = iou_bMA.amax(dim=2, keepdim=True)
        kept_bA = ((iou_bMA == most_bM1) & (most_bM1 > 0)).any(dim=1)
        return torch.where(kept_bA, nearest_bA, match_bA)

    return by_parts(match, boxes_BM4, valid_BM, len(anchors_A4))


def match_regions(boxes_BM4: Tensor, valid_BM: Tensor, regions_BR4: Tensor, least: float = 0.5) -> Tensor:
    """(B, R) the object that each region of an image overlaps most, from ``least`` on, or NOTHING (Girshick, Fast R-CNN, 2015,
    section 2.3).
    """
    best_BR, match_BR = pair_iou(boxes_BM4, valid_BM, regions_BR4[:, None]).max(dim=1)
    return torch.where(best_BR >= least, match_BR, NOTHING)


def match_fcos(boxes_BM4: Tensor, valid_BM: Tensor, anchors_A4: Tensor, radius: float = 1.5) -> Tensor:
    """(B, A) the object of each location, or NOTHING: the smallest one that the location lies in, near its centre, and whose
    farthest side is as far away as the location's level is for (Tian et al., FCOS, 2019, section 3.2; centre sampling).

    ``anchors_A4``: squares around each location, whose side is the stride of its level.
    """
    centre_A2 = (anchors_A4[:, :2] + anchors_A4[:, 2:]) / 2
    side_A = anchors_A4[:, 2] - anchors_A4[:, 0]
    lower_A = torch.where(side_A == side_A.min(), 0.0, side_A * 4)
    upper_A = torch.where(side_A == side_A.max(), float("inf"), side_A * 8)

    def match(boxes_bM4: Tensor, valid_bM: Tensor) -> Tensor:
        middle_bM2 = (boxes_bM4[..., :2] + boxes_bM4[..., 2:]) / 2
        near_bMA = (centre_A2 - middle_bM2[:, :, None]).abs().amax(-1) < radius * side_A
        sides_bMA4 = torch.cat([centre_A2 - boxes_bM4[:, :, None, :2], boxes_bM4[:, :, None, 2:] - centre_A2], dim=-1)
        inside_bMA = sides_bMA4.amin(-1) > 0
        far_bMA = sides_bMA4.amax(-1)
        fits_bMA = near_bMA & inside_bMA & (far_bMA > lower_A) & (far_bMA < upper_A) & valid_bM[:, :, None]
        areas_bM1 = (boxes_bM4[..., 2:] - boxes_bM4[..., :2]).prod(-1)[:, :, None]
        smallest_bA, match_bA = torch.where(fits_bMA, areas_bM1, float("inf")).min(dim=1)
        return torch.where(smallest_bA < float("inf"), match_bA, NOTHING)

    return by_parts(match, boxes_BM4, valid_BM, len(anchors_A4))
