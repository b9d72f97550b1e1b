"""Fronts of evaluations: one row per architecture, which of them nothing dominates, and that front as it grows.

``cost`` columns are all columns of a frame of evaluations that are not among ``store.FIXED`` and not the metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from evaluators.metric import Metric
from search.pareto import dominates, non_dominated
from search.store import COMPLETE, Evaluation, cost_columns, to_frame

ACCURACY = Metric()


class RunningFront:
    """The front of evaluations as they come, equal to ``front_of(summarise(...))`` of them all, at the cost of its size.

    For evaluations of one fidelity, each architecture once with all its seeds, as a search makes them.
    """

    def __init__(self, costs: tuple[str, ...] = ("flops",), metric: Metric = ACCURACY) -> None:
        self.costs, self.metric = costs, metric
        self._members: list[tuple[Evaluation, ...]] = []

    def add(self, *seeds: Evaluation) -> bool:
        """Whether the architecture of these evaluations belongs to the front now; what it dominates leaves."""
        if any(evaluation.state != COMPLETE for evaluation in seeds):
            return False
        point = self._point(seeds)
        if any(dominates(self._point(member), point) for member in self._members):
            return False
        self._members = [member for member in self._members if not dominates(point, self._point(member))]
        self._members.append(seeds)
        return True

    @property
    def architectures(self) -> set[str]:
        return {member[0].architecture for member in self._members}

    @property
    def frame(self) -> pd.DataFrame:
        """The rows of ``front_of``."""
        rows = [seed for member in self._members for seed in member]
        return front_of(summarise(to_frame(rows, self.metric.name), self.metric), self.costs, self.metric)

    @property
    def words(self) -> str:
        scores = [mean_of(member).score for member in self._members]
        if not scores:
            return "front 0"
        best = max(scores, key=lambda score: self.metric.sign * score)
        return f"front {len(scores)}, best {best:.4f}"

    def _point(self, seeds: tuple[Evaluation, ...]) -> tuple[float, ...]:
        return (-self.metric.sign * mean_of(seeds).score, *(seeds[0].costs[cost] for cost in self.costs))


def by_architecture(evaluations: Iterable[Evaluation]) -> dict[str, list[Evaluation]]:
    """The evaluations of each architecture: one for each seed."""
    found: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        found.setdefault(evaluation.architecture, []).append(evaluation)
    return found


def mean_of(seeds: Sequence[Evaluation]) -> Evaluation:
    """One architecture's evaluations as one: the mean score; the last one's state, which is that of a failure too."""
    return replace(seeds[-1], score=float(np.mean([evaluation.score for evaluation in seeds])))


def summarise(frame: pd.DataFrame, metric: Metric = ACCURACY) -> pd.DataFrame:
    """One row per architecture, over the seeds of its complete evaluations at the highest fidelity of the frame.

    Columns: architecture, the metric (mean), METRIC_std (sample; NaN for one seed), seeds, fidelity, every cost; sorted by
    FLOPs, then the better ones first.
    """
    done = frame[frame["state"] == COMPLETE]
    done = done[done["fidelity"] == done["fidelity"].max()]
    rows = done.groupby("architecture", sort=False, as_index=False).agg(
        **{
            metric.name: (metric.name, "mean"),
            f"{metric.name}_std": (metric.name, "std"),
            "seeds": ("seed", "nunique"),
            "fidelity": ("fidelity", "first"),
            **{cost: (cost, "first") for cost in cost_columns(frame, metric.name)},
        }
    )
    return rows.sort_values(["flops", metric.name], ascending=[True, not metric.higher_is_better], ignore_index=True)


def ranked(rows: pd.DataFrame, metric: Metric, column: str | None = None) -> pd.DataFrame:
    """Rows with the best value of the metric first; ``column``: another column that holds values of it."""
    return rows.sort_values(column or metric.name, ascending=not metric.higher_is_better, kind="stable")


def front_of(summary: pd.DataFrame, costs: Sequence[str] = ("flops",), metric: Metric = ACCURACY) -> pd.DataFrame:
    """The rows of ``summarise`` that no other row dominates in the metric and the costs (less), by rising cost."""
    if summary.empty:
        return summary
    points = np.column_stack([-metric.sign * summary[metric.name], *(summary[cost] for cost in costs)])
    return summary[non_dominated(points)].sort_values(list(costs), ignore_index=True)
