"""Measured latency on the device at hand, and an additive estimate of it per site.

Unlike the counts of ``evaluators.cost`` these are measurements: of one machine, with a spread, and only nearly additive.
``docs/latency.md`` has the measured error of the estimate.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import theilslopes
from torch import Tensor, nn

from spaces.attention import attention_type, create_attention
from spaces.backbone import Site, build_model, describe_backbone, site_shapes, takes_native_out
from spaces.backbones.insertion import attach
from spaces.errors import UsageError
from spaces.placement import Architecture, Placement


@dataclass(frozen=True)
class Latency:
    """Seconds per call: the median of ``repeats`` and the interquartile range as the spread."""

    seconds: float
    spread: float
    repeats: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


CALIBRATION = 8  # whole networks that a search measures to fit its estimates
WARM_UP = 0.1  # seconds: the first calls choose kernels, and the allocator learns sizes


def measure(module: nn.Module, x: Tensor, *, repeats: int = 20, warm_up: int = 5, compile: bool = False) -> Latency:
    """Time a module on the device of ``x`` in eval mode without gradients, after ``warm_up`` calls and ``WARM_UP`` seconds.

    ``compile``: under torch.compile, whose compilation falls into the warm-up. Raises UsageError for fewer than 2 repeats.
    """
    if repeats < 2:
        raise UsageError(f"latency needs at least 2 repeats, not {repeats}")
    training = module.training
    function: Any = module.eval()
    if compile:
        torch.compiler.reset()  # modules share code: after a few of them the compiler would give up and run them as they are
        function = torch.compile(module)
    try:
        with torch.inference_mode():
            for _ in range(warm_up):
                function(x)
            start = time.perf_counter()
            while time.perf_counter() - start < WARM_UP:
                _once(function, x)
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
        x_BCHW = torch.randn(self.batch, *shape, device=self.device)
        with _threads(self.threads):
            return measure(module.to(self.device), x_BCHW, repeats=self.repeats, compile=self.compile)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure_latency(
    arch: Architecture,
    *,
    image_size: int,
    num_classes: int = 1000,
    in_chans: int = 3,
    native: str = "keep",
    setting: Setting | None = None,
) -> Latency:
    """Build an architecture and measure it whole; the default setting is a single image on one thread of the CPU."""
    model = build_model(arch, num_classes, in_chans, image_size=image_size, native=native)
    return (setting or Setting()).measure(model, (in_chans, image_size, image_size))


@dataclass(frozen=True)
class EstimateError:
    """The estimate against whole networks: relative errors (positive: too high), and Spearman's rank correlation."""

    measured: tuple[float, ...]  # seconds
    median: float
    high: float  # 90 % of the absolute errors are within
    bias: float  # the median of the signed errors
    rank: float


class _Host(nn.Module):
    """A place for one attention module: it is called there as it is in a network."""

    def __init__(self) -> None:
        super().__init__()
        self.site = nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.site(x_BCHW)


class LatencyTable:
    """An additive estimate: the plain network's latency plus that of every attention module alone at its site's shape.

    ``native`` as in ``build_model``: what is removed is not in the plain network, and what is replaced is subtracted as
    measured alone. Of every module what its empty place takes is left out. Caches and overlap make whole networks differ
    from the sum: ``calibrate`` fits the sum to some measured networks, ``error`` says what is left. Costs are integer
    nanoseconds, so that a latency can be a limit in ``spaces.budget``. ``known`` is the ``to_dict`` of an earlier table,
    whose numbers are taken instead of measuring again.

    Raises UsageError where ``known`` was measured for other networks or another setting, or, when something is missing
    in it, on another machine.
    """

    def __init__(
        self,
        backbone: str,
        *,
        image_size: int,
        num_classes: int,
        in_chans: int = 3,
        native: str = "keep",
        setting: Setting | None = None,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        self.setting = setting or Setting()
        self._network: dict[str, Any] = {
            "backbone": backbone,
            "image_size": image_size,
            "num_classes": num_classes,
            "in_chans": in_chans,
            "native": native,
        }
        self.machine = self.setting.machine
        self._stages = describe_backbone(backbone).stages
        self._shapes = site_shapes(backbone, image_size=image_size, in_chans=in_chans)
        self._plain: nn.Module | None = None
        self._found: dict[str, Latency] = {}
        self._line: tuple[float, float]
        if known is not None:
            self._take(known)
        else:
            self._line = (1.0, float(_nanoseconds(self._latency("plain network"))))

    @property
    def base(self) -> int:
        """Estimated nanoseconds of the plain network."""
        return round(self._line[1])

    def calibrate(self, archs: Sequence[Architecture]) -> None:
        """Fit ``slope x (sum of the modules) + intercept`` to measured whole networks and the plain one (Theil and Sen).

        A line that is far from the plain sum is the noise of a busy machine, and is not taken.
        """
        points = [Architecture.plain(self._network["backbone"]), *archs]
        added_N = [sum(self._alone(stage, p) for stage, p in enumerate(arch.placements)) for arch in points]
        measured_N = [_nanoseconds(self.measure(arch)) for arch in points]
        slope, intercept, _, _ = theilslopes(measured_N, added_N)
        if 0.5 < slope < 2 and 0.75 < intercept / self.base < 1.33:
            self._line = (float(slope), float(intercept))

    def stage_costs(self, stage: int, placements: Sequence[Placement]) -> np.ndarray:
        """Estimated nanoseconds that each canonical placement adds at a stage (from 0): (n, 1) integers."""
        return np.array([[self._added(stage, placement)] for placement in placements], dtype=np.int64)

    def total(self, arch: Architecture) -> int:
        """Estimated nanoseconds of a whole network."""
        return self.base + sum(self._added(stage, placement) for stage, placement in enumerate(arch.placements))

    def error(self, archs: Sequence[Architecture]) -> EstimateError:
        """Measure whole networks and compare."""
        return self.against(archs, [self.measure(arch).seconds for arch in archs])

    def against(self, archs: Sequence[Architecture], seconds: Sequence[float]) -> EstimateError:
        """Compare with what whole networks took."""
        measured = np.array(seconds)
        estimated = np.array([self.total(arch) / 1e9 for arch in archs])
        errors = estimated / measured - 1
        ranks = np.corrcoef(_ranks(measured), _ranks(estimated))[0, 1]
        low, high = np.quantile(np.abs(errors), [0.5, 0.9])
        return EstimateError(tuple(measured.tolist()), float(low), float(high), float(np.median(errors)), float(ranks))

    def measure(self, arch: Architecture) -> Latency:
        """The measured latency of a whole network, as the table's own numbers were measured."""
        options = {key: value for key, value in self._network.items() if key != "backbone"}
        return measure_latency(arch, **options, setting=self.setting)

    def to_dict(self) -> dict[str, Any]:
        """What was measured, of what, where and how: the file that a run keeps. Medians and spreads in nanoseconds."""
        return {
            "machine": self.machine,
            "setting": asdict(self.setting),
            "network": self._network,
            "line": self._line,
            "nanoseconds": {
                key: [_nanoseconds(latency), round(latency.spread * 1e9)] for key, latency in self._found.items()
            },
        }

    def _take(self, known: Mapping[str, Any]) -> None:
        for what, mine, theirs in (
            ("network", self._network, known["network"]),
            ("setting", asdict(self.setting) | {"device": ""}, {**known["setting"], "device": ""}),
        ):
            if mine != theirs:
                raise UsageError(f"the latency table was measured with another {what}: {theirs}, not {mine}")
        self.machine = known["machine"]
        self._line = tuple(known["line"])
        self._found = {
            key: Latency(median / 1e9, spread / 1e9, self.setting.repeats)
            for key, (median, spread) in known["nanoseconds"].items()
        }

    def _added(self, stage: int, placement: Placement) -> int:
        return round(self._line[0] * self._alone(stage, placement))

    def _alone(self, stage: int, placement: Placement) -> int:
        """The sum over the stage's sites of what each module takes alone, less what it replaces."""
        empty = _nanoseconds(self._latency("nothing"))
        total = 0
        for site in () if placement.is_none else self._stages[stage].sites[placement.site or ""]:
            shape = self._shapes[site]
            content = (placement.type, *attention_type(placement.type).effective(shape[0], **placement.genes))
            total += max(0, _nanoseconds(self._latency(f"{shape} {content}", shape, placement)) - empty)
        for slot in self._stages[stage].sites.get("slot", ()):
            if self._network["native"] == "replace" and takes_native_out("replace", slot, placement):
                own = self._latency(f"{self._shapes[slot]} {slot.path}", self._shapes[slot], slot.path)
                total -= max(0, _nanoseconds(own) - empty)
        return total

    def _latency(self, key: str, shape: tuple[int, ...] = (), what: Placement | str = "") -> Latency:
        if key not in self._found:
            if self.machine != self.setting.machine:
                raise UsageError(
                    f"the latency of {key} was not measured on {self.machine}, and this is {self.setting.machine}"
                )
            if key == "plain network":
                self._found[key] = self.measure(Architecture.plain(self._network["backbone"]))
            elif key == "nothing":
                self._found[key] = replace(self.setting, compile=False).measure(_Host(), (1, 1, 1))
            elif isinstance(what, Placement):
                host = _Host()
                attach(host, Site("site", shape[0]), create_attention(what.type, shape[0], **what.genes))
                self._found[key] = self.setting.measure(host, shape)
            else:
                self._found[key] = self.setting.measure(self._own().get_submodule(what), shape)
        return self._found[key]

    def _own(self) -> nn.Module:
        """The plain network with the attention of its own."""
        if self._plain is None:
            plain = Architecture.plain(self._network["backbone"])
            self._plain = build_model(plain, 10, self._network["in_chans"], image_size=self._network["image_size"])
        return self._plain


def _nanoseconds(latency: Latency) -> int:
    return round(latency.seconds * 1e9)


def _ranks(values: np.ndarray) -> np.ndarray:
    return values.argsort().argsort().astype(float)
