"""Problem: the space, its exact costs and its budget in one value, the same for every sampler, scheduler and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from evaluators.cost import METRICS, CostTable
from spaces import Architecture, SearchSpace
from spaces.budget import Feasible, parse_limits


@dataclass(frozen=True)
class Problem:
    """Letters: N architectures, S stages, M metrics in the order of ``METRICS``."""

    space: SearchSpace
    table: CostTable
    limits: Mapping[str, int]
    costs: tuple[str, ...] = ("flops",)

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
    ) -> Problem:
        """Count the space and read the budget (``310M``, or ``1.05x`` relative to the plain backbone).

        Raises UsageError for a limit that cannot be read or that nothing in the space meets.
        """
        table = CostTable(
            space.backbone, image_size=image_size, num_classes=num_classes, in_chans=in_chans, native=native
        )
        plain = table.cost(Architecture.plain(space.backbone))
        limits = parse_limits(budget or {}, {metric: getattr(plain, metric) for metric in METRICS})
        problem = cls(space, table, limits, costs)
        problem.feasible.count  # noqa: B018 - refuses now, before anything is trained, where nothing fits
        return problem

    @cached_property
    def feasible(self) -> Feasible:
        """The architectures inside the budget, as arithmetic over per-stage costs of the limited metrics."""
        columns = [METRICS.index(metric) for metric in self.limits]
        return Feasible(
            [stage_NM[:, columns] for stage_NM in self.stage_costs],
            self.table.base[columns],
            np.array(list(self.limits.values()), dtype=np.int64),
            names=tuple(self.limits),
        )

    @cached_property
    def stage_costs(self) -> tuple[np.ndarray, ...]:
        """For every stage the cost that each of its choices adds, (choices, M)."""
        return tuple(self.table.stage_costs(stage, placements) for stage, placements in enumerate(self.space.choices))

    def count(self, indices_NS: np.ndarray) -> np.ndarray:
        """The exact costs of many architectures, (N, M) integers."""
        indices_NS = np.atleast_2d(indices_NS)
        return self.table.base + sum(costs[indices_NS[:, s]] for s, costs in enumerate(self.stage_costs))

    def objectives(self, indices_NS: np.ndarray) -> np.ndarray:
        """The columns of ``count`` that are objectives of the search, (N, len(costs))."""
        return self.count(indices_NS)[:, [METRICS.index(metric) for metric in self.costs]]

    def ranges(self) -> dict[str, tuple[int, int, int]]:
        """For every metric the cost of the plain backbone, and the least and the greatest of the whole space."""
        least = self.table.base + sum(costs.min(axis=0) for costs in self.stage_costs)
        most = self.table.base + sum(costs.max(axis=0) for costs in self.stage_costs)
        return {metric: (int(self.table.base[m]), int(least[m]), int(most[m])) for m, metric in enumerate(METRICS)}

    def to_dict(self) -> dict[str, Any]:
        """The space, its size, its budget and its cost ranges, ready for JSON."""
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
        }
