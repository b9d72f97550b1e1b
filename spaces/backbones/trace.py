"""One forward pass of a network on the meta device, recorded: which module ran when, on which tensors, and what was alive.

No weight is allocated and nothing is computed, so any network is traced in a fraction of a second.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spaces.meta import ShapesOnly


@dataclass
class Call:
    """One call of a module: ``ops[start:end]`` ran inside it; tensors are numbered in the order they appear."""

    path: str
    module: nn.Module
    start: int
    inputs: tuple[int, ...]
    end: int = -1
    output: int = -1  # -1: the module did not return one tensor
    shape: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()  # all tensors in what it returned


@dataclass(frozen=True)
class Op:
    name: str
    inputs: tuple[int, ...]  # tensors that depend on the network's input; weights and constants are left out
    outputs: tuple[int, ...]


@dataclass
class Trace:
    """Calls in the order they started, operators in the order they ran, and the shape of every tensor."""

    calls: list[Call] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def by_path(self) -> dict[str, list[Call]]:
        found: dict[str, list[Call]] = {}
        for call in self.calls:
            found.setdefault(call.path, []).append(call)
        return found

    def behind(self, end: int) -> set[int]:
        """The tensors that a tensor was made from, itself among them."""
        needed = {end}
        for op in reversed(self.ops):
            if needed.intersection(op.outputs):
                needed.update(op.inputs)
        return needed

    def alive(self, end: int | None = None) -> list[int]:
        """For every moment t, how many tensors made before operator t are still needed by operator t or a later one.

        ``end``: needed for making this tensor, which is all that the network is then for; None: needed at all.
        """
        wanted = None if end is None else self.behind(end)
        born = {0: 0}
        last = {0: 0}
        for moment, op in enumerate(self.ops):
            if wanted is not None and not wanted.intersection(op.outputs):
                continue
            for tensor in op.outputs:
                born.setdefault(tensor, moment + 1)
            for tensor in (*op.inputs, *op.outputs):
                last[tensor] = moment
        final = end if end is not None else self.calls[0].output if self.calls else -1
        if final in born:
            last[final] = len(self.ops)
        change = [0] * (len(self.ops) + 2)
        for tensor, birth in born.items():
            if last[tensor] >= birth:
                change[birth] += 1
                change[last[tensor] + 1] -= 1
        return list(itertools.accumulate(change))[: len(self.ops) + 1]


class _Recorder(TorchDispatchMode):
    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace
        self.numbers: dict[int, int] = {}
        self.kept: list[Tensor] = []  # an id is unique only while its tensor lives

    def number(self, tensor: Tensor) -> int:
        if id(tensor) not in self.numbers:
            self.numbers[id(tensor)] = len(self.kept)
            self.kept.append(tensor)
            self.trace.shapes.append(tuple(tensor.shape))
        return self.numbers[id(tensor)]

    def known(self, values: Any) -> tuple[int, ...]:
        tensors = (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
        return tuple(self.numbers[id(tensor)] for tensor in tensors if id(tensor) in self.numbers)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        inputs = self.known((args, kwargs))
        if inputs:
            outputs = tuple(self.number(leaf) for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
            self.trace.ops.append(Op(func.overloadpacket.__name__, inputs, outputs))
        return out


def record(model: nn.Module, x_BCHW: Tensor) -> Trace:
    """Run ``model`` once in eval mode and record it. The model keeps its mode and has no hook left afterwards."""
    trace = Trace()
    recorder = _Recorder(trace)
    recorder.number(x_BCHW)
    open_calls: list[Call] = []
    handles = []

    def watch(path: str, module: nn.Module) -> None:
        def enter(_: nn.Module, args: Any, kwargs: Any) -> None:
            call = Call(path, module, len(trace.ops), recorder.known((args, kwargs)))
            trace.calls.append(call)
            open_calls.append(call)

        def leave(_: nn.Module, args: Any, out: Any) -> None:
            call = open_calls.pop()
            call.end = len(trace.ops)
            call.outputs = recorder.known(out)
            if isinstance(out, Tensor) and id(out) in recorder.numbers:
                call.output, call.shape = recorder.numbers[id(out)], tuple(out.shape)

        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave))

    for path, module in model.named_modules():
        watch(path, module)
    training = model.training
    try:
        with torch.no_grad(), ShapesOnly(), recorder:
            model.eval()(x_BCHW)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return trace
