"""Backbones: their stages and sites, found in the module tree itself.

Plain networks come from timm, torchvision, the papers in ``spaces.backbones`` or the user; see ``docs/backbones.md``.
Building a network with attention in place is the matter of ``spaces.network``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import torch

from spaces.backbones import zoo
from spaces.backbones.insertion import shrink_stem
from spaces.backbones.sites import Site, Stage
from spaces.backbones.structure import find_stages, find_stem, open_slots
from spaces.backbones.trace import Trace, record
from spaces.backbones.zoo import list_backbones
from spaces.errors import UsageError, cut, shortened
from spaces.plugins import reason_of

__all__ = ["Backbone", "Site", "Stage", "describe_backbone", "is_small", "list_backbones", "site_shapes"]

SMALL_IMAGE = 64  # images of which no side is longer get a stem that keeps their resolution


@dataclass(frozen=True)
class Backbone:
    """A network's stages, and what building on it needs.

    ``image_size``: the input size its stages were found at; ``stem``: the modules before the first block that lower the
    resolution. ``frames``: how many a clip had, 0 for a network of images.
    """

    name: str
    stages: tuple[Stage, ...]
    image_size: int
    stem: tuple[str, ...]
    frames: int = 0

    @property
    def size(self) -> tuple[int, ...]:
        """The (H, W) or (T, H, W) that its stages were found at."""
        square = (self.image_size, self.image_size)
        return (self.frames, *square) if self.frames else square

    def to_dict(self) -> dict[str, Any]:
        """Name, and for each stage its channels, resolution, blocks and number of sites of each kind."""
        return {
            "name": self.name,
            "image_size": self.image_size,
            **({"frames": self.frames} if self.frames else {}),
            "stages": [
                {
                    "channels": stage.channels,
                    "resolution": round(self.image_size / stage.stride),
                    "blocks": len(stage.blocks),
                    "sites": {
                        place: {"count": len(sites), "channels": [site.channels for site in sites]}
                        for place, sites in stage.sites.items()
                    },
                    "native_attention": any(site.native for site in stage.sites.get("slot", ())),
                }
                for stage in self.stages
            ],
        }


@cache
def describe_backbone(name: str) -> Backbone:
    """Find the stages and sites of a network; no weights are allocated and nothing is computed.

    Raises UsageError for an unknown name, a network that raises anything, and one without a chain of blocks.
    """
    try:
        trace = record_backbone(name)
    except UsageError:
        raise
    except Exception as error:  # a user's network may raise anything
        raise UsageError(f"backbone {shortened(name)} cannot be run on the meta device: {reason_of(error)}") from error
    return describe_trace(name, trace)


def describe_trace(name: str, trace: Trace) -> Backbone:
    """A recorded network; raises UsageError for one without a chain of blocks."""
    stages = find_stages(trace)
    if not stages:
        raise UsageError(
            f"backbone {shortened(name)}: no chain of blocks was found, so there are no stages to place attention in"
        )
    size = trace.shapes[0][2:]
    return Backbone(name, stages, size[-1], find_stem(trace), size[0] if len(size) == 3 else 0)


def is_small(size: tuple[int, ...]) -> bool:
    """Whether images of (H, W) pixels are so small that a backbone's stem has to keep their resolution."""
    return max(size[-2:]) <= SMALL_IMAGE


@lru_cache(maxsize=32)
def record_backbone(
    name: str, *, size: tuple[int, ...] | None = None, in_chans: int = 3, rewrite: bool | None = None
) -> Trace:
    """One forward pass of the plain network on the meta device, at its own input size or for inputs of ``size``.

    ``rewrite``: with the stem of small images; None: where ``size`` is small.
    """
    with torch.device("meta"):
        model = zoo.create_plain(name, num_classes=10, in_chans=in_chans)
        if size is not None and (is_small(size) if rewrite is None else rewrite):
            shrink_stem(model, describe_backbone(name).stem, rescale=False)
        open_slots(model)
        *frames, _, own = getattr(model, "default_cfg", {}).get("input_size", (3, 224, 224))[1:]
        return record(model, torch.empty(1, in_chans, *(size or (*map(int, frames), int(own), int(own)))))


def site_shapes(
    name: str, *, size: tuple[int, ...], in_chans: int = 3, rewrite: bool | None = None
) -> dict[Site, tuple[int, ...]]:
    """(C, H, W) of the map at every site of a backbone, for images of ``size`` (H, W); ``rewrite`` as in ``record_backbone``.

    Of a network of clips, (C, T, H, W) for ``size`` (T, H, W). Raises UsageError where the network cannot take such an input.
    """
    own = describe_backbone(name).size
    if len(own) != len(size):
        kinds = {2: "images (H, W)", 3: "clips (T, H, W)"}
        raise UsageError(
            f"{name} takes {kinds[len(own)]}, and the input is {' x '.join(map(str, size))}, {kinds[len(size)]}; "
            f"valid: a backbone of {kinds[len(size)]}"
        )
    try:
        trace = record_backbone(name, size=size, in_chans=in_chans, rewrite=rewrite)
    except Exception as error:  # of torch, timm and users' networks
        reason = cut(str(error), 300) or type(error).__name__
        kind = "images" if len(size) == 2 else "clips (T x H x W)"
        raise UsageError(f"{name} cannot take {kind} of {' x '.join(map(str, size))} pixels: {reason}") from error
    shapes = {call.path: call.shape for call in trace.calls}
    sites = (site for stage in describe_backbone(name).stages for sites in stage.sites.values() for site in sites)
    return {site: shapes[site.path][1:] for site in sites}
