"""Networks that are there as objects, of whatever library: their stages, and attention put into them, their weights kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from spaces.backbone import Backbone, Stage, describe_trace
from spaces.backbones.insertion import on_meta
from spaces.backbones.structure import open_slots
from spaces.backbones.trace import record
from spaces.backbones.weights import is_attention
from spaces.errors import UsageError, shortened
from spaces.network import Native, insert_placed, likely_channels
from spaces.placement import Architecture, Placement, check_each, names_backbone
from spaces.plugins import reason_of

Placements = str | Architecture | Sequence[str | Placement]


def describe_network(model: nn.Module, input_size: Sequence[int] | int | None = None) -> Backbone:
    """The stages and sites of a network, found on a copy without weights: the network stays as it is.

    ``input_size``: (C, H, W) of what it takes, (H, W), or a side; None: what it says of itself (``default_cfg``), else
    224 x 224.
    Raises UsageError for a network that takes no such input, and for one without a chain of blocks.
    """
    return describe_and_shape(model, input_size)[0]


def insert(
    model: nn.Module,
    placements: Placements,
    *,
    input_size: Sequence[int] | int | None = None,
    identity_start: bool = True,
    native: Native = "keep",
) -> nn.Module:
    """Put attention into a network, in place, and return it; its weights, device, type and mode stay.

    ``placements``: one for each stage, as ``"se-r16,none,cbam-r16-k7,none"``, a list of them, or an architecture, whose
    placements are taken. ``identity_start``: the network computes what it did until the attention is trained.
    ``input_size`` as in ``describe_network``, ``native`` as in ``NetworkSpec``.
    Raises UsageError, before the network is changed, for a placement that does not fit its stage, for as many as there are no
    stages, and for a network that holds attention of Attune already or would never call it.
    """
    found, shape = describe_and_shape(model, input_size)
    held = next((name for name, _ in model.named_modules() if is_attention(f".{name}.")), None)
    if held is not None:
        raise UsageError(f"this {type(model).__name__} holds attention already, at {held!r}; valid: the plain network")
    placed = place_on(found, placements)
    like = next((one for one in model.parameters() if one.is_floating_point()), torch.empty(0))
    insert_placed(model, found.name, placed, [shape], identity_start=identity_start, native=native)
    for stage, placement in placed:
        for site in () if placement.is_none else stage.at(placement.site):
            block = model.get_submodule(site.path.rpartition(".")[0])
            holder = model.get_submodule(site.path if site.empty else site.attention)
            holder.to(like.device, like.dtype).train(block.training)
    return model


def place_on(found: Backbone, placements: Placements) -> list[tuple[Stage, Placement]]:
    """Every stage of a network and its placement, canonical there; raises UsageError where these do not fit."""
    given = read_placements(placements)
    if len(given) != len(found.stages):
        channels = ", ".join(str(stage.channels) for stage in found.stages)
        raise UsageError(
            f"this {found.name} has {len(found.stages)} stages (of {channels} channels), but {len(given)} placements "
            f"are given: {','.join(map(str, given))}; valid: one for each, none where there is to be nothing"
        )
    return list(zip(found.stages, check_each(found.name, given, found.stages), strict=True))


def read_placements(placements: Placements) -> tuple[Placement, ...]:
    """Placements in any of their forms; raises UsageError for one that cannot be read."""
    if isinstance(placements, Architecture):
        return placements.placements
    if isinstance(placements, str):
        if names_backbone(placements):
            return Architecture.parse(placements).placements
        placements = placements.split(",")
    for one in placements:
        if not isinstance(one, str | Placement):
            raise UsageError(f"placement {shortened(one)} is a {type(one).__name__}; valid: a text, or a Placement")
    return tuple(one if isinstance(one, Placement) else Placement.parse(one) for one in placements)


def describe_and_shape(
    model: nn.Module, input_size: Sequence[int] | int | None = None
) -> tuple[Backbone, tuple[int, ...]]:
    """As ``describe_network``, and the (C, H, W) of an input that the network takes."""
    if not isinstance(model, nn.Module):
        raise UsageError(f"a {type(model).__name__} is no network; valid: a torch.nn.Module")
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        raise UsageError(
            f"this {type(model).__name__} has lazy layers without a shape; valid: once it has seen an input"
        )
    copied = on_meta(model).eval()
    open_slots(copied)
    failed: Exception | None = None
    for shape in _shapes(model, input_size):
        try:
            with torch.device("meta"):
                trace = record(copied, torch.empty(1, *shape))
            return describe_trace(type(model).__name__, trace), shape
        except UsageError:
            raise
        except Exception as error:  # a user's network may raise anything
            failed = failed or error
    inside = " (it has a `backbone`: give that)" if isinstance(getattr(model, "backbone", None), nn.Module) else ""
    assert failed is not None
    raise UsageError(
        f"this {type(model).__name__} cannot be run on an input of shape {_shapes(model, input_size)[0]} "
        f"without its weights{inside}; input_size=(C, H, W) says what it takes: {reason_of(failed)}"
    )


def _shapes(model: nn.Module, input_size: Sequence[int] | int | None) -> list[tuple[int, ...]]:
    """The (C, H, W) to try, the likeliest first."""
    told = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None) or {}
    told_size = (
        tuple(map(int, told["input_size"])) if isinstance(told, dict) and "input_size" in told else (3, 224, 224)
    )
    if input_size is None:
        size = told_size[1:]
    else:
        sides = tuple(input_size) if isinstance(input_size, Sequence) else (input_size, input_size)
        if not 2 <= len(sides) <= 4 or not all(type(side) is int and side > 0 for side in sides):
            raise UsageError(f"input size {shortened(input_size)}; valid: a side, (H, W), (C, H, W) or (C, T, H, W)")
        if len(sides) > 2:
            return [sides]
        size = sides
    return [(channels, *size) for channels in likely_channels(model)]
