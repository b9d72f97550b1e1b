"""Backbones: their stages and sites, found in the module tree itself, and building them with attention in place.

Plain networks come from timm, torchvision, the papers in ``spaces.backbones`` or the user; see ``docs/backbones.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from spaces.attention import create_attention
from spaces.backbones import zoo
from spaces.backbones.insertion import attach, clear, shrink_stem
from spaces.backbones.structure import Site, Stage, find_stages, find_stem, open_slots
from spaces.backbones.trace import Trace, record
from spaces.backbones.weights import load_weights
from spaces.backbones.zoo import list_backbones
from spaces.deprecated import renamed
from spaces.errors import UsageError, unknown

if TYPE_CHECKING:
    from spaces.placement import Architecture, Placement

__all__ = [
    "NATIVE",
    "Backbone",
    "Site",
    "Stage",
    "build_model",
    "describe_backbone",
    "insert_attention",
    "list_backbones",
    "load_weights",
    "site_shapes",
]

NATIVE = ("keep", "replace", "remove")
SMALL_IMAGE = 64  # images up to this size get a stem that keeps their resolution


@dataclass(frozen=True)
class Backbone:
    """A network's stages, and what building on it needs.

    ``image_size``: the input size its stages were found at; ``stem``: the modules before the first block that lower the
    resolution.
    """

    name: str
    stages: tuple[Stage, ...]
    image_size: int
    stem: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Name, and for each stage its channels, resolution, blocks and number of sites of each kind."""
        return {
            "name": self.name,
            "image_size": self.image_size,
            "stages": [
                {
                    "channels": stage.channels,
                    "resolution": round(self.image_size / stage.stride),
                    "blocks": len(stage.blocks),
                    "sites": {
                        kind: {"count": len(sites), "channels": [site.channels for site in sites]}
                        for kind, sites in stage.sites.items()
                    },
                    "native_attention": any(site.native for site in stage.sites.get("slot", ())),
                }
                for stage in self.stages
            ],
        }


@cache
def describe_backbone(name: str) -> Backbone:
    """Find the stages and sites of a network; no weights are allocated and nothing is computed.

    Raises UsageError for an unknown name, and for a network without a chain of blocks.
    """
    trace = record_backbone(name)
    stages = find_stages(trace)
    if not stages:
        raise UsageError(
            f"backbone {name!r}: no chain of blocks was found, so there are no stages to place attention in"
        )
    return Backbone(name, stages, trace.shapes[0][-1], find_stem(trace))


@lru_cache(maxsize=32)
def record_backbone(name: str, *, image_size: int | None = None, in_chans: int = 3) -> Trace:
    """One forward pass of the plain network on the meta device, at its own input size or at ``image_size``."""
    with torch.device("meta"):
        model = zoo.create_plain(name, num_classes=10, in_chans=in_chans)
        if image_size is not None and image_size <= SMALL_IMAGE:
            shrink_stem(model, describe_backbone(name).stem, rescale=False)
        open_slots(model)
        size = image_size or int(getattr(model, "default_cfg", {}).get("input_size", (3, 224, 224))[-1])
        return record(model, torch.empty(1, in_chans, size, size))


def site_shapes(name: str, *, image_size: int, in_chans: int = 3) -> dict[Site, tuple[int, ...]]:
    """(C, H, W) of the map at every site of a backbone for square images of ``image_size`` pixels.

    Raises UsageError where the network cannot take such an image.
    """
    try:
        trace = record_backbone(name, image_size=image_size, in_chans=in_chans)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UsageError(f"{name} cannot take images of {image_size} pixels: {error}") from error
    shapes = {call.path: call.shape for call in trace.calls}
    sites = (site for stage in describe_backbone(name).stages for kind in stage.sites.values() for site in kind)
    return {site: shapes[site.path][1:] for site in sites}


def build_model(
    arch: Architecture,
    num_classes: int,
    in_chans: int = 3,
    pretrained: bool | str | Path = False,
    *,
    image_size: int | None = None,
    identity_start: bool = False,
    native: str = "keep",
    identity_init: bool | None = None,
) -> nn.Module:
    """The network of an architecture: (B, in_chans, H, W) -> logits (B, num_classes).

    Every key of the plain backbone's state_dict keeps its name; those of inserted attention contain ``.attune.``.
    ``pretrained``: True fetches the library's weights; a path loads a timm checkpoint of the plain network.
    ``image_size``: up to 64 pixels the stem keeps the resolution; None keeps the network's own stem.
    ``identity_start``: every attention starts as ``x + g (f(x) - x)`` with a learnable g = 0.
    ``native``: the network's built-in attention: ``keep`` it (slot attention comes after it), ``replace`` it where a stage
    has a slot placement, or ``remove`` all of it.
    ``identity_init``: deprecated; the former name of ``identity_start``.
    Raises UsageError for an unknown ``native``.
    """
    identity_start = renamed("identity_init", identity_init, "identity_start", identity_start)
    backbone = describe_backbone(arch.backbone)
    model = zoo.create_plain(arch.backbone, num_classes, in_chans, pretrained is True)
    if image_size is not None and image_size <= SMALL_IMAGE:
        shrink_stem(model, backbone.stem, rescale=not pretrained)
    insert_attention(model, arch, identity_start=identity_start, native=native)
    if not isinstance(pretrained, bool):
        load_weights(model, pretrained)
    return model


def insert_attention(
    model: nn.Module, arch: Architecture, *, identity_start: bool = False, native: str = "keep"
) -> None:
    """Put the placements of an architecture into its plain network, in place, whatever weights that holds.

    ``identity_start`` and ``native`` as in ``build_model``. Raises UsageError for an unknown ``native``.
    """
    if native not in NATIVE:
        raise unknown("native", native, NATIVE)
    for stage, placement in zip(describe_backbone(arch.backbone).stages, arch.placements, strict=True):
        for slot in stage.sites.get("slot", ()):
            if takes_native_out(native, slot, placement):
                clear(model, slot.path)
        if not placement.is_none:
            for site in stage.sites[placement.site or ""]:
                attention = create_attention(
                    placement.type, site.channels, **placement.genes, identity_start=identity_start
                )
                attach(model, site, attention)


def takes_native_out(native: str, slot: Site, placement: Placement) -> bool:
    """Whether the built-in attention of a slot leaves the network when its stage gets ``placement``."""
    return slot.native and (native == "remove" or (native == "replace" and placement.site == "slot"))
