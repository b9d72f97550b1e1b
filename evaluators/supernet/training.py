"""Training all paths of a supernet together, once.

Single paths: Guo et al., Single Path One-Shot Neural Architecture Search, 2020. Strict fairness (every choice learns in every
step): Chu et al., FairNAS, 2021. Sandwich rule: Yu et al., BigNAS, 2020. Legend: S stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.outcomes import EvaluationError
from evaluators.recipe import Recipe
from evaluators.speed import keep_freed_memory, use_fast_convolutions
from evaluators.supernet.network import Supernet
from evaluators.tasks.base import Task
from evaluators.training.device import arranged, seeded
from evaluators.training.loop import backward
from evaluators.training.optimizer import make_optimizer, make_schedule
from spaces.attention import create_attention
from spaces.network import NetworkSpec
from spaces.placement import Architecture, Placement
from spaces.space import SearchSpace


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
    stages = space.stages

    def weight(placement: Placement, index: int) -> int:
        if placement.is_none:
            return 0
        sites = stages[index].at(placement.site)
        modules = [create_attention(placement.type, site.channels, **placement.genes, dims=site.dims) for site in sites]
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
    task: Task,
    network: NetworkSpec,
    recipe: Recipe,
    *,
    epochs: int,
    seed: int,
    device: torch.device,
    paths: int | None = None,
    sandwich: bool = False,
) -> Supernet:
    """Train all paths of a space together, as a candidate is trained: its recipe, and every choice learns in every step.

    A step is the mean gradient over `paths` fairly sampled paths; None: as many as the stage with most choices has, so that
    each weight has as many steps as in a training of its own, and the paths differ as candidates do after as many epochs.
    sandwich: the plain backbone and the largest path besides.
    """
    with seeded(seed, device):
        net = Supernet(space.backbone, network)
        arranged(net.to(device), recipe.channels_last)
        if device.type == "cpu":
            keep_freed_memory()
            use_fast_convolutions(net)
        generator = torch.Generator().manual_seed(seed)
        train = task.batches(
            "train",
            batch_size=recipe.batch_size,
            device=device,
            generator=generator,
            recipe=recipe,
            workers=recipe.workers,
        )
        optimizer = make_optimizer(net, recipe)
        schedule = make_schedule(optimizer, recipe, len(train), epochs)
        average = Average(net.parameters(), recipe.ema) if recipe.ema is not None else None
        sampled = fair_paths(space, np.random.default_rng(seed))
        plain = Architecture.plain(space.backbone)
        ends = (plain, largest_path(space)) if sandwich else ()
        paths = paths or max(space.sizes)
        micro_batch = train.batch_size
        step = 0
        for epoch in range(1, epochs + 1):
            net.train()
            total_loss = torch.zeros((), device=device)
            for x_BCHW, target in train:
                schedule.step_update(step)
                for arch in (*ends, *islice(sampled, paths)):
                    made = net.select(arch)
                    add_parameters(optimizer, made, recipe)
                    if average is not None:
                        average.add(made)
                    loss, micro_batch = backward(net, x_BCHW, target, task, recipe, micro_batch)
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
