"""Losses of fine-grained recognition, which look at the channels of the last stage's map besides the logits.

Legend: B images, C channels, K classes, P positions of the map, xi channels of a class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spaces.errors import UsageError


def channels_of(classes: int, channels: int) -> list[list[int]]:
    """Which channels belong to each class: C / K in turn, one more for each of the first C mod K classes; -1 fills up."""
    size, more = divmod(channels, classes)
    sizes = [size + (index < more) for index in range(classes)]
    firsts = [sum(sizes[:index]) for index in range(classes)]
    return [[first + i if i < own else -1 for i in range(max(sizes))] for first, own in zip(firsts, sizes, strict=True)]


def mutual_channel(features_BCHW: Tensor, target: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The two parts of the mutual-channel loss (Chang et al., TIP 2020, arXiv:2002.04264), as scalars.

    L_dis, discriminality: floor(xi / 2) random channels of each class are masked, the same for the whole batch; cross-entropy
    of the mean over the positions of the maximum over the class's channels. L_div, diversity: the mean over classes of the sum
    over positions of the maximum over the class's channels of their spatial softmax, divided by xi. It is greatest, 1, where
    the channels of a class look at different places. Raises UsageError where a class has less than two channels.
    """
    if features_BCHW.shape[1] < 2 * classes:
        raise UsageError(
            f"task.loss mutual_channel: the last stage has {features_BCHW.shape[1]} channels for {classes} classes; valid: a "
            "backbone with two channels a class or more"
        )
    features_BCP = features_BCHW.float().flatten(2)
    members_KX = torch.tensor(channels_of(classes, features_BCP.shape[1]), device=features_BCP.device)
    there_KX = members_KX >= 0
    sizes_K = there_KX.sum(1)
    chance_KX = torch.rand(members_KX.shape, device=features_BCP.device).masked_fill(~there_KX, 2.0)
    kept_KX = chance_KX.argsort(1).argsort(1) >= (sizes_K // 2)[:, None]

    def highest(values_BCP: Tensor, factor_KX: Tensor) -> Tensor:
        """(B, K, P): the maximum over each class's channels."""
        by_class_BKXP = values_BCP[:, members_KX.clamp(min=0)] * factor_KX[..., None]
        return by_class_BKXP.masked_fill(~there_KX[..., None], -torch.inf).amax(2)

    discriminality = cross_entropy(highest(features_BCP, kept_KX).mean(2), target)
    diversity = (highest(features_BCP.softmax(2), there_KX).sum(2) / sizes_K).mean()
    return discriminality, diversity


def channel_correlation(features_BCHW: Tensor, labels_B: Tensor) -> Tensor:
    """Distances of channel attention vectors: small within a class, large between classes (Song et al., arXiv:2010.05469).

    mean of d_ij over pairs of one class - mean of d_ij over pairs of two, d_ij = |v_i - v_j| / sqrt(C) in [0, 1]; a mean over
    no pairs is 0. The paper learns its channel attention beside the network, for training alone. Here v is the sigmoid of each
    channel's mean over the map, so that a network, its cost and its export are the same with this loss and without.
    """
    v_BC = torch.sigmoid(features_BCHW.float().flatten(2).mean(2))
    square_BB = (v_BC[:, None] - v_BC[None]).square().mean(2)
    d_BB = (square_BB + 1e-12).sqrt()  # the root has no gradient at 0
    same_BB = labels_B[:, None] == labels_B[None]
    apart_BB = ~torch.eye(len(labels_B), dtype=torch.bool, device=labels_B.device)
    within, between = same_BB & apart_BB, ~same_BB
    return _mean(d_BB, within) - _mean(d_BB, between)


def _mean(d_BB: Tensor, pairs_BB: Tensor) -> Tensor:
    return (d_BB * pairs_BB).sum() / pairs_BB.sum().clamp(min=1)


# --- what a network has to put out for them ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Keep:
    """A forward hook: leaves what a module put out where ``Add`` finds it. Without references, so that copies are their own."""

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> None:
        if module.training:
            module.__dict__["kept_map"] = output


@dataclass(frozen=True)
class Add:
    """A forward hook of a network: in training mode the output is {"logits", "features"}; in eval mode it is left alone."""

    path: str

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Any:
        if not module.training:
            return output
        return {"logits": output, "features": module.get_submodule(self.path).__dict__.pop("kept_map")}


def watch(model: nn.Module, path: str) -> None:
    """Let a classifier in training mode put out the map of a module besides its logits, in place."""
    model.get_submodule(path).register_forward_hook(Keep())
    model.register_forward_hook(Add(path))
