"""The results of a run as pandas DataFrames: evaluations, one row per architecture, the front, and the pick for a budget."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from evaluators.metric import Metric
from search.classes import by_class
from search.command import command
from search.confirmed import confirmed, uniform_architectures
from search.evidence import EXPECTED, Evidence, gather
from search.files import read_json, unreadable, write_whole
from search.front import front_of, summarise
from search.gains import Array, Gains, fit_gains, gain_table
from search.kept import kept_path, kept_values, read_run
from search.objectives import OBJECTIVES, parse_limits
from search.pareto import knee
from search.store import RANDOM, SEARCH, Evaluation, cost_columns, read_journal, to_frame
from spaces.errors import UsageError, shortened
from spaces.plugins import load_plugins
from spaces.written import Written, is_plain, placements_of

if TYPE_CHECKING:
    from evaluators.cost import CostTable
    from search.config import Config
    from spaces.network import NetworkSpec

# The front of a run needs its journal alone. What builds networks (torch, timm) is imported where it is asked for.

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Results:
    """What a run directory holds at this moment; a running search may be read too."""

    folder: Path

    @cached_property
    def config(self) -> Config:
        """The configuration, validated. Raises UsageError where a key of it is wrong."""
        from search.config import load_run_config

        return load_run_config(self.folder)

    @cached_property
    def minimised(self) -> tuple[str, ...]:
        """The costs that the search minimises besides the metric, as ``config.search.costs``."""
        values = kept_values(kept_path(self.folder))
        load_plugins(values.get("plugins") or ())  # they may bring objectives
        section = values["search"]
        costs = section.get("costs") if isinstance(section, dict) else None
        if costs and isinstance(costs, list) and all(isinstance(one, str) and one in OBJECTIVES for one in costs):
            return tuple(costs)
        return self.config.search.costs  # which says what is wrong

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
        return confirmed(self.evaluations, self.minimised, uniform, self.metric)

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
        from spaces.network import NetworkSpec

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
        from spaces.network import NetworkSpec

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
        return front_of(self.summary, self.minimised, self.metric)

    def recommended(self, limits: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """The front to choose from, by rising cost: what nothing else within the limits beats in expected value and costs.

        Every architecture that was trained takes part, baselines too. ``pick`` takes one of these rows; for their columns see
        ``search.evidence``. Raises UsageError as ``within``.
        """
        return self.evidence.front(self.minimised, self.within(limits or {}, self.evidence.rows))

    def write_front(self) -> None:
        """``front.csv``: the recommended front, replaced atomically. Raises OSError."""
        write_whole(self.folder / "front.csv", self.recommended().to_csv(index=False))

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
            from spaces.placement import Architecture

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
        front = self.evidence.front(self.minimised, rows)
        losses = front[list(self.minimised)].assign(loss=-self.metric.sign * front[EXPECTED])
        return front.iloc[knee(losses.to_numpy(float))]

    def reason(self, row: Mapping[Any, Any] | pd.Series) -> str:
        """What speaks for a row of ``evidence``, in words."""
        return self.evidence.reason(dict(row), self.minimised)

    def _added_flops(self, stage: int, placements: Sequence[Written]) -> Array:
        """The FLOPs that each of these placements adds at a stage, counted from 0."""
        from evaluators.counting import METRICS
        from spaces.placement import Placement

        built = [Placement.parse(str(one)) for one in placements]
        return self._cost_table.stage_costs(stage, built)[:, METRICS.index("flops")].astype(float)

    def added_costs(self, text: str) -> Array:
        """What each stage of an architecture adds to the plain network: (stages, metrics), the columns ``counting.METRICS``."""
        from spaces.placement import Placement

        found = [
            self._cost_table.stage_costs(stage, [Placement.parse(str(one))])[0]
            for stage, one in enumerate(placements_of(text))
        ]
        return np.array(found, dtype=float)

    @cached_property
    def _cost_table(self) -> CostTable:
        from evaluators.cost import CostTable

        return CostTable(self.config.space.backbone, self.network)

    @property
    def costs(self) -> list[str]:
        """The columns of costs, those that are known of no evaluation left out."""
        return [
            cost for cost in cost_columns(self.evaluations, self.metric.name) if self.evaluations[cost].notna().any()
        ]

    @cached_property
    def plain(self) -> str | None:
        """The plain backbone as text, which every search evaluates first; None before that."""
        return next((text for text in map(str, self.evaluations["architecture"]) if is_plain(text)), None)

    @property
    def _plain_costs(self) -> dict[str, float]:
        """The costs of the plain backbone; empty before it was evaluated."""
        row = self.evaluations[self.evaluations["architecture"] == self.plain]
        return (
            {} if row.empty else {cost: float(row.iloc[0][cost]) for cost in self.costs if pd.notna(row.iloc[0][cost])}
        )


def load(folder: str | Path) -> Results:
    """The results of a run directory; raises UsageError where there is none."""
    kept_path(folder)
    results = Results(Path(folder))
    _ = results.minimised  # a damaged configuration is said at once
    return results
