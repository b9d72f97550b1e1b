"""Peak memory of a training, found by simulating one step on the meta device: nothing is allocated and nothing computed.

A trial whose step cannot fit is refused before it starts. ``docs/memory.md`` has measured peaks beside the estimates.
"""

from __future__ import annotations

import os
import re
import weakref
from contextlib import suppress
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from evaluators.outcomes import EvaluationError
from evaluators.tasks.base import Task, Watching
from spaces.attention.pairwise import attended
from spaces.errors import UsageError, shortened
from spaces.meta import shapes_of
from spaces.network import NetworkSpec
from spaces.placement import Architecture
from spaces.protocols import offers

# What comes on top of the tensors: workspaces and reordered copies of the convolution library, rounding, fragments.
# On the CPU also the code that the library generates per shape. docs/memory.md measures what these leave.
MARGIN, FIXED = 1.5, 96 * 2**20

_BYTES = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?)(?:i?B)?", re.IGNORECASE)
MOST_BYTES = 2**60  # more is no memory of anything
_FACTORS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


# The second calls the first, but a mode does not see what a function does that it was shown.
FUSED = (nn.functional.scaled_dot_product_attention, attended)


class _Fused(TorchFunctionMode):
    """Dot-product attention by the fused kernel that the CPU takes, which keeps no scores; on meta tensors torch would."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if func in FUSED and options.keys() <= {"scale"} and len(args) == 3:
            q, k, v = args
            if q.ndim == 4 and q.shape[-1] == v.shape[-1]:  # else the kernel does not take them either
                return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, **options)[0]
        return func(*args, **options)


class _Live(TorchDispatchMode):
    """Bytes of the storages that operators made and that still live, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = shapes_of(func, args, kwargs or {})
        if out is NotImplemented:
            out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.live -= self._sizes.pop(key)


@lru_cache(maxsize=1024)
def training_memory(
    arch: Architecture,
    *,
    task: Task,
    network: NetworkSpec,
    batch: int,
    optimizer_states: int = 1,
    average: bool = False,
    validation_batch: int = 0,
) -> int:
    """Estimated peak bytes of training in float32, beyond what the process holds before it and the data set.

    The greatest of a step's forward and backward pass, its optimizer step and, where ``validation_batch`` is given, a pass
    over so many images without gradients; with weights, gradients, ``optimizer_states`` copies (1: SGD with momentum, 2:
    Adam) and, with ``average``, a copy of the weights. Mixed precision needs less.
    """
    with torch.device("meta"):
        model = network.build(arch).train()
        if offers(task, Watching):
            task.watch(model, arch)
        weights = _bytes(model.parameters())
        held = _bytes(model.buffers()) + weights * (1 + optimizer_states + average)
        image = 4 * prod(network.shape)
        with _Fused(), _Live() as step:
            loss = task.loss(model(*network.example(batch)), task.dummy_target(batch))
            loss.backward()
        # the batch before augmentation; gradients as the step changes them
        peaks = [step.peak + batch * image, 2 * weights]
        if validation_batch:
            with torch.no_grad(), _Fused(), _Live() as validation:
                model.eval()(*network.example(validation_batch))
            peaks.append(validation.peak + validation_batch * image)
    return round(MARGIN * (held + max(peaks))) + FIXED


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def check_memory(arch: Architecture, limit: int, **setting: Any) -> None:
    """Refuse a training that cannot fit: EvaluationError where ``training_memory`` of the setting exceeds ``limit`` bytes."""
    needed = training_memory(arch, **setting)  # in the order given: what is remembered is found by that too
    if needed > limit:
        raise EvaluationError(
            f"not started: training with a batch of {setting['batch']} needs about {needed / 2**20:,.0f} MiB, "
            f"but there are {limit / 2**20:,.0f} MiB"
        )


def parse_memory(text: str | int) -> int:
    """Bytes of ``512M``, ``1.5G`` or ``800 MiB`` (powers of 1024) or a number; raises UsageError for anything else."""
    read = _BYTES.fullmatch(text.strip() if isinstance(text, str) else f"{text:d}" if 0 < text < MOST_BYTES else "")
    size = 0.0 if isinstance(text, bool) or not read else float(read[1]) * _FACTORS[read[2].upper()]
    if not 1 <= size < MOST_BYTES:
        raise UsageError(f"cannot read {shortened(text)} as memory; valid: 512M, 1.5G or a number of bytes")
    return int(size)


def free_memory(device: torch.device) -> int:
    """Bytes that a process may still take: of the GPU, or of the main memory within the limit of its control group."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    found = [_available()]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        group = Path("/sys/fs/cgroup")
        with suppress(OSError, ValueError):  # no such group, or the limit is the word "max"
            found.append(int((group / limit).read_text()) - int((group / used).read_text()))
    return max(0, min(found))


def _available() -> int:
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # not Linux: all there is
