"""Problem: the space, its exact costs and its budget in one value, the same for every sampler, scheduler and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from search.objectives import OBJECTIVES, parse_limits
from search.tables import Costing, Kept, Table
from spaces import Architecture, SearchSpace
from spaces.budget import Feasible
from spaces.network import NetworkSpec
from spaces.protocols import offers


@dataclass(frozen=True)
class Problem:
    """Letters: N architectures, S stages, M metrics in the order of ``metrics``.

    ``tables`` hold the costs: those that are counted, then those that are measured. ``limits`` are upper bounds, ``costs``
    the objectives of the search besides its task's metric; both by name.
    """

    space: SearchSpace
    tables: tuple[Table, ...]
    limits: Mapping[str, int]
    costs: tuple[str, ...] = ("flops",)

    @classmethod
    def build(
        cls,
        space: SearchSpace,
        network: NetworkSpec,
        *,
        budget: Mapping[str, Any] | None = None,
        costs: tuple[str, ...] = ("flops",),
        costing: Costing | None = None,
        known: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Problem:
        """Count the space and read the budget (``310M``, ``12ms``, or ``1.05x`` relative to the plain backbone).

        ``costing``: how tables are made, else with their defaults. ``known``: by objective what an earlier process kept.
        Raises UsageError for an unknown objective, a limit that cannot be read, or one that nothing in the space meets.
        """
        costing = costing or Costing(space, network)
        wanted = [*(name for name, one in OBJECTIVES.items() if one.counted), *costs, *(budget or {})]
        makers = {OBJECTIVES[name].tabulate: name for name in reversed(wanted)}  # a table once, by its first name
        names = sorted(makers.values(), key=wanted.index)
        tables = tuple(OBJECTIVES[name].tabulate(replace(costing, known=(known or {}).get(name))) for name in names)
        plain = cls(space, tables, {}, costs).cost(Architecture.plain(space.backbone))
        problem = cls(space, tables, parse_limits(budget or {}, plain), costs)
        problem.feasible.count  # noqa: B018 - refuses now, before anything is trained, where nothing fits
        return problem

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        return tuple(name for table in self.tables for name in table.metrics)

    @cached_property
    def base(self) -> np.ndarray:
        """The costs of the plain backbone, (M,)."""
        return np.concatenate([table.base for table in self.tables])

    def cost(self, arch: Architecture) -> dict[str, int]:
        """The costs of one architecture, of the space or not, by metric."""
        totals = np.concatenate([table.total(arch) for table in self.tables])
        return dict(zip(self.metrics, totals.tolist(), strict=True))

    @cached_property
    def feasible(self) -> Feasible:
        """The architectures inside the budget, as arithmetic over per-stage costs of the limited metrics."""
        columns = [self.metrics.index(metric) for metric in self.limits]
        return Feasible(
            [stage_NM[:, columns] for stage_NM in self.stage_costs],
            self.base[columns],
            np.array(list(self.limits.values()), dtype=np.int64),
            names=tuple(self.limits),
            show=[OBJECTIVES[metric].unit.brief for metric in self.limits],
        )

    @cached_property
    def candidates(self) -> int:
        """How many architectures a search can evaluate: those inside the budget, and the plain backbone in any case."""
        plain = Architecture.plain(self.space.backbone)
        inside = plain in self.space and self.feasible.contains(self.space.indices(plain)[None])[0]
        return self.feasible.count + (not inside)

    @cached_property
    def stage_costs(self) -> tuple[np.ndarray, ...]:
        """For every stage the cost that each of its choices adds, (choices, M)."""
        return tuple(
            np.hstack([table.stage_costs(stage, placements) for table in self.tables])
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
            **{
                name: {key: made[key] for key in ("machine", "setting") if key in made}
                for name, made in self.kept.items()
            },
        }

    @property
    def kept(self) -> dict[str, dict[str, Any]]:
        """What a run has to keep to see the same costs when it goes on: the tables that were measured, by objective."""
        return {table.metrics[0]: table.to_dict() for table in self.tables if offers(table, Kept)}
