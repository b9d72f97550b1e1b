"""The supernet: one backbone that holds every choice of every stage.

Attention weights belong to a (site, placement) pair and are made when they are first needed, so the size of the space does not
matter. Legend: B batch, C channels, H and W pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.speed import use_fast_convolutions
from spaces.attention import create_attention
from spaces.backbones.insertion import attach
from spaces.backbones.sites import chosen
from spaces.network import NetworkSpec
from spaces.placement import Architecture, Placement


class Switch(nn.Module):
    """All attentions that one site can have; the active one runs, None passes the map through."""

    def __init__(self, channels: int, identity_start: bool, dims: int = 2) -> None:
        super().__init__()
        self.channels, self.identity_start, self.dims = channels, identity_start, dims
        self.choices = nn.ModuleDict()
        self.active: str | None = None
        self.uses: Counter[str] = Counter()  # paths with each choice since the last average of gradients

    def select(self, placement: Placement) -> nn.Module | None:
        """Make a placement the active one; its module when it is new."""
        self.active = str(placement)
        self.uses[self.active] += 1
        if self.active in self.choices:
            return None
        module = create_attention(
            placement.type, self.channels, **placement.genes, dims=self.dims, identity_start=self.identity_start
        )
        self.choices[self.active] = module
        return module

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        return x_BCHW if self.active is None else self.choices[self.active](x_BCHW)


class Supernet(nn.Module):
    """A backbone with a switch at every site; `select` turns it into one architecture."""

    def __init__(self, backbone: str, network: NetworkSpec) -> None:
        super().__init__()
        self.backbone, self.network = backbone, network
        stages = network.stages(backbone)
        self.model = network.build(Architecture.plain(backbone))
        self.stages: list[dict[str, list[Switch]]] = []  # per stage, by site
        switches: dict[str, Switch] = {}  # a block site and a stage site can be one place
        for stage in stages:
            places: dict[str, list[Switch]] = {}
            for place, sites in stage.sites.items():
                for site in sites:
                    if site.attention not in switches:
                        switches[site.attention] = Switch(site.channels, network.identity_start, site.dims)
                        attach(self.model, site, switches[site.attention])
                    places.setdefault(place, []).append(switches[site.attention])
            self.stages.append(places)
        self.switches = list(switches.values())

    def select(self, arch: Architecture) -> list[nn.Parameter]:
        """Make `arch` the active path; the parameters of attention that had to be made for it."""
        for switch in self.switches:
            switch.active = None
        made: list[nn.Parameter] = []
        like = next(self.model.parameters())
        for places, (_, placement) in zip(self.stages, self.network.placed(arch), strict=True):
            for switch in chosen(places, placement.site):
                module = switch.select(placement)
                if module is not None:
                    module.to(like.device).train(self.training)
                    if like.device.type == "cpu":
                        use_fast_convolutions(module)
                    made.extend(module.parameters())
        return made

    def forward(self, x_BCHW: Tensor) -> Any:
        """(B, C, H, W) -> what the active path puts out."""
        return self.model(x_BCHW)

    def average_gradients(self, paths: int) -> None:
        """Turn gradients that were summed over `paths` paths into means, each weight's over the paths that it was on."""
        shared = [weight.grad for weight in self.shared if weight.grad is not None]
        torch._foreach_div_(shared, paths)
        for switch in self.switches:
            for name, uses in switch.uses.items():
                for weight in switch.choices[name].parameters():
                    if weight.grad is not None:
                        weight.grad /= uses
            switch.uses.clear()

    @cached_property
    def shared(self) -> list[nn.Parameter]:
        """The backbone's weights: those of all paths."""
        return [weight for name, weight in self.named_parameters() if ".choices." not in name]

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over the state_dict of another supernet of this backbone, whose attention is made first."""
        for path, switch in self.model.named_modules():
            if isinstance(switch, Switch):
                start = f"model.{path}.choices."
                for name in {key.removeprefix(start).split(".")[0] for key in weights if key.startswith(start)}:
                    switch.select(Placement.parse(name))
                switch.active = None
        self.load_state_dict(dict(weights))

    def weights(self, arch: Architecture) -> dict[str, Tensor]:
        """The path's weights under the names that build_model(arch) gives them: a start for its own training."""
        self.select(arch)
        found: dict[str, Tensor] = {}
        actives = {name: module.active for name, module in self.model.named_modules() if isinstance(module, Switch)}
        for name, value in self.model.state_dict().items():
            owner = next((path for path in actives if name.startswith(f"{path}.choices.")), None)
            if owner is None:
                found[name] = value
                continue
            key, _, rest = name.removeprefix(f"{owner}.choices.").partition(".")
            if key == actives[owner]:
                found[f"{owner}.{rest}"] = value
        return found
