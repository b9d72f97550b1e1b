"""Measured latency on the device at hand, an additive estimate of it per site, and peak training memory.

Unlike the counts of ``evaluators.cost`` these are measurements: of one machine, with a spread, and only nearly additive.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from spaces.attention import attention_type, create_attention
from spaces.backbone import build_model, describe_backbone, site_shapes
from spaces.errors import UsageError
from spaces.placement import Architecture, Placement


@dataclass(frozen=True)
class Latency:
    """Seconds per call: the median of ``repeats`` and the interquartile range as the spread."""

    seconds: float
    spread: float
    repeats: int

    def to_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "spread": self.spread, "repeats": self.repeats}


def measure(module: nn.Module, x: Tensor, *, repeats: int = 20, warm_up: int = 5, compile: bool = False) -> Latency:
    """Time a module on the device of ``x`` in eval mode without gradients. ``compile``: under torch.compile, whose
    compilation falls into the warm-up. Raises UsageError for fewer than 2 repeats."""
    if repeats < 2:
        raise UsageError(f"latency needs at least 2 repeats, not {repeats}")
    training = module.training
    function: Any = torch.compile(module.eval()) if compile else module.eval()
    try:
        with torch.inference_mode():
            for _ in range(warm_up):
                function(x)
            seconds = [_once(function, x) for _ in range(repeats)]
    finally:
        module.train(training)
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Latency(median, high - low, repeats)


def _once(function: Any, x: Tensor) -> float:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    start = time.perf_counter()
    function(x)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - start


def measure_latency(
    arch: Architecture,
    *,
    image_size: int,
    num_classes: int = 1000,
    in_chans: int = 3,
    batch: int = 1,
    native: str = "keep",
    device: str | torch.device = "cpu",
    compile: bool = False,
    repeats: int = 20,
) -> Latency:
    """Build an architecture and measure it on random images; ``batch=1`` is the latency of a single image."""
    model = build_model(arch, num_classes, in_chans, image_size=image_size, native=native).to(device)
    x_BCHW = torch.randn(batch, in_chans, image_size, image_size, device=device)
    return measure(model, x_BCHW, repeats=repeats, compile=compile)


class LatencyTable:
    """An additive estimate: the plain network's latency plus that of every attention module alone at its site's shape.

    Caches and overlap make whole networks differ from the sum; ``error`` says by how much on this machine. Built-in
    attention is kept. Costs are integer nanoseconds, so that a latency can be a limit in ``spaces.budget``.
    """

    def __init__(
        self,
        backbone: str,
        *,
        image_size: int,
        num_classes: int,
        in_chans: int = 3,
        batch: int = 1,
        device: str | torch.device = "cpu",
        repeats: int = 20,
    ) -> None:
        self.backbone = backbone
        self._setting: dict[str, Any] = {"image_size": image_size, "num_classes": num_classes, "in_chans": in_chans}
        self._setting |= {"batch": batch, "device": device, "repeats": repeats}
        self._batch, self._device, self._repeats = batch, device, repeats
        self._stages = describe_backbone(backbone).stages
        self._shapes = site_shapes(backbone, image_size=image_size, in_chans=in_chans)
        self._known: dict[Any, int] = {}
        self.base = _nanoseconds(measure_latency(Architecture.plain(backbone), **self._setting))

    def stage_costs(self, stage: int, placements: Sequence[Placement]) -> np.ndarray:
        """Estimated nanoseconds that each canonical placement adds at a stage (from 0): (n, 1) integers."""
        return np.array([[self._added(stage, placement)] for placement in placements], dtype=np.int64)

    def estimate(self, arch: Architecture) -> float:
        """Estimated seconds of a whole network."""
        added = sum(self._added(stage, placement) for stage, placement in enumerate(arch.placements))
        return (self.base + added) / 1e9

    def error(self, archs: Sequence[Architecture]) -> tuple[float, float]:
        """Median and greatest relative error of the estimate against the measured latency of whole networks."""
        errors = []
        for arch in archs:
            seconds = measure_latency(arch, **self._setting).seconds
            errors.append(abs(self.estimate(arch) / seconds - 1))
        return statistics.median(errors), max(errors)

    def _added(self, stage: int, placement: Placement) -> int:
        sites = () if placement.is_none else self._stages[stage].sites[placement.site or ""]
        return sum(self._site(self._shapes[site], placement) for site in sites)

    def _site(self, shape: tuple[int, ...], placement: Placement) -> int:
        key = shape, placement.type, attention_type(placement.type).effective(shape[0], **placement.genes)
        if key not in self._known:
            module = create_attention(placement.type, shape[0], **placement.genes).to(self._device)
            x_BCHW = torch.randn(self._batch, *shape, device=self._device)
            self._known[key] = _nanoseconds(measure(module, x_BCHW, repeats=self._repeats))
        return self._known[key]


def _nanoseconds(latency: Latency) -> int:
    return round(latency.seconds * 1e9)


# --- memory -----------------------------------------------------------------------------------------------------------


def training_memory(
    arch: Architecture,
    *,
    batch: int,
    image_size: int,
    num_classes: int = 1000,
    in_chans: int = 3,
    native: str = "keep",
    identity_init: bool = False,
    optimizer_states: int = 1,
) -> int:
    """Estimated peak bytes of one float32 training step, without running it: nothing is allocated or computed.

    Weights, gradients and ``optimizer_states`` (1: SGD with momentum, 2: Adam) of every parameter, buffers, the images, and
    all tensors that autograd saves for the backward pass, found by a forward pass on the meta device. Workspaces of the
    convolution library and the allocator's rounding come on top.
    """
    with torch.device("meta"):
        model = build_model(
            arch, num_classes, in_chans, image_size=image_size, native=native, identity_init=identity_init
        ).train()
        x_BCHW = torch.empty(batch, in_chans, image_size, image_size)
    saved: dict[int, tuple[Any, int]] = {}  # the storages are kept so that no identity is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = (storage, storage.nbytes())
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        nn.functional.cross_entropy(model(x_BCHW), torch.zeros(batch, dtype=torch.long, device="meta"))
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    parameters = {tensor.untyped_storage()._cdata for tensor in model.parameters()}
    activations = sum(size for key, (_, size) in saved.items() if key not in parameters)
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    return weights * (2 + optimizer_states) + buffers + activations + x_BCHW.numel() * x_BCHW.element_size()


def check_memory(arch: Architecture, limit: int, **setting: Any) -> None:
    """Refuse a training that cannot fit before it starts: UsageError where ``training_memory`` exceeds ``limit`` bytes."""
    needed = training_memory(arch, **setting)
    if needed > limit:
        raise UsageError(
            f"{arch} with a batch of {setting['batch']} needs about {needed / 2**30:.2f} GiB to train, "
            f"but there are {limit / 2**30:.2f} GiB; choose a smaller batch"
        )
