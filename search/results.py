"""The results of a run as pandas DataFrames: evaluations, one row per architecture, the front, and the pick for a budget."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pandas as pd

from evaluators.cost import METRICS, CostTable
from evaluators.tasks.base import Metric
from search.classes import by_class
from search.command import command
from search.config import Config, load_run_config
from search.confirmed import confirmed, uniform_architectures
from search.evidence import EXPECTED, Evidence, gather
from search.files import read_json, unreadable
from search.front import front_of, summarise
from search.gains import Array, Gains, fit_gains, gain_table
from search.meaning import read_run
from search.objectives import OBJECTIVES, parse_limits
from search.pareto import knee, non_dominated
from search.store import RANDOM, SEARCH, Evaluation, cost_columns, read_journal, to_frame
from spaces import Architecture, Placement
from spaces.errors import UsageError, shortened
from spaces.network import NetworkSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Results:
    """What a run directory holds at this moment; a running search may be read too."""

    folder: Path
    config: Config

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """One row per evaluation of any purpose, as they finished, of one task only: ``others`` are left out."""
        return to_frame(self._journal[0], self.metric.name)

    @property
    def others(self) -> int:
        """How many evaluations in the folder are of other data or recipes, and compare with none of this run's."""
        return self._journal[1]

    @cached_property
    def _journal(self) -> tuple[list[Evaluation], int]:
        """The evaluations of the run's own task, and how many there are of others.

        Each purpose has one identity: that of ``run.json`` where anything has it, else that of its last evaluation.
        """
        found = read_journal(self.folder)
        own = read_run(self.folder).get("identity")
        mine = {one.purpose: one.identity for one in found}
        mine |= {one.purpose: one.identity for one in found if one.identity == own}
        kept = [one for one in found if one.identity == mine[one.purpose]]
        if len(kept) < len(found):
            log.warning(
                "%d evaluations of other data or recipes in %s are left out", len(found) - len(kept), self.folder
            )
        return kept, len(found) - len(kept)

    @cached_property
    def metric(self) -> Metric:
        """What the run's evaluations are judged by, which names the column of their scores."""
        found = read_run(self.folder).get("metric")  # runs of earlier versions have none
        known = {field.name: found[field.name] for field in fields(Metric) if field.name in found} if found else {}
        return Metric(**known)

    @cached_property
    def searched(self) -> pd.DataFrame:
        """The evaluations of the search itself."""
        return self.evaluations[self.evaluations["purpose"] == SEARCH].reset_index(drop=True)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row per architecture of the search: mean and deviation of the metric over its seeds, and exact costs."""
        return summarise(self.searched, self.metric)

    @cached_property
    def random(self) -> pd.DataFrame:
        """One row per architecture of the random search that serves as a baseline; empty where none was run."""
        return summarise(self.evaluations[self.evaluations["purpose"] == RANDOM], self.metric)

    @cached_property
    def confirmed(self) -> pd.DataFrame:
        """One row per architecture that was trained again with fresh seeds; see ``search.confirmed.confirmed``."""
        uniform = uniform_architectures(self.config.space)
        return confirmed(self.evaluations, self.config.search.costs, uniform, self.metric)

    @cached_property
    def by_class(self) -> pd.DataFrame:
        """One row per architecture and class, where the metric has values of classes; see ``search.classes.by_class``."""
        found = self._journal[0]
        return by_class(found, self.data.get("class_names", ()) if any(one.by_class for one in found) else ())

    def classes_of(self, text: str, purpose: str, fidelity: int, seed: int) -> Mapping[str, float]:
        """The values of single classes of one evaluation; none where it told of none."""
        sought = (text, purpose, fidelity, seed)
        found = (one for one in self._journal[0] if (one.architecture, one.purpose, one.fidelity, one.seed) == sought)
        return next((one.by_class for one in found), {})

    @cached_property
    def gains(self) -> Gains:
        """The linear model of the metric behind ``attribution``."""
        return fit_gains(self.evaluations, self.metric)

    @cached_property
    def attribution(self) -> pd.DataFrame:
        """What each (stage, type) gains, and per million FLOPs; see ``search.gains.gain_table``."""
        return gain_table(self.gains, self._added_flops)

    @cached_property
    def data(self) -> dict[str, Any]:
        """What the run's data set asks of a network, and what its images were normalised with: ``data.json``."""
        path, advice = self.folder / "data.json", f"`search --resume {self.folder}` writes it again"
        content: dict[str, Any] = read_json(path, dict, advice)
        try:
            NetworkSpec.from_dict(content)
        except KeyError as error:
            raise unreadable(path, f"it lacks {error}", advice) from None
        except (UsageError, TypeError, ValueError) as error:
            raise unreadable(path, error, advice) from None
        return content

    @cached_property
    def network(self) -> NetworkSpec:
        """What surrounds an architecture in this run."""
        space = self.config.space
        own = {"native": space.native, "identity_start": space.identity_start, "stem": space.stem}
        return NetworkSpec.from_dict({**self.data, **own})

    @cached_property
    def evidence(self) -> Evidence:
        """What search, fresh seeds and baselines tell together of everything that was trained, see ``search.evidence``."""
        return gather(self.evaluations, self.metric)

    def with_evaluations(self) -> Self:
        """The same; raises UsageError where no evaluation is complete."""
        if self.summary.empty:
            raise self._nothing_yet()
        return self

    def _nothing_yet(self) -> UsageError:
        return UsageError(f"{self.folder} has no complete evaluation yet")

    @property
    def front(self) -> pd.DataFrame:
        """The non-dominated architectures of the search by its own scores, by rising cost."""
        return front_of(self.summary, self.config.search.costs, self.metric)

    def front_under(self, limits: Mapping[str, Any]) -> pd.DataFrame:
        """The front among the architectures within limits such as ``{"flops": "310M", "params": "1.05x"}``."""
        return front_of(self.within(limits), self.config.search.costs, self.metric)

    def within(self, limits: Mapping[str, Any], rows: pd.DataFrame | None = None) -> pd.DataFrame:
        """The rows of ``summary``, or those given, that keep the limits; relative ones refer to the plain backbone.

        Raises UsageError for a limit that cannot be read, or where nothing keeps the limits.
        """
        every = self.summary if rows is None else rows
        kept = every
        read = parse_limits(limits, self._plain_costs)
        for cost, limit in read.items():
            kept = kept[kept[cost] <= limit]
        if read and kept.empty:
            least = ", ".join(f"{cost} {OBJECTIVES[cost].unit.brief(every[cost].min())}" for cost in read)
            asked = ", ".join(f"{cost}={limit}" for cost, limit in limits.items())
            raise UsageError(f"nothing that was evaluated keeps {asked}; the least is {least}")
        return kept

    def pick(
        self, limits: Mapping[str, Any], text: str | None = None, among: Collection[str] | None = None
    ) -> pd.Series:
        """The row of ``evidence`` to take: the named architecture, else the best within the limits, else the knee of the front.

        Anything that was trained in the run may be taken, a baseline too. The best has the best expected value, from the
        search, fresh seeds and baselines together: it is not the luckiest seed. ``among``: of these architectures only.

        Raises UsageError where the named one was not trained or nothing keeps the limits.
        """
        rows = self.evidence.rows
        rows = self.within(limits, rows if among is None else rows[rows["architecture"].isin(among)])
        if text is not None:
            named = str(Architecture.parse(text))
            found = rows[rows["architecture"] == named]
            if found.empty:
                known = (self.evidence.rows["architecture"] == named).any()
                raise UsageError(
                    f"{shortened(named)} does not keep the limits"
                    if known
                    else f"{shortened(named)} was not trained in {self.folder}; have it trained: "
                    f"{command('enqueue', self.folder, shortened(named))}"
                )
            return found.iloc[0]
        if rows.empty:
            raise self._nothing_yet()
        if limits:
            return self.evidence.best(rows)
        sign, costs = self.metric.sign, list(self.config.search.costs)
        points = rows.dropna(subset=costs).assign(loss=-sign * rows[EXPECTED])
        front = points[non_dominated(points[["loss", *costs]].to_numpy(float))].sort_values(costs, kind="stable")
        return front.iloc[knee(front[[*costs, "loss"]].to_numpy(float))]

    def reason(self, row: Mapping[Any, Any] | pd.Series) -> str:
        """What speaks for a row of ``evidence``, in words."""
        return self.evidence.reason(dict(row), self.config.search.costs)

    def _added_flops(self, stage: int, placements: Sequence[Placement]) -> Array:
        """The FLOPs that each of these placements adds at a stage, counted from 0."""
        costs = self._cost_table.stage_costs(stage, placements)[:, METRICS.index("flops")]
        return costs.astype(float)

    @cached_property
    def _cost_table(self) -> CostTable:
        return CostTable(self.config.space.backbone, self.network)

    @property
    def costs(self) -> list[str]:
        """The columns of costs, those that are known of no evaluation left out."""
        return [
            cost for cost in cost_columns(self.evaluations, self.metric.name) if self.evaluations[cost].notna().any()
        ]

    @property
    def _plain_costs(self) -> dict[str, float]:
        """The costs of the plain backbone, which every search evaluates first; empty before that."""
        plain = str(Architecture.plain(self.config.space.backbone))
        row = self.evaluations[self.evaluations["architecture"] == plain]
        return (
            {} if row.empty else {cost: float(row.iloc[0][cost]) for cost in self.costs if pd.notna(row.iloc[0][cost])}
        )


def load(folder: str | Path) -> Results:
    """The results of a run directory; raises UsageError where there is none."""
    return Results(Path(folder), load_run_config(folder))
