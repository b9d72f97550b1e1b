"""The supernet: one backbone that holds every choice of every stage, trained once; then an evaluation is a forward pass.

Single paths: Guo et al., Single Path One-Shot Neural Architecture Search, 2020. Fair sampling: Chu et al., FairNAS, 2021.
Sandwich rule: Yu et al., BigNAS, 2020. Attention weights belong to a (site, placement) pair and are made when they are first
needed, so the size of the space does not matter. Legend: S stages.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.base import EvaluationError, Metrics, OnData, Report
from evaluators.data import Data
from evaluators.data.batches import Batches, make_batches
from evaluators.training import (
    VALIDATION_BATCH,
    Recipe,
    autocast,
    backward,
    make_augment,
    make_optimizer,
    make_schedule,
    mix,
    pick_device,
    validate,
)
from spaces.attention import create_attention
from spaces.backbone import build_model, describe_backbone
from spaces.backbones.insertion import attach
from spaces.placement import NONE, Architecture, Placement
from spaces.space import SearchSpace


class Switch(nn.Module):
    """All attentions that one site can have; the active one runs, None passes the map through."""

    def __init__(self, channels: int, identity_init: bool) -> None:
        super().__init__()
        self.channels, self.identity_init = channels, identity_init
        self.choices = nn.ModuleDict()
        self.active: str | None = None

    def select(self, placement: Placement) -> nn.Module | None:
        """Make a placement the active one; its module when it is new."""
        self.active = str(placement)
        if self.active in self.choices:
            return None
        module = create_attention(placement.type, self.channels, **placement.genes, identity_init=self.identity_init)
        self.choices[self.active] = module
        return module

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        return x_BCHW if self.active is None else self.choices[self.active](x_BCHW)


class Supernet(nn.Module):
    """A backbone with a switch at every site; `select` turns it into one architecture."""

    def __init__(
        self, backbone: str, num_classes: int, in_chans: int, *, image_size: int | None, identity_init: bool = True
    ) -> None:
        super().__init__()
        self.backbone = backbone
        stages = describe_backbone(backbone).stages
        plain = Architecture(backbone, (NONE,) * len(stages))
        self.model = build_model(plain, num_classes, in_chans, image_size=image_size)
        self.stages: list[dict[str, list[Switch]]] = []  # per stage, by kind of site
        switches: dict[str, Switch] = {}  # a block site and a stage site can be one place
        for stage in stages:
            kinds: dict[str, list[Switch]] = {}
            for kind, sites in stage.sites.items():
                for site in sites:
                    if site.attention not in switches:
                        switches[site.attention] = Switch(site.channels, identity_init)
                        attach(self.model, site, switches[site.attention])
                    kinds.setdefault(kind, []).append(switches[site.attention])
            self.stages.append(kinds)
        self.switches = list(switches.values())

    def select(self, arch: Architecture) -> list[nn.Parameter]:
        """Make `arch` the active path; the parameters of attention that had to be made for it."""
        for switch in self.switches:
            switch.active = None
        made: list[nn.Parameter] = []
        like = next(self.model.parameters())
        for kinds, placement in zip(self.stages, arch.placements, strict=True):
            if placement.is_none:
                continue
            assert placement.site is not None
            for switch in kinds[placement.site]:
                module = switch.select(placement)
                if module is not None:
                    module.to(like.device).train(self.training)
                    made.extend(module.parameters())
        return made

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, K) of the active path."""
        return self.model(x_BCHW)

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


def fair_paths(space: SearchSpace, rng: np.random.Generator) -> Iterator[Architecture]:
    """An endless sequence of architectures in which each stage goes through all its choices before it repeats one."""
    queues: list[list[int]] = [[] for _ in space.sizes]
    while True:
        indices_S = []
        for queue, size in zip(queues, space.sizes, strict=True):
            if not queue:
                queue.extend(rng.permutation(size).tolist())
            indices_S.append(queue.pop())
        yield space.architecture(indices_S)


def largest_path(space: SearchSpace) -> Architecture:
    """For every stage the choice with most attention parameters."""
    stages = describe_backbone(space.backbone).stages

    def weight(placement: Placement, index: int) -> int:
        if placement.is_none:
            return 0
        assert placement.site is not None
        sites = stages[index].sites[placement.site]
        modules = [create_attention(placement.type, site.channels, **placement.genes) for site in sites]
        return sum(parameter.numel() for module in modules for parameter in module.parameters())

    with torch.device("meta"):
        best = tuple(
            max(choices, key=lambda placement, index=index: weight(placement, index))  # type: ignore[misc]
            for index, choices in enumerate(space.choices)
        )
    return Architecture(space.backbone, best)


def train_supernet(
    space: SearchSpace,
    data: Data,
    recipe: Recipe,
    *,
    epochs: int,
    seed: int,
    device: torch.device,
    identity_init: bool = True,
    sandwich: int = 0,
) -> Supernet:
    """Train all paths of a space together, one fairly sampled path a step.

    sandwich: n > 0 adds up the gradients of the plain backbone, the largest path and n sampled ones in every step.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        net = Supernet(
            space.backbone, data.num_classes, data.in_chans, image_size=data.image_size, identity_init=identity_init
        )
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        net = net.to(device).to(memory_format=layout)  # type: ignore[call-overload]  # missing in torch's stubs
        generator = torch.Generator().manual_seed(seed)
        augment = make_augment(recipe, data)
        train = make_batches(
            data.train, data, recipe.batch_size, device, augment=augment, generator=generator, workers=recipe.workers
        )
        optimizer = make_optimizer(net, recipe)
        schedule = make_schedule(optimizer, recipe, len(train), epochs)
        paths = fair_paths(space, np.random.default_rng(seed))
        plain = Architecture(space.backbone, (NONE,) * len(net.stages))
        ends = (plain, largest_path(space)) if sandwich else ()
        micro_batch = train.batch_size
        step = 0
        for epoch in range(1, epochs + 1):
            net.train()
            total_loss = torch.zeros((), device=device)
            for x_BCHW, y_B in train:
                schedule.step_update(step)
                x_BCHW, target = mix(x_BCHW, y_B, data.num_classes, augment, generator)
                for arch in (*ends, *(next(paths) for _ in range(max(1, sandwich)))):
                    add_parameters(optimizer, net.select(arch), recipe)
                    loss, micro_batch = backward(net, x_BCHW, target, recipe, micro_batch)
                    total_loss += loss
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                step += 1
            if not float(total_loss) < float("inf"):
                raise EvaluationError(f"the supernet's training loss became {float(total_loss)} in epoch {epoch}")
    return net.eval()


def add_parameters(optimizer: torch.optim.Optimizer, made: list[nn.Parameter], recipe: Recipe) -> None:
    """Let the optimizer train new attention, at the rate that the schedule has reached.

    New weights join the groups that the schedule already steers: decayed ones with decayed ones.
    """
    for weight in made:
        decay = recipe.weight_decay if weight.ndim > 1 else 0.0
        group = next(group for group in optimizer.param_groups if group["weight_decay"] == decay)
        group["params"].append(weight)


@dataclass(frozen=True, eq=False)
class SupernetEvaluator(OnData):
    """Evaluates by a forward pass through shared weights. fidelity: epochs of the supernet's one training.

    The first evaluation at a fidelity and seed trains the supernet; each later one recalibrates the BatchNorm statistics
    on `calibration` training images and runs over validation.
    """

    data: Data
    space: SearchSpace
    recipe: Recipe = field(default_factory=Recipe)
    identity_init: bool = True
    sandwich: int = 0
    calibration: int = 512
    device: torch.device = field(default_factory=pick_device)
    nets: dict[tuple[int, int], Supernet] = field(default_factory=dict, repr=False)

    @cached_property
    def identity(self) -> str:
        start = "identity" if self.identity_init else "fresh"
        return f"supernet {self.data.identity} {self.recipe.digest} {start} {self.sandwich} {self.calibration}"

    @cached_property
    def _val(self) -> Batches:
        return make_batches(self.data.val, self.data, VALIDATION_BATCH, self.device, workers=self.recipe.workers)

    def net(self, fidelity: int, seed: int) -> Supernet:
        """The supernet of this fidelity and seed, trained when it is first asked for."""
        if (fidelity, seed) not in self.nets:
            self.nets[fidelity, seed] = train_supernet(
                self.space,
                self.data,
                self.recipe,
                epochs=fidelity,
                seed=seed,
                device=self.device,
                identity_init=self.identity_init,
                sandwich=self.sandwich,
            )
        return self.nets[fidelity, seed]

    def evaluate(self, arch: Architecture, *, fidelity: int, seed: int, report: Report | None = None) -> Metrics:
        """accuracy and loss of `arch` with the shared weights; `seconds` leaves out the supernet's training."""
        net = self.net(fidelity, seed)
        started = time.perf_counter()
        net.select(arch)
        self._recalibrate(net)
        metrics = validate(net, self._val, self.device, self.recipe.amp)
        metrics["seconds"] = time.perf_counter() - started
        if report is not None:
            report(fidelity, dict(metrics))
        return metrics

    @torch.no_grad()
    def _recalibrate(self, net: Supernet) -> None:
        """BatchNorm statistics of this path alone: the plain average over a few fixed training batches."""
        norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average
        net.train()
        generator = torch.Generator().manual_seed(0)
        batch = min(128, self.calibration)
        batches = make_batches(self.data.train, self.data, batch, self.device, generator=generator)
        for _, (x_BCHW, _y) in zip(range(self.calibration // batch), batches, strict=False):
            with autocast(self.device, self.recipe.amp):
                net(x_BCHW)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        net.eval()
