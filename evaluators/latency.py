"""Measured latency on the device at hand, and an additive estimate of it per stage.

Unlike the counts of ``evaluators.cost`` these are measurements: of one machine, with a spread, and only nearly additive.
``docs/latency.md`` has the measured error of the estimate.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from evaluators.sections import Section
from evaluators.statistics import spearman
from evaluators.training.device import pick_device
from spaces.attention import attention_type
from spaces.errors import UsageError
from spaces.network import NetworkSpec
from spaces.placement import NONE, Architecture, Placement

CALIBRATION = 8  # whole networks that a search measures to fit its estimates
_MEASURED = ("plain", "factor", "shares")  # what a table keeps
WARM_UP_CALLS, WARM_UP_SECONDS = 3, 0.1  # the first calls choose kernels, and the allocator learns sizes
TURN_SECONDS = 0.1  # for which two networks are compared at least: fast ones need more turns


@dataclass(frozen=True)
class Latency:
    """Seconds per call: the median of ``repeats`` and the interquartile range as the spread.

    On one thread of the CPU these are the thread's own seconds, which other processes do not lengthen.
    """

    seconds: float
    spread: float
    repeats: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, high - low, len(seconds))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """Two networks called in turn: the latency of each, and the median over the turns of the second's by the first's.

    A machine's pace changes within seconds (other processes, clock rates), for both alike: the ratio is steadier than either.
    """

    first: Latency
    second: Latency
    ratio: float


def measure(module: nn.Module, x: Tensor, *, repeats: int = 20, compile: bool = False) -> Latency:
    """Time a module on the device of ``x`` in eval mode without gradients, after ``WARM_UP_CALLS`` and ``WARM_UP_SECONDS``.

    ``compile``: under torch.compile, whose compilation falls into the warm-up. Raises UsageError for fewer than 2 repeats.
    """
    training = module.training
    try:
        return Latency.of(_turns([_callable(module.eval(), compile)], x, repeats)[0])
    finally:
        module.train(training)


def _turns(
    functions: Sequence[Callable[[Tensor], Tensor]], x: Tensor, repeats: int, at_least: float = 0.0
) -> list[list[float]]:
    """Seconds of every call, by function: they are called in turn, ``repeats`` times each and for ``at_least`` seconds."""
    if repeats < 2:
        raise UsageError(f"latency needs at least 2 repeats, not {repeats}")
    # what other processes take of a single thread's core is not its latency
    single = x.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if single else time.perf_counter
    with torch.inference_mode():
        start, calls = clock(), 0
        while calls < WARM_UP_CALLS or clock() - start < WARM_UP_SECONDS:
            for function in functions:
                _once(function, x, clock)
            calls += 1
        start = clock()
        turns: list[list[float]] = []
        while len(turns) < repeats or clock() - start < at_least:
            turn = [_once(function, x, clock) for function in functions]
            turns.append(turn if len(turns) % 2 == 0 else turn[::-1])
            functions = functions[::-1]  # or a busy machine could interrupt the same one every time
    return [list(seconds) for seconds in zip(*turns, strict=True)]


def _once(function: Callable[[Tensor], Tensor], x: Tensor, clock: Callable[[], float]) -> float:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    start = clock()
    function(x)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return clock() - start


def _callable(module: nn.Module, compile: bool) -> Callable[[Tensor], Tensor]:
    """The module, or under torch.compile in code of its own.

    All modules of a class share their code, and after a few of them the compiler would give up and run them as they are.
    """
    if not compile:
        return module

    def call(x: Tensor) -> Tensor:
        return module(x)

    own = FunctionType(call.__code__.replace(), call.__globals__, closure=call.__closure__)
    return torch.compile(own, dynamic=False)


@dataclass(frozen=True)
class Setting:
    """How a latency is measured: ``batch`` images at once on ``device`` with ``threads`` of the CPU, median of ``repeats``."""

    batch: int = 1
    device: str = "cpu"
    threads: int = 1
    compile: bool = False
    repeats: int = 20

    @property
    def machine(self) -> str:
        """The name of the device, as its maker gives it."""
        if self.device.startswith("cuda"):
            return torch.cuda.get_device_name(self.device)
        cpuinfo = Path("/proc/cpuinfo")
        names = cpuinfo.read_text().split("\n") if cpuinfo.exists() else []
        named = (line.partition(":")[2].strip() for line in names if line.startswith("model name"))
        return next(named, platform.processor() or platform.machine())

    def measure(self, module: nn.Module, shape: Sequence[int]) -> Latency:
        """The latency of a module on random maps of ``shape`` (C, H, W)."""
        with _threads(self.threads):
            return measure(module.to(self.device), self._images(shape), repeats=self.repeats, compile=self.compile)

    def compare(
        self, first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor], shape: Sequence[int]
    ) -> Comparison:
        """Call two networks in turn on random images of ``shape`` (C, H, W); they are on the device and in eval mode."""
        with _threads(self.threads):
            seconds = _turns([first, second], self._images(shape), self.repeats, at_least=TURN_SECONDS)
        ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True))
        return Comparison(Latency.of(seconds[0]), Latency.of(seconds[1]), ratio)

    def _images(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(self.batch, *shape, device=self.device)


class LatencySection(Section):
    """How latency is measured where it is a cost or a limit."""

    batch: int = Field(default=1, ge=1, le=10**5, description="images at once")
    device: str | None = Field(default=None, description="cpu, cuda, cuda:1 ...; None: the first GPU, else the CPU")
    threads: int = Field(default=1, ge=1, le=1000, description="of the CPU")
    compile: bool = Field(
        default=False, description="under torch.compile; every attention module is then compiled alone"
    )
    repeats: int = Field(default=20, ge=2, le=10**5, description="of which the median counts")

    @field_validator("device")
    @classmethod
    def _can_be_read(cls, device: str | None) -> str | None:
        name, _, number = (device or "cpu").partition(":")
        if name not in ("cpu", "cuda") or (number and not number.isdecimal()):
            raise UsageError(f"device {device!r}; valid: cpu, cuda, cuda:1 ...")
        return device

    def setting(self) -> Setting:
        return Setting(self.batch, self.device or str(pick_device()), self.threads, self.compile, self.repeats)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure_latency(arch: Architecture, network: NetworkSpec, *, setting: Setting | None = None) -> Latency:
    """Build an architecture and measure it whole; the default setting is a single image on one thread of the CPU."""
    model = replace(network, identity_start=False).build(arch)
    return (setting or Setting()).measure(model, network.shape)


@dataclass(frozen=True)
class EstimateError:
    """The estimate against whole networks: relative errors (positive: too high), and Spearman's rank correlation."""

    median: float
    high: float  # 90 % of the absolute errors are within
    bias: float  # the median of the signed errors
    rank: float


class LatencyTable:
    """An additive estimate: the plain network's latency plus what every placement adds to it.

    What a placement adds is measured where it will stand: the network with attention in this one stage and the plain one are
    called in turn. (Alone, on a map of the same shape, attention finds its code and maps in the caches, and takes less
    than in a network.) Native attention that is removed is not in the plain network, and a placement that replaces it adds
    the less. What placements of several stages add to each other ``calibrate`` fits to some whole
    networks; ``error`` says what is left. Costs are integer nanoseconds, so that a latency can be a limit in
    ``spaces.budget``. ``known`` is the ``to_dict`` of an earlier table, whose numbers are taken instead of measuring again.

    Raises UsageError where ``known`` was measured for other networks, in another setting or by another method, or, when
    something is missing in it, on another machine.
    """

    metrics = ("latency",)

    def __init__(
        self,
        backbone: str,
        network: NetworkSpec,
        *,
        setting: Setting | None = None,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        self.setting = setting or Setting()
        self.backbone, self.network = backbone, replace(network, identity_start=False)
        self.machine = self.setting.machine
        self._stages = network.stages(backbone)
        self._factor = 1.0
        self._shares: dict[str, float] = {}  # what placements add alone, as shares of the plain network's latency
        self._plain_seconds: list[float] = []
        if known is not None:
            self._take(known)
        else:
            self._plain_seconds.append(self.setting.measure(self._plain, self.network.shape).seconds)
            self._set_base(self._plain_seconds[0])

    def calibrate(self, archs: Sequence[Architecture]) -> None:
        """Fit a factor to whole networks: of what their placements add together, by the sum of what each adds alone.

        The factor is the one of least absolute error; one outside 0.5 to 2 is noise of a busy machine and not taken. The
        plain network's latency becomes the median over all moments at which it was measured so far.
        """
        alone_N = np.array([sum(self._share(s, p) for s, p in enumerate(arch.placements)) for arch in archs])
        together_N = np.array([self.compare(arch).ratio - 1 for arch in archs])
        some = alone_N > 0
        if some.any():
            factor = _weighted_median(together_N[some] / alone_N[some], weights=alone_N[some])
            self._factor = factor if _plausible(factor) else 1.0
        self._set_base(statistics.median(self._plain_seconds))

    def stage_costs(self, stage: int, placements: Sequence[Placement]) -> np.ndarray:
        """Estimated nanoseconds that each canonical placement adds at a stage (from 0): (n, 1) integers."""
        return np.array([[self._added(stage, placement)] for placement in placements], dtype=np.int64)

    def total(self, arch: Architecture) -> np.ndarray:
        """Estimated nanoseconds of a whole network, (1,)."""
        return self.base + sum(self._added(stage, placement) for stage, placement in enumerate(arch.placements))

    def compare(self, arch: Architecture) -> Comparison:
        """Measure a whole network in turn with the plain one, as the table's own numbers were measured."""
        weights = {id(tensor): tensor for tensor in chain(self._plain.parameters(), self._plain.buffers())}
        network = deepcopy(self._plain, weights)  # which are shared
        self.network.insert(network, arch)
        network = network.to(self.setting.device).eval()
        comparison = self.setting.compare(self._call, _callable(network, self.setting.compile), self.network.shape)
        self._plain_seconds.append(comparison.first.seconds)
        return comparison

    def error(self, archs: Sequence[Architecture], seconds: Sequence[float] | None = None) -> EstimateError:
        """Compare with what whole networks take: ``seconds``, else measured at the pace that ``base`` was measured at."""
        if seconds is None:
            seconds = [self._plain_latency / 1e9 * self.compare(arch).ratio for arch in archs]
        measured = np.array(seconds)
        estimated = np.array([self.total(arch)[0] / 1e9 for arch in archs])
        errors = estimated / measured - 1
        low, high = np.quantile(np.abs(errors), [0.5, 0.9])
        rank = spearman(measured.tolist(), estimated.tolist())
        return EstimateError(float(low), float(high), float(np.median(errors)), rank)

    def to_dict(self) -> dict[str, Any]:
        """What was measured, of what, where and how: the file that a run keeps. ``plain`` is in nanoseconds."""
        return {
            "machine": self.machine,
            "setting": asdict(self.setting),
            "network": self._described,
            "plain": self._plain_latency,
            "factor": self._factor,
            "shares": self._shares,
        }

    def _take(self, known: Mapping[str, Any]) -> None:
        """Take over what an earlier process measured; raises UsageError for another network's, or what is no table."""
        try:
            self._check(known)
            self.machine, self._factor = str(known["machine"]), float(known["factor"])
            self.base = np.array([known["plain"]], dtype=np.int64)
            self._shares = {str(key): float(share) for key, share in known["shares"].items()}
            if not (self.base[0] > 0 and _plausible(self._factor) and np.isfinite([*self._shares.values()]).all()):
                raise ValueError("of numbers that no measurement gives")
        except UsageError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UsageError(
                f"the latency table that was kept (latency_table.json) is damaged: {type(error).__name__} {error}; put back a "
                "whole one, or start a new run"
            ) from None

    def _check(self, known: Mapping[str, Any]) -> None:
        for what, mine, theirs in (
            ("network", self._described, known["network"]),
            ("setting", asdict(self.setting) | {"device": ""}, {**known["setting"], "device": ""}),
            ("method", list(_MEASURED), [key for key in _MEASURED if key in known]),
        ):
            if mine != theirs:
                raise UsageError(f"the latency table was measured with another {what}: {theirs}, not {mine}")

    def _added(self, stage: int, placement: Placement) -> int:
        return round(self._plain_latency * self._factor * self._share(stage, placement))

    def _share(self, stage: int, placement: Placement) -> float:
        """What a placement adds when all other stages get none, as a share of the plain network's latency."""
        if placement.is_none:
            return 0.0
        genes = attention_type(placement.type).effective
        channels = dict.fromkeys(site.channels for site in self._stages[stage].at(placement.site))
        content = [genes(count, **placement.genes) for count in channels]
        key = f"stage {stage + 1}, {placement.site}: {placement.type} {content}"  # equal modules are measured once
        if key not in self._shares:
            if self.machine != self.setting.machine:
                raise UsageError(
                    f"the latency of {placement} in stage {stage + 1} was not measured on {self.machine}, "
                    f"and this is {self.setting.machine}"
                )
            only = (placement if number == stage else NONE for number in range(len(self._stages)))
            # less than nothing, by noise, stays: sums would be too high if only noise of the other sign counted
            self._shares[key] = self.compare(Architecture(self.backbone, tuple(only))).ratio - 1
        return self._shares[key]

    @cached_property
    def _plain(self) -> nn.Module:
        """The plain network on the device."""
        return self.network.build(Architecture.plain(self.backbone)).to(self.setting.device).eval()

    @cached_property
    def _call(self) -> Callable[[Tensor], Tensor]:
        return _callable(self._plain, self.setting.compile)

    @property
    def factor(self) -> float:
        """What placements of several stages add together, by the sum of what each adds alone."""
        return self._factor

    @property
    def _plain_latency(self) -> int:
        return int(self.base[0])

    @property
    def _described(self) -> dict[str, Any]:
        """Of which network the numbers are, for the file that a run keeps."""
        described = self.network.to_dict()
        del described["identity_start"]
        return {"backbone": self.backbone, **described}

    def _set_base(self, seconds: float) -> None:
        self.base = np.array([round(seconds * 1e9)], dtype=np.int64)  # nanoseconds


def _plausible(factor: float) -> bool:
    """Whether a factor between placements alone and together is more than the noise of a busy machine."""
    return 0.5 < factor < 2


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = values.argsort()
    reached = weights[order].cumsum()
    return float(values[order][reached.searchsorted(reached[-1] / 2)])
