"""What attention really does in a network: what it multiplies each element of a map by, or how much it adds.

Legend: B batch, C channels, H and W map; volumes have (D, H, W) in the place of (H, W).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spaces.attention.parts import Gate, IdentityStart, ParallelSum, Series
from spaces.backbones.sites import CHILD
from spaces.errors import UsageError

SMALL = 1e-6  # of the largest element of a map: below it a ratio says nothing
Kind = Literal["factor", "added"]


@dataclass(frozen=True, eq=False)
class Weighing:
    """What one attention module did to a batch of maps; ``site`` is its path in the network.

    ``kind`` factor: it multiplies. ``factor_BCHW`` is what each element was multiplied by, NaN where that is not known,
    ``channels_BC`` its mean over the positions, and ``space_BHW`` its mean over the channels.
    ``kind`` added: it has no factor, since it adds to its input or moves it. ``channels_BC`` and ``space_BHW`` are then the
    root mean square of output - input over the positions and over the channels, relative to that of the whole input map.
    """

    site: str
    kind: Kind
    channels_BC: Tensor
    space_BHW: Tensor
    factor_BCHW: Tensor | None = None


@torch.no_grad()
def gates(model: nn.Module, x_BCHW: Tensor) -> dict[str, Weighing]:
    """What every inserted attention module of a network does to a batch of inputs, by the module's path.

    A module that runs several times is told of as it ran last. Raises UsageError for a network in training mode, where the
    images of a batch depend on each other.
    """
    refuse_training(model)
    found = {path: module for path, module in model.named_modules() if path.rpartition(".")[2] == CHILD}
    seen: dict[str, Tensor] = {}

    def recorder(path: str) -> Any:
        def record(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            seen[path] = args[0].clone()  # a layer that comes later may write over it

        return record

    hooks = [module.register_forward_pre_hook(recorder(path)) for path, module in found.items()]
    try:
        model(x_BCHW)
    finally:
        for hook in hooks:
            hook.remove()
    return {path: weigh(path, found[path], seen[path]) for path in found if path in seen}


def weigh(site: str, module: nn.Module, x_BCHW: Tensor) -> Weighing:
    """What an attention module in eval mode does to a batch of its own inputs; ``site`` is what it is called."""
    factor_BCHW = find_factor(module, x_BCHW)
    positions = list(range(2, x_BCHW.dim()))
    if factor_BCHW is not None:
        return Weighing(site, "factor", factor_BCHW.nanmean(positions), factor_BCHW.nanmean(1), factor_BCHW)
    change_BCHW = (module(x_BCHW) - x_BCHW).square()
    whole_B = x_BCHW.square().flatten(1).mean(1)
    channels_BC = (change_BCHW.mean(positions) / whole_B.view(-1, 1)).sqrt()
    space_BHW = (change_BCHW.mean(1) / whole_B.view(-1, *[1] * len(positions))).sqrt()
    return Weighing(site, "added", channels_BC, space_BHW)


def find_factor(module: nn.Module, x_BCHW: Tensor) -> Tensor | None:
    """What a module in eval mode multiplies each element of its input by, (B, C, H, W); None for one that does not multiply.

    Of gates, and of series and sums of them, it is the product or sum of what the gates say. Of any other module it is output /
    input, NaN where the input is 0, if the module leaves every zero of its input a zero, whatever stands beside it.
    """
    if isinstance(module, IdentityStart):
        inner_BCHW = find_factor(module.inner, x_BCHW)
        return None if inner_BCHW is None else 1 + module.blend * (inner_BCHW - 1)
    told = _told(module, x_BCHW)
    return _ratio(module, x_BCHW) if told is None else told.expand_as(x_BCHW)


def _told(module: nn.Module, x_BCHW: Tensor) -> Tensor | None:
    """The factor of a module that is built of gates alone; None for any other."""
    if isinstance(module, Gate):
        return module.gate(x_BCHW)
    if type(module) is ParallelSum and module.gates:
        return module.channel.gate(x_BCHW) + module.spatial.gate(x_BCHW)  # type: ignore[operator]
    if type(module) is Series:
        first = _told(module.channel, x_BCHW)
        second = None if first is None else _told(module.spatial, module.channel(x_BCHW))
        return None if first is None or second is None else first * second
    return None


def _ratio(module: nn.Module, x_BCHW: Tensor) -> Tensor | None:
    y_BCHW = module(x_BCHW)
    chance_BCHW = torch.rand(x_BCHW.shape, generator=torch.Generator().manual_seed(0)).to(x_BCHW.device)
    emptied_BCHW = chance_BCHW < 0.5
    if torch.equal(y_BCHW, x_BCHW) or module(x_BCHW.masked_fill(emptied_BCHW, 0))[emptied_BCHW].any():
        return None
    known_BCHW = x_BCHW.abs() > SMALL * x_BCHW.abs().max()
    return torch.where(known_BCHW, y_BCHW / x_BCHW, torch.nan)


def refuse_training(model: nn.Module) -> None:
    """Raise UsageError for a network in training mode."""
    if model.training:
        raise UsageError(f"this {type(model).__name__} is in training mode; valid: model.eval()")
