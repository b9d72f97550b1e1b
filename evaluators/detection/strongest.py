"""The strongest boxes of a detection network's raw output, with a gradient.

Legend: B batch, A anchors, K classes, N boxes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def strongest(output: Mapping[str, Tensor], kind: str, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of the class logits of the ``count`` strongest boxes of each picture (B,), and score and label of the first.

    Of ``kind`` regions: ``class_scores`` (B, R, K) of the ``proposals``.
    ``output``: ``scores`` (B, A, K) and, for ``kind`` centerness, ``centerness`` (B, A, 1), as a network puts them out.
    ``kind``, a key of ``evaluators.detection.postprocess.SETTINGS``, says how strong a box is. Labels count from 0 without the
    background. Overlapping boxes are not suppressed, so several of these may be of one object.
    """
    logits_BAK = output["class_scores" if kind == "regions" else "scores"]
    if kind == "regions":
        regions_BR4 = output["proposals"]
        there_BR1 = (regions_BR4[..., 2:] > regions_BR4[..., :2]).all(-1, keepdim=True)
        scores_BAK, logits_BAK = logits_BAK.softmax(2)[..., 1:] * there_BR1, logits_BAK[..., 1:]
    elif kind == "softmax":
        scores_BAK, logits_BAK = logits_BAK.softmax(2)[..., 1:], logits_BAK[..., 1:]
    else:
        scores_BAK = logits_BAK.sigmoid()
        if kind == "centerness":
            scores_BAK = (scores_BAK * output["centerness"].sigmoid()).sqrt()
    best_BN, place_BN = scores_BAK.detach().flatten(1).topk(min(count, scores_BAK[0].numel()), dim=1)
    summed_B = logits_BAK.flatten(1).gather(1, place_BN).sum(1)
    return summed_B, best_BN[:, 0], torch.remainder(place_BN[:, 0], logits_BAK.shape[2])
