"""A whole segmentation network of the user's (``module:package.file:function``), into whose stages attention goes.

The function makes the network, as one that makes a backbone does, and its stages are found in the same way. It gives logits
(B, K, h, w), or a mapping that has them as ``out`` (torchvision's word) or ``logits``, those of an auxiliary head as ``aux``.
Legend: B batch, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spaces.backbones import zoo
from spaces.errors import UsageError, shortened
from spaces.heads.base import HEADS, DenseHead, DenseNetwork, Plan
from spaces.heads.segmentation import at_size
from spaces.meta import ShapesOnly
from spaces.plugins import reason_of

LOGITS = ("out", "logits")


class WholeNetwork(DenseNetwork):
    """A network that gives logits or a mapping of them: it gives them at the size of its input.

    In training mode, with an auxiliary head, a pair (logits, auxiliary logits). ``class_layers``: paths in the network.
    """

    def __init__(self, network: nn.Module, class_layers: Sequence[str]) -> None:
        super().__init__()
        self.backbone = network
        self.class_layers = tuple(class_layers)

    def get_classifier(self) -> list[nn.Module]:
        """The layers whose size depends on the number of classes."""
        return [self.backbone.get_submodule(path) for path in self.class_layers]

    def forward(self, x_BCHW: Tensor) -> Any:
        """(B, C, H, W) -> logits (B, K, H, W)."""
        found = self.backbone(x_BCHW)
        if not isinstance(found, Mapping):
            return at_size(found, x_BCHW)
        logits_BKHW = at_size(next(found[name] for name in LOGITS if name in found), x_BCHW)
        if not self.training or "aux" not in found:
            return logits_BKHW
        return logits_BKHW, at_size(found["aux"], x_BCHW)


@dataclass(frozen=True)
class WholeHead(DenseHead):
    """The user's own: what ``space.backbone`` names is the whole network, with backbone, decoder and logits."""

    name: ClassVar[str] = "whole"

    def plan(self, backbone: str) -> Plan:
        """There is none: the user's function alone knows how its network is put together."""
        raise UsageError(
            f"the network {shortened(backbone)} is whole: it is not put together from a backbone and a head"
        )

    def plain(self, backbone: str, in_chans: int, *, pretrained: bool) -> WholeNetwork:
        """The network as the user's function makes it. Raises UsageError for one that gives no logits of pixels."""
        if pretrained:
            raise UsageError(
                f"the weights of {shortened(backbone)} are not known to a library; valid: a checkpoint of the network, or a "
                "function that loads them itself"
            )
        layers = class_layers(backbone, self.classes, in_chans, self.side)
        network = WholeNetwork(zoo.create_plain(backbone, self.classes, in_chans), layers)
        network.in_chans = in_chans
        return network


@lru_cache(maxsize=32)
def class_layers(backbone: str, classes: int, in_chans: int, side: int) -> tuple[str, ...]:
    """The paths of the layers that have other weights with one class more.

    Raises UsageError for a network that cannot be run, or gives no logits (B, K, H, W) for so many classes.
    """
    with torch.device("meta"), torch.no_grad(), ShapesOnly():
        one, more = (zoo.create_plain(backbone, count, in_chans) for count in (classes, classes + 1))
        try:
            found = one.eval()(torch.empty(1, in_chans, side, side))
        except Exception as error:  # a user's network may raise anything
            raise UsageError(f"{shortened(backbone)} cannot be run on the meta device: {reason_of(error)}") from error
    given: Any = found
    if isinstance(found, Mapping):
        given = next((found[name] for name in LOGITS if name in found), sorted(map(str, found)))
    if not isinstance(given, Tensor) or given.ndim != 4 or given.shape[1] != classes:
        what = f"a tensor {tuple(given.shape)}" if isinstance(given, Tensor) else shortened(given)
        raise UsageError(
            f"{shortened(backbone)} gives {what} for images (1, {in_chans}, {side}, {side}) and {classes} classes; valid for "
            f"task.head 'whole': logits (1, {classes}, h, w), or a mapping that has them as {' or '.join(LOGITS)}"
        )
    shapes = {name: value.shape for name, value in more.named_parameters()}
    changed = (name for name, value in one.named_parameters() if shapes.get(name) != value.shape)
    return tuple(dict.fromkeys(name.rpartition(".")[0] for name in changed))


HEADS.register(WholeHead.name, WholeHead)
