"""A training pass as two CUDA graphs: small networks leave a GPU waiting for the CPU, which launches every operator.

A graph is recorded once and replayed (PyTorch's ``torch.cuda.make_graphed_callables``; Nguyen et al., "Accelerating PyTorch
with CUDA Graphs", 2021). What a recording cannot hold, such as code that looks at values, would be lost without a word: so
the loss and the gradients of one batch are computed both ways, and where they differ the network is trained as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from evaluators.recipe import Recipe
from evaluators.tasks.base import Task
from evaluators.training.device import autocast

logger = logging.getLogger(__name__)
make_graphed: Any = torch.cuda.make_graphed_callables  # torch's stubs know less of it than it does

ALIKE = 0.05  # by how much the gradients may differ, of their norm: kernels of half precision add in any order


class _Pass(nn.Module):
    """The forward pass in the recipe's precision; without autocast's cache of cast weights, which a graph cannot keep."""

    def __init__(self, model: nn.Module, amp: str) -> None:
        super().__init__()
        self.model, self.amp = model, amp

    def forward(self, x_BCHW: Tensor) -> Any:
        with autocast(x_BCHW.device, self.amp, cache=False):
            return self.model(x_BCHW)


class Replayed:
    """A network whose training passes over whole batches are replayed; anything else goes through the network itself."""

    def __init__(self, model: nn.Module, replay: nn.Module, shape: torch.Size) -> None:
        self.model, self._replay, self._shape = model, replay, shape

    def __call__(self, x_BCHW: Tensor) -> Any:
        if self.model.training and torch.is_grad_enabled() and x_BCHW.shape == self._shape:
            return self._replay(x_BCHW)
        return self.model(x_BCHW)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.model.zero_grad(set_to_none=set_to_none)


def replayed(model: nn.Module, task: Task, recipe: Recipe, batch: int, device: torch.device) -> Replayed | nn.Module:
    """The network with its training passes over so many images recorded, or as it is where they cannot be; see the module.

    Weights, statistics and the state of the random numbers are what they were before.
    """
    buffers = [buffer.clone() for buffer in model.buffers()]
    random = torch.cuda.get_rng_state(device)

    def restore() -> None:
        model.zero_grad(set_to_none=True)
        for buffer, kept in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(kept)
        torch.cuda.set_rng_state(random, device)

    (x_BCHW,) = (x.to(device) for x in task.network.example(batch, seed=0))
    if recipe.channels_last and x_BCHW.dim() == 4:
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
    if hasattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch"):
        # gradients are added on the stream of the recording, which waits for the one of the replay, as it has to
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    target = tree_map(lambda value: value.to(device) if isinstance(value, Tensor) else value, task.dummy_target(batch))
    model.train()
    try:
        _refuse_waiting(_Pass(model, recipe.amp), x_BCHW)
        restore()
        expected = _gradients(model, _Pass(model, recipe.amp), x_BCHW, task, target, recipe)
        restore()
        made = make_graphed(_Pass(model, recipe.amp), (x_BCHW,), allow_unused_input=True)
        restore()
        found = Replayed(model, made, x_BCHW.shape)
        difference = _difference(expected, _gradients(model, found, x_BCHW, task, target, recipe))
        restore()
        again = _difference(expected, _gradients(model, found, x_BCHW, task, target, recipe))
        if max(difference, again) <= ALIKE:
            restore()
            return found
        reason = f"its gradients differ by {max(difference, again):.0%} when replayed"
    except (
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:  # what torch raises for what it cannot record, memory included
        reason = " ".join(str(error).split())[:200]
    # A recording that broke off leaves the random numbers inside of it: they go on from a state of their own.
    torch.cuda.default_generators[device.index or 0].graphsafe_set_state(torch.Generator(device).graphsafe_get_state())
    restore()
    logger.info("trained without CUDA graphs: %s", reason)
    return model


def _refuse_waiting(forward: nn.Module, x_BCHW: Tensor) -> None:
    """Raise RuntimeError where a pass waits for the device, which a recording cannot, and breaks off."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        leaves = [leaf for leaf in tree_leaves(forward(x_BCHW)) if isinstance(leaf, Tensor) and leaf.requires_grad]
        torch.autograd.backward(leaves, [torch.zeros_like(leaf) for leaf in leaves])
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _gradients(
    model: nn.Module, forward: Callable[[Tensor], Any], x_BCHW: Tensor, task: Task, target: Any, recipe: Recipe
) -> Tensor:
    """The loss and all gradients of a batch in one vector."""
    with autocast(x_BCHW.device, recipe.amp):
        loss = task.loss(forward(x_BCHW), target, smoothing=recipe.label_smoothing)
    loss.backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    return torch.cat([loss.detach().float().reshape(1), *(one.float().reshape(-1) for one in gradients)])


def _difference(expected: Tensor, found: Tensor) -> float:
    """How far the found vector lies from the expected one, as a share of its norm; infinite where one is not finite."""
    if expected.shape != found.shape:
        return float("inf")
    share = float((found - expected).norm() / expected.norm().clamp_min(1e-12))
    return share if share == share else float("inf")
