"""The exact cost of a network that is there as an object, with attention put into it or as it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from evaluators.cost import Cost, StageCost, count_cost, named
from evaluators.counting import METRICS, Counts, count_module
from spaces.attention import IdentityStart
from spaces.backbones.insertion import on_meta
from spaces.errors import UsageError
from spaces.network import Native, insert_placed, takes_native_out
from spaces.objects import Placements, describe_and_shape, place_on, read_placements
from spaces.placement import Architecture

Size = Sequence[int] | int


def count_any(
    what: nn.Module | Architecture | str,
    placements: Placements | None = None,
    *,
    input_size: Size | None = None,
    num_classes: int = 1000,
    native: Native = "keep",
) -> Cost:
    """Count a network for one input, exactly, with attention at its stages or as it is; nothing is changed or trained.

    ``what``: a network object, an architecture, or the name of a backbone. ``placements``: as in ``insert``; None: as it is.
    ``input_size``: (C, H, W), (H, W) or a side; None: what an object says of itself, else 224 x 224. ``num_classes`` is that of
    a network by name. Attention that starts as the identity is counted without the scalar that it starts with.
    Raises UsageError for what cannot be read or does not fit.
    """
    if isinstance(what, nn.Module):
        return _count_object(what, placements, input_size, native)
    arch = what if isinstance(what, Architecture) else Architecture.read(what)
    if placements is not None:
        arch = Architecture(arch.backbone, read_placements(placements))
    sides = 224 if input_size is None else input_size
    channels, size = (sides[0], sides[1:]) if isinstance(sides, Sequence) and len(sides) > 2 else (3, sides)
    return count_cost(arch, image_size=size, num_classes=num_classes, in_chans=channels, native=native)


def _count_object(model: nn.Module, placements: Placements | None, input_size: Size | None, native: Native) -> Cost:
    found, shape = describe_and_shape(model, input_size)
    copied = without_start(on_meta(model))
    plain = _counted(copied, shape)
    if placements is None:
        return Cost(found.name, **named(plain.total), uncounted_ops=plain.uncounted, stages=())
    placed = place_on(found, placements)
    with torch.device("meta"):
        insert_placed(copied, found.name, placed, [shape], identity_start=False, native=native)
    counts = _counted(copied, shape)
    stages = []
    for stage, placement in placed:
        added = np.zeros(len(METRICS), dtype=np.int64)
        for site in () if placement.is_none else stage.at(placement.site):
            added += counts.by_module[site.attention]
        for slot in stage.sites.get("slot", ()):
            if takes_native_out(native, slot, placement):
                added -= plain.by_module[slot.path]
        stages.append(StageCost(str(placement), **named(added)))
    text = f"{found.name}:{','.join(str(placement) for _, placement in placed)}"
    return Cost(text, **named(counts.total), uncounted_ops=counts.uncounted, stages=tuple(stages))


def _counted(model: nn.Module, shape: tuple[int, ...]) -> Counts:
    with torch.device("meta"):
        try:
            return count_module(model, torch.empty(1, *shape))
        except (RuntimeError, ValueError, TypeError) as error:  # what torch's tracer raises for what it cannot follow
            reason = str(error).strip().splitlines()[0]
            raise UsageError(
                f"this {type(model).__name__} cannot be traced, so it cannot be counted: {reason}"
            ) from error


def without_start(model: nn.Module) -> nn.Module:
    """The same network whose attention has no scalar of an identity start, in place."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if isinstance(child, IdentityStart):
                parent._modules[name] = child.inner
    return model
