"""The results of a run as pandas DataFrames: evaluations, one row per architecture, the front, and the pick for a budget."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from evaluators.cost import METRICS, CostTable
from search.config import Config, load_run_config
from search.confirmed import confirmed, uniform_architectures
from search.gains import Array, Gains, fit_gains, gain_table
from search.pareto import knee
from search.store import RANDOM, SEARCH, front_of, read_journal, summarise, to_frame
from spaces import Architecture, Placement
from spaces.budget import human, parse_limits
from spaces.errors import UsageError

COSTS = ("flops", "macs", "params", "activations", "latency")


@dataclass(frozen=True)
class Results:
    """What a run directory holds at this moment; a running search may be read too."""

    folder: Path
    config: Config

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """One row per evaluation of any kind, in the order in which they finished."""
        return to_frame(read_journal(self.folder))

    @cached_property
    def searched(self) -> pd.DataFrame:
        """The evaluations of the search itself."""
        return self.evaluations[self.evaluations["kind"] == SEARCH].reset_index(drop=True)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row per architecture of the search: mean and deviation of accuracy over its seeds, and exact costs."""
        return summarise(self.searched)

    @cached_property
    def random(self) -> pd.DataFrame:
        """One row per architecture of the random search that serves as a baseline; empty where none was run."""
        return summarise(self.evaluations[self.evaluations["kind"] == RANDOM])

    @cached_property
    def confirmed(self) -> pd.DataFrame:
        """One row per architecture that was trained again with fresh seeds; see ``search.confirmed.confirmed``."""
        return confirmed(self.evaluations, self.config.search.costs, uniform_architectures(self.config.space))

    @cached_property
    def gains(self) -> Gains:
        """The linear model of accuracy behind ``attribution``."""
        return fit_gains(self.evaluations)

    @cached_property
    def attribution(self) -> pd.DataFrame:
        """What each (stage, type) gains in accuracy, and per million FLOPs; see ``search.gains.gain_table``."""
        return gain_table(self.gains, self._added_flops)

    @cached_property
    def data(self) -> dict[str, Any]:
        """What the run's data set asks of a network, and what its images were normalised with: ``data.json``."""
        content: dict[str, Any] = json.loads((self.folder / "data.json").read_text())
        return content

    @property
    def front(self) -> pd.DataFrame:
        """The non-dominated architectures, by rising cost."""
        return front_of(self.summary, self.config.search.costs)

    def front_under(self, limits: Mapping[str, Any]) -> pd.DataFrame:
        """The front among the architectures within limits such as ``{"flops": "310M", "params": "1.05x"}``."""
        return front_of(self.within(limits), self.config.search.costs)

    def within(self, limits: Mapping[str, Any]) -> pd.DataFrame:
        """The rows of ``summary`` that keep the limits; relative ones refer to the plain backbone.

        Raises UsageError for a limit that cannot be read, or where nothing evaluated keeps the limits.
        """
        rows = self.summary
        read = parse_limits(limits, self._plain_costs(limits))
        for metric, limit in read.items():
            rows = rows[rows[metric] <= limit]
        if read and rows.empty:
            least = ", ".join(f"{metric} {human(self.summary[metric].min(), metric)}" for metric in read)
            asked = ", ".join(f"{metric}={limit}" for metric, limit in limits.items())
            raise UsageError(f"nothing that was evaluated keeps {asked}; the least is {least}")
        return rows

    def pick(self, limits: Mapping[str, Any], text: str | None = None) -> pd.Series:
        """The row to take: the named architecture, else the most accurate within the limits, else the knee of the front.

        Where fresh seeds were trained, their means decide among the architectures that have some.

        Raises UsageError where the named one was not evaluated or nothing keeps the limits.
        """
        rows = self.within(limits)
        if text is not None:
            rows = rows[rows["architecture"] == str(Architecture.parse(text))]
            if rows.empty:
                raise UsageError(
                    f"{text!r} was not evaluated within the limits; see evaluations.parquet of {self.folder}"
                )
            return rows.iloc[0]
        if rows.empty:
            raise UsageError(f"{self.folder} has no complete evaluation yet")
        rows = self._with_fresh_means(rows)
        if limits:
            return rows.sort_values(["accuracy", "flops"], ascending=[False, True]).iloc[0]
        front = front_of(rows, self.config.search.costs)
        points = front[list(self.config.search.costs)].assign(accuracy=-front["accuracy"])
        return front.iloc[knee(points.to_numpy(float))]

    def _with_fresh_means(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The confirmed ones among the rows, with the accuracy of their fresh seeds; the rows as they are without any."""
        fresh = self.confirmed.set_index("architecture")["accuracy"]
        known = rows[rows["architecture"].isin(fresh.index)]
        return known.assign(accuracy=known["architecture"].map(fresh)) if len(known) else rows

    def _added_flops(self, stage: int, placements: Sequence[Placement]) -> Array:
        """The FLOPs that each of these placements adds at a stage, counted from 0."""
        costs = self._cost_table.stage_costs(stage, placements)[:, METRICS.index("flops")]
        return costs.astype(float)

    @cached_property
    def _cost_table(self) -> CostTable:
        return CostTable(
            self.config.space.backbone,
            image_size=self.data["image_size"],
            num_classes=self.data["num_classes"],
            in_chans=self.data["in_chans"],
            native=self.config.space.native,
        )

    def _plain_costs(self, limits: Mapping[str, Any]) -> dict[str, int]:
        """The costs of the plain backbone, which every search evaluates first."""
        plain = str(Architecture.plain(self.config.space.backbone))
        row = self.evaluations[self.evaluations["architecture"] == plain]
        if row.empty:
            if any(str(limit).strip().lower().endswith("x") for limit in limits.values()):
                raise UsageError(f"{self.folder} has not evaluated the plain backbone, which relative limits refer to")
            return dict.fromkeys(COSTS, 0)
        return {cost: int(row.iloc[0][cost]) for cost in COSTS if pd.notna(row.iloc[0][cost])}


def load(folder: str | Path) -> Results:
    """The results of a run directory; raises UsageError where there is none."""
    return Results(Path(folder), load_run_config(folder))
