"""Tables of additive costs: counted, measured, or found by asking a function of networks for differences."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from evaluators.cost import CostTable
from evaluators.latency import CALIBRATION, LatencySection, LatencyTable
from spaces.errors import UsageError
from spaces.network import NetworkSpec
from spaces.placement import NONE, Architecture, Placement
from spaces.space import SearchSpace

log = logging.getLogger(__name__)


class Table(Protocol):
    """Additive costs over one backbone: ``metrics`` names its M columns, ``base`` (M,) holds the plain network's."""

    @property
    def metrics(self) -> tuple[str, ...]: ...

    base: np.ndarray

    def stage_costs(self, stage: int, placements: Sequence[Placement]) -> np.ndarray:
        """What each canonical placement adds at a stage (from 0): (n, M) integers."""
        ...

    def total(self, arch: Architecture) -> np.ndarray:
        """The costs of one architecture, (M,) integers."""
        ...


class Kept(Protocol):
    """A table that was measured: a run keeps it, so that it sees the same costs when it goes on."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON, which ``Costing.known`` gives back."""
        ...


@dataclass(frozen=True)
class Costing:
    """What a table is made for: ``known`` is what an earlier process of the run kept of it, ``latency`` how it is measured."""

    space: SearchSpace
    network: NetworkSpec
    seed: int = 0
    latency: LatencySection | None = None
    known: Mapping[str, Any] | None = None


def count(costing: Costing) -> Table:
    """Parameters, MACs, FLOPs and activations, counted by fvcore."""
    return CostTable(costing.space.backbone, costing.network)


def measure_latency(costing: Costing) -> Table:
    """Nanoseconds on this machine; placements are measured when their costs are asked for."""
    setting = (costing.latency or LatencySection()).setting()
    if costing.known is None:
        if setting.device.startswith("cuda") and not torch.cuda.is_available():
            raise UsageError(f"search.latency.device = {setting.device!r}: this machine has no GPU; valid: cpu")
        log.warning("measuring the latency of the space's placements on %s", setting.device)
    table = LatencyTable(costing.space.backbone, costing.network, setting=setting, known=costing.known)
    if costing.known is None:
        rows = costing.space.sample(np.random.default_rng(costing.seed), CALIBRATION)
        table.calibrate([costing.space.architecture(row) for row in rows])
    return table


def by_difference(name: str, measure: Callable[[nn.Module], int]) -> Callable[[Costing], Table]:
    """A ``tabulate`` from a function of a network: what a placement adds is the difference to the plain network.

    ``measure`` gets networks on the meta device, whose weights have shapes but no content, and gives a whole number.
    """
    return lambda costing: DifferenceTable(name, measure, costing.space.backbone, costing.network)


class DifferenceTable:
    """The additive table of a function of networks: each (stage, placement) is asked for once."""

    def __init__(self, name: str, measure: Callable[[nn.Module], int], backbone: str, network: NetworkSpec) -> None:
        self.metrics = (name,)
        self._measure, self._backbone = measure, backbone
        self._network = replace(network, identity_start=False)  # a matter of training, not of the architecture
        self._stages = len(network.stages(backbone))
        self._known: dict[tuple[int, Placement], int] = {}
        self.base = np.array([self._of(Architecture.plain(backbone))], dtype=np.int64)

    def stage_costs(self, stage: int, placements: Sequence[Placement]) -> np.ndarray:
        return np.array([[self._added(stage, placement)] for placement in placements], dtype=np.int64).reshape(-1, 1)

    def total(self, arch: Architecture) -> np.ndarray:
        return self.base + sum(self._added(stage, placement) for stage, placement in enumerate(arch.placements))

    def _added(self, stage: int, placement: Placement) -> int:
        if (stage, placement) not in self._known:
            alone = tuple(placement if number == stage else NONE for number in range(self._stages))
            self._known[stage, placement] = self._of(Architecture(self._backbone, alone)) - int(self.base[0])
        return self._known[stage, placement]

    def _of(self, arch: Architecture) -> int:
        with torch.device("meta"):
            return int(self._measure(self._network.build(arch)))
