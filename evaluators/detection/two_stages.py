"""Losses of Faster R-CNN (Ren et al., 2015), with torchvision's constants: of the proposals, and of sampled regions.

Output and targets are those of ``evaluators.detection.losses``, the output besides with ``proposals`` (B, R, 4), zeros where
there are less, and ``regions``, whose ``read`` tells logits and raw boxes of given regions.
Legend: B batch, M objects at most, A anchors, R regions, S sampled ones, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, smooth_l1_loss

from evaluators.detection.losses import Losses, Weights, encode
from evaluators.detection.matching import BETWEEN, match_regions, match_retinanet

PLAIN: Weights = (1.0, 1.0, 1.0, 1.0)  # of the proposals' box coder
BETA = 1 / 9  # where the smooth L1 loss turns linear
PROPOSALS, REGIONS = 256, 512  # sampled of an image
POSITIVE = {PROPOSALS: 128, REGIONS: 128}  # at most so many of these have an object


def faster_rcnn_loss(
    output: Mapping[str, Any],
    target: Mapping[str, Tensor],
    anchors_A4: Tensor,
    weights: Weights,
    *,
    smoothing: float = 0.0,
) -> Losses:
    """Objectness and boxes of sampled anchors; classes and boxes of sampled regions, those of the objects among them.

    Class 0 of K is background. Samples are drawn by torch's generator while gradients are computed, else always alike.
    """
    valid_BM, boxes_BM4 = target["labels"] >= 0, target["boxes"]
    match_BA = match_retinanet(boxes_BM4, valid_BM, anchors_A4, least=0.7, background=0.3)
    found_BA = match_BA >= 0
    taken_BA = sample(found_BA, ~found_BA & (match_BA != BETWEEN), PROPOSALS)
    scores_BA, raw_BA4 = output["scores"].float().squeeze(-1), output["boxes"].float()
    wanted_BA4 = encode(_of_objects(boxes_BM4, match_BA), anchors_A4, PLAIN)
    objectness_BA = binary_cross_entropy_with_logits(scores_BA, found_BA.float(), reduction="none")
    count = taken_BA.sum().clamp_min(1)
    losses = {
        "objectness": torch.where(taken_BA, objectness_BA, 0.0).sum() / count,
        "proposals": _box_loss(raw_BA4, wanted_BA4, taken_BA & found_BA) / count,
    }

    regions_BR4 = torch.cat((output["proposals"], boxes_BM4.to(output["proposals"].dtype)), dim=1)
    there_BR = torch.cat((_there(output["proposals"]), valid_BM), dim=1)
    match_BR = match_regions(boxes_BM4, valid_BM, regions_BR4)
    found_BR = (match_BR >= 0) & there_BR
    taken_BR = sample(found_BR, ~found_BR & there_BR, REGIONS)
    # the sampled ones first; rows beyond them are read too, since shapes are fixed, and count nothing
    place_BS = taken_BR.byte().topk(min(REGIONS, taken_BR.shape[1]), dim=1).indices
    regions_BS4 = regions_BR4.gather(1, place_BS[..., None].expand(-1, -1, 4))
    taken_BS, match_BS = taken_BR.gather(1, place_BS), match_BR.gather(1, place_BS)
    found_BS = found_BR.gather(1, place_BS)
    scores_BSK, raw_BS4K = output["regions"].read(regions_BS4)
    label_BS = torch.where(found_BS, target["labels"].gather(1, match_BS.clamp_min(0)) + 1, 0)
    class_BS = cross_entropy(
        scores_BSK.float().flatten(0, 1), label_BS.flatten(), reduction="none", label_smoothing=smoothing
    ).view(label_BS.shape)
    of_class_BS4 = (
        raw_BS4K.float().unflatten(2, (-1, 4)).gather(2, label_BS[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
    )
    wanted_BS4 = encode(_of_objects(boxes_BM4, match_BS), regions_BS4, weights)
    count = taken_BS.sum().clamp_min(1)
    losses["classification"] = torch.where(taken_BS, class_BS, 0.0).sum() / count
    losses["boxes"] = _box_loss(of_class_BS4, wanted_BS4, taken_BS & found_BS) / count
    return losses


def sample(positive_BA: Tensor, negative_BA: Tensor, most: int) -> Tensor:
    """(B, A): ``most`` of each image at random, of which at most ``POSITIVE`` are positive, as many as there are."""
    alike = not torch.is_grad_enabled() and not positive_BA.is_meta
    generator = torch.Generator(positive_BA.device).manual_seed(0) if alike else None
    key_BA = torch.rand(positive_BA.shape, device=positive_BA.device, generator=generator)
    first_BA = _rank(key_BA, positive_BA) < POSITIVE[most]
    taken_BA = positive_BA & first_BA
    room_B1 = most - taken_BA.sum(1, keepdim=True)
    return taken_BA | (negative_BA & (_rank(key_BA, negative_BA) < room_B1))


def _rank(key_BA: Tensor, among_BA: Tensor) -> Tensor:
    """The place of each among those of its image, by rising key; the others come after them."""
    return key_BA.masked_fill(~among_BA, 2.0).argsort(1).argsort(1)


def _there(boxes_BR4: Tensor) -> Tensor:
    """(B, R): which regions are any."""
    return (boxes_BR4[..., 2:] > boxes_BR4[..., :2]).all(-1)


def _of_objects(boxes_BM4: Tensor, match_BA: Tensor) -> Tensor:
    """The box (B, A, 4) of each one's object; that of some object where there is none."""
    return boxes_BM4.gather(1, match_BA.clamp_min(0)[..., None].expand(-1, -1, 4))


def _box_loss(raw_BA4: Tensor, wanted_BA4: Tensor, own_BA: Tensor) -> Tensor:
    """The sum of the smooth L1 loss over ``own``."""
    loss_BA = smooth_l1_loss(
        raw_BA4, torch.where(own_BA[..., None], wanted_BA4, raw_BA4.detach()), reduction="none", beta=BETA
    )
    return loss_BA.sum(-1).masked_fill(~own_BA, 0.0).sum()
