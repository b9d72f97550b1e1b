"""Problem: the space, its exact costs and its budget in one value, the same for every sampler, scheduler and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from evaluators.cost import METRICS, CostTable
from evaluators.latency import LatencyTable
from spaces import Architecture, SearchSpace
from spaces.budget import Feasible, parse_limits


@dataclass(frozen=True)
class Problem:
    """Letters: N architectures, S stages, M metrics in the order of ``metrics``.

    With a ``latency`` table its estimate, in integer nanoseconds, is one more metric like the counted ones.
    """

    space: SearchSpace
    table: CostTable
    limits: Mapping[str, int]
    costs: tuple[str, ...] = ("flops",)
    latency: LatencyTable | None = None

    @classmethod
    def build(
        cls,
        space: SearchSpace,
        *,
        image_size: int,
        num_classes: int,
        in_chans: int,
        native: str = "keep",
        budget: Mapping[str, Any] | None = None,
        costs: tuple[str, ...] = ("flops",),
        latency: LatencyTable | None = None,
    ) -> Problem:
        """Count the space and read the budget (``310M``, ``12ms``, or ``1.05x`` relative to the plain backbone).

        Raises UsageError for a limit that cannot be read or that nothing in the space meets.
        """
        table = CostTable(
            space.backbone, image_size=image_size, num_classes=num_classes, in_chans=in_chans, native=native
        )
        plain = cls(space, table, {}, costs, latency).cost(Architecture.plain(space.backbone))
        problem = cls(space, table, parse_limits(budget or {}, plain), costs, latency)
        problem.feasible.count  # noqa: B018 - refuses now, before anything is trained, where nothing fits
        return problem

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        return (*METRICS, "latency") if self.latency else METRICS

    @cached_property
    def base(self) -> np.ndarray:
        """The costs of the plain backbone, (M,)."""
        return np.append(self.table.base, self.latency.base) if self.latency else self.table.base

    def cost(self, arch: Architecture) -> dict[str, int]:
        """The costs of one architecture, of the space or not, by metric."""
        costs = dict(zip(METRICS, self.table.total(arch).tolist(), strict=True))
        return costs | {"latency": self.latency.total(arch)} if self.latency else costs

    @cached_property
    def feasible(self) -> Feasible:
        """The architectures inside the budget, as arithmetic over per-stage costs of the limited metrics."""
        columns = [self.metrics.index(metric) for metric in self.limits]
        return Feasible(
            [stage_NM[:, columns] for stage_NM in self.stage_costs],
            self.base[columns],
            np.array(list(self.limits.values()), dtype=np.int64),
            names=tuple(self.limits),
        )

    @cached_property
    def stage_costs(self) -> tuple[np.ndarray, ...]:
        """For every stage the cost that each of its choices adds, (choices, M)."""
        tables: list[CostTable | LatencyTable] = [self.table, self.latency] if self.latency else [self.table]
        return tuple(
            np.hstack([table.stage_costs(stage, placements) for table in tables])
            for stage, placements in enumerate(self.space.choices)
        )

    def count(self, indices_NS: np.ndarray) -> np.ndarray:
        """The exact costs of many architectures, (N, M) integers."""
        indices_NS = np.atleast_2d(indices_NS)
        return self.base + sum(costs[indices_NS[:, s]] for s, costs in enumerate(self.stage_costs))

    def objectives(self, indices_NS: np.ndarray) -> np.ndarray:
        """The columns of ``count`` that are objectives of the search, (N, len(costs))."""
        return self.count(indices_NS)[:, [self.metrics.index(metric) for metric in self.costs]]

    def ranges(self) -> dict[str, tuple[int, int, int]]:
        """For every metric the cost of the plain backbone, and the least and the greatest of the whole space."""
        least = self.base + sum(costs.min(axis=0) for costs in self.stage_costs)
        most = self.base + sum(costs.max(axis=0) for costs in self.stage_costs)
        return {metric: (int(self.base[m]), int(least[m]), int(most[m])) for m, metric in enumerate(self.metrics)}

    def to_dict(self) -> dict[str, Any]:
        """The space, its size, its budget and its cost ranges, ready for JSON. Latency is in nanoseconds."""
        measured = self.latency.to_dict() if self.latency else {}
        return {
            "backbone": self.space.backbone,
            "stages": [[str(placement) for placement in placements] for placements in self.space.choices],
            "size": self.space.size,
            "feasible": self.feasible.count,
            "limits": dict(self.limits),
            "costs": {
                metric: {"plain": plain, "least": least, "most": most}
                for metric, (plain, least, most) in self.ranges().items()
            },
            **({"latency": {key: measured[key] for key in ("machine", "setting")}} if measured else {}),
        }
