"""The supernet: one backbone that holds every choice of every stage, trained once; then an evaluation is a forward pass.

Single paths: Guo et al., Single Path One-Shot Neural Architecture Search, 2020. Strict fairness (every choice learns in every
step): Chu et al., FairNAS, 2021. Sandwich rule: Yu et al., BigNAS, 2020. Attention weights belong to a (site, placement)
pair and are made when they are first needed, so the size of the space does not matter. Legend: S stages.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.base import EvaluationError, Metrics, OnData, Report
from evaluators.data import Data
from evaluators.data.batches import Batches, make_batches
from evaluators.data.splits import part
from evaluators.speed import keep_freed_memory, use_fast_convolutions
from evaluators.training import (
    VALIDATION_BATCH,
    Recipe,
    TrainingEvaluator,
    autocast,
    backward,
    make_augment,
    make_optimizer,
    make_schedule,
    mix,
    pick_device,
    save_weights,
    seeded,
    validate,
)
from spaces.attention import create_attention
from spaces.backbone import build_model, describe_backbone
from spaces.backbones.insertion import attach
from spaces.errors import UsageError
from spaces.placement import NONE, Architecture, Placement
from spaces.space import SearchSpace


class Switch(nn.Module):
    """All attentions that one site can have; the active one runs, None passes the map through."""

    def __init__(self, channels: int, identity_init: bool) -> None:
        super().__init__()
        self.channels, self.identity_init = channels, identity_init
        self.choices = nn.ModuleDict()
        self.active: str | None = None
        self.uses: Counter[str] = Counter()  # paths with each choice since the last average of gradients

    def select(self, placement: Placement) -> nn.Module | None:
        """Make a placement the active one; its module when it is new."""
        self.active = str(placement)
        self.uses[self.active] += 1
        if self.active in self.choices:
            return None
        module = create_attention(placement.type, self.channels, **placement.genes, identity_start=self.identity_init)
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
                    if like.device.type == "cpu":
                        use_fast_convolutions(module)
                    made.extend(module.parameters())
        return made

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, K) of the active path."""
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


class Average:
    """A running average of weights that may grow in number: the decay rises to `decay`, so that first steps are forgotten."""

    def __init__(self, weights: Iterable[nn.Parameter], decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.weights: list[Tensor] = []
        self.averages: list[Tensor] = []
        self.add(weights)

    def add(self, weights: Iterable[nn.Parameter]) -> None:
        """Average these as well, from their present values on."""
        for weight in weights:
            self.weights.append(weight.detach())
            self.averages.append(weight.detach().clone())

    def update(self) -> None:
        """average += (1 - d) (weight - average), after an optimizer's step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.averages, self.weights, 1 - decay)

    def store(self) -> None:
        """Put the averages into the weights' place."""
        for weight, average in zip(self.weights, self.averages, strict=True):
            weight.copy_(average)


def train_supernet(
    space: SearchSpace,
    data: Data,
    recipe: Recipe,
    *,
    epochs: int,
    seed: int,
    device: torch.device,
    identity_init: bool = True,
    paths: int | None = None,
    sandwich: bool = False,
) -> Supernet:
    """Train all paths of a space together, as a candidate is trained: its recipe, and every choice learns in every step.

    A step is the mean gradient over `paths` fairly sampled paths; None: as many as the stage with most choices has, so that
    each weight has as many steps as in a training of its own, and the paths differ as candidates do after as many epochs.
    sandwich: the plain backbone and the largest path besides.
    """
    with seeded(seed, device):
        net = Supernet(
            space.backbone, data.num_classes, data.in_chans, image_size=data.image_size, identity_init=identity_init
        )
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        net = net.to(device).to(memory_format=layout)  # type: ignore[call-overload]  # missing in torch's stubs
        if device.type == "cpu":
            keep_freed_memory()
            use_fast_convolutions(net)
        generator = torch.Generator().manual_seed(seed)
        augment = make_augment(recipe, data)
        train = make_batches(
            data.train, data, recipe.batch_size, device, augment=augment, generator=generator, workers=recipe.workers
        )
        optimizer = make_optimizer(net, recipe)
        schedule = make_schedule(optimizer, recipe, len(train), epochs)
        average = Average(net.parameters(), recipe.ema) if recipe.ema is not None else None
        sampled = fair_paths(space, np.random.default_rng(seed))
        plain = Architecture(space.backbone, (NONE,) * len(net.stages))
        ends = (plain, largest_path(space)) if sandwich else ()
        paths = paths or max(space.sizes)
        micro_batch = train.batch_size
        step = 0
        for epoch in range(1, epochs + 1):
            net.train()
            total_loss = torch.zeros((), device=device)
            for x_BCHW, y_B in train:
                schedule.step_update(step)
                x_BCHW, target = mix(x_BCHW, y_B, data.num_classes, augment, generator)
                for arch in (*ends, *islice(sampled, paths)):
                    made = net.select(arch)
                    add_parameters(optimizer, made, recipe)
                    if average is not None:
                        average.add(made)
                    loss, micro_batch = backward(net, x_BCHW, target, recipe, micro_batch)
                    total_loss += loss
                net.average_gradients(len(ends) + paths)
                if recipe.clip is not None:
                    nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if average is not None:
                    average.update()
                step += 1
            if not float(total_loss) < float("inf"):
                raise EvaluationError(f"the supernet's training loss became {float(total_loss)} in epoch {epoch}")
        if average is not None:
            average.store()
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
    on `calibration` training images and runs over `validation` images of that split (None: all), by class in proportion.
    """

    data: Data
    space: SearchSpace
    recipe: Recipe = field(default_factory=Recipe)
    identity_init: bool = True
    paths: int | None = None
    sandwich: bool = False
    calibration: int = 256
    validation: int | None = 1000
    device: torch.device = field(default_factory=pick_device)
    nets: dict[tuple[int, int], Supernet] = field(default_factory=dict, repr=False)

    @cached_property
    def identity(self) -> str:
        start = "identity" if self.identity_init else "fresh"
        choices = hashlib.blake2b(repr(self.space.choices).encode(), digest_size=6).hexdigest()
        return (
            f"fair supernet {self.data.identity} {self.recipe.digest} {start} {self.paths} {self.sandwich} "
            f"{self.calibration} {self.validation} {choices}"
        )

    def at_home(self) -> Self:
        """The same on the device of this machine, with what was trained."""
        device = pick_device()
        return replace(self, device=device, nets={key: net.to(device) for key, net in self.nets.items()})

    @cached_property
    def _val(self) -> Batches:
        val = part(self.data.val, self.validation)
        return make_batches(val, self.data, VALIDATION_BATCH, self.device, workers=self.recipe.workers)

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
                paths=self.paths,
                sandwich=self.sandwich,
            )
        return self.nets[fidelity, seed]

    def prepare(self, folder: Path, *, fidelity: int, seeds: Sequence[int]) -> None:
        """Train the supernets of these seeds, or read those that are kept in `folder`."""
        for seed in seeds:
            file = folder / f"supernet-s{seed}-e{fidelity}.pt"
            if file.is_file():
                self.nets[fidelity, seed] = self._read(file)
            else:
                partial = file.with_name(file.name + ".partial")
                torch.save({"task": self.identity, "weights": self.net(fidelity, seed).state_dict()}, partial)
                partial.replace(file)

    def _read(self, file: Path) -> Supernet:
        content = torch.load(file, map_location="cpu", weights_only=True)
        if content["task"] != self.identity:
            raise UsageError(
                f"{file} was trained with other data or another recipe; delete it, or choose another folder"
            )
        net = self._new()
        net.load(content["weights"])
        layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        net = net.to(self.device).to(memory_format=layout).eval()  # type: ignore[call-overload]  # missing in torch's stubs
        if self.device.type == "cpu":
            use_fast_convolutions(net)
        return net

    def _new(self) -> Supernet:
        data = self.data
        return Supernet(
            self.space.backbone,
            data.num_classes,
            data.in_chans,
            image_size=data.image_size,
            identity_init=self.identity_init,
        )

    def weights(self, arch: Architecture, fidelity: int, seed: int) -> dict[str, Tensor]:
        """What the supernet learned for `arch`, under the names of its own network."""
        with seeded(seed, self.device):
            return self.net(fidelity, seed).weights(arch)

    def evaluate(
        self,
        arch: Architecture,
        *,
        fidelity: int,
        seed: int,
        report: Report | None = None,
        keep: Path | None = None,
        checkpoint: Path | None = None,
    ) -> Metrics:
        """accuracy and loss of `arch` with the shared weights; `seconds` leaves out the supernet's training.

        `keep` gets the weights of its path. There is nothing to go on with, so no `checkpoint` is written.
        """
        net = self.net(fidelity, seed)
        started = time.perf_counter()
        with seeded(seed, self.device):  # attention that no path of the training had is drawn now
            net.select(arch)
        self._recalibrate(net)
        metrics = validate(net, self._val, self.device, self.recipe.amp)
        metrics["seconds"] = time.perf_counter() - started
        if keep is not None:
            save_weights(net.weights(arch), keep)
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


@dataclass(frozen=True, eq=False)
class SupernetStart(TrainingEvaluator):
    """Trains every candidate from the weights that a supernet has learned for it. fidelity: epochs of that training.

    supernet_epochs: those of the supernet's one training.
    """

    supernet: SupernetEvaluator = field(kw_only=True)
    supernet_epochs: int = field(kw_only=True)

    @cached_property
    def identity(self) -> str:
        return f"{super().identity} from {self.supernet_epochs} epochs of {self.supernet.identity}"

    def prepare(self, folder: Path, *, fidelity: int, seeds: Sequence[int]) -> None:
        """The supernets; their epochs are not those of the candidates."""
        self.supernet.prepare(folder, fidelity=self.supernet_epochs, seeds=seeds)

    def initial_weights(self, arch: Architecture, seed: int) -> Mapping[str, Tensor]:
        """Those of the path through the supernet of this seed."""
        return self.supernet.weights(arch, self.supernet_epochs, seed)
