"""The section of DominationASHA: trials that are dominated at a rung end there."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from search.schedulers.base import SCHEDULERS, SchedulerConfig, Stopping, Trials
from search.schedulers.rungs import Rungs


class DominationConfig(SchedulerConfig):
    """Stops trials that others dominate at the same rung (multi-objective asynchronous successive halving)."""

    name: Literal["domination_asha"] = "domination_asha"
    first: int = Field(default=1, ge=1, description="epochs of the first rung")
    reduction: float = Field(default=3, gt=1, description="each rung lies so many times higher than the one before")
    brackets: int = Field(default=1, ge=1, description="Hyperband's: bracket b leaves out the first b rungs")

    def check(self, epochs: int) -> None:
        self.rungs(epochs)

    def rungs(self, epochs: int) -> Rungs:
        """Where trainings of so many epochs may end; raises UsageError where the rungs do not fit them."""
        return Rungs(epochs, first=self.first, reduction=self.reduction, brackets=self.brackets)

    def build(self, trials: Trials) -> Stopping:
        """Early stopping whose rungs outlive a kill in ``rungs.jsonl``."""
        from search.schedulers._asha import DominationASHA  # with Ray: seconds to import, and only a search needs it

        rungs, sign = self.rungs(trials.epochs), trials.metric.sign
        scheduler = DominationASHA(
            rungs,
            metric=trials.metric.name,
            sign=sign,
            costs=trials.costs,
            time_attr="fidelity",
            journal=trials.folder / "rungs.jsonl",
            identify=lambda trial: str(trial.config["architecture"]),
        )
        return Stopping(
            scheduler, frozenset(rungs.levels(0)), lambda epochs, value: sign * rungs.expected(epochs, sign * value)
        )


SCHEDULERS.register("domination_asha", DominationConfig)
