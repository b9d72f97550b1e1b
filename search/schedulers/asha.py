"""DominationASHA: multi-objective asynchronous successive halving for Ray Tune, with rungs that outlive a kill.

Ray's own schedulers take one metric, and lose their rungs when a run is restored (ray-project/ray#30838).
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.schedulers.rungs import Rungs


class DominationASHA(FIFOScheduler):
    """Stops a trial at a rung where others dominate it; trials start in the order they come.

    ``metric`` and ``costs`` are names in a trial's results, ``time_attr`` counts epochs. ``state`` is a JSON file with the
    rungs: read at the start if it is there, rewritten at every decision. ``identify`` names a trial over resumes (its id
    by default, which a new Ray experiment does not keep). A result without the metric, or with NaN, decides nothing.
    """

    def __init__(
        self,
        rungs: Rungs,
        *,
        metric: str = "accuracy",
        costs: Sequence[str] = ("flops",),
        time_attr: str = "training_iteration",
        state: Path | None = None,
        identify: Callable[[Any], str] = lambda trial: str(trial.trial_id),
    ) -> None:
        super().__init__()
        self.rungs = rungs
        self._accuracy, self._costs, self._time = metric, tuple(costs), time_attr
        self._state, self._identify = state, identify
        self.stopped = 0
        if state is not None and state.exists():
            rungs.load_json(state.read_text())

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True  # several objectives are named here, not in TuneConfig, which takes one

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self.rungs.enter(self._identify(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return self._decide(trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._decide(trial, result)

    def _decide(self, trial: Any, result: dict[str, Any]) -> str:
        if not {self._time, self._accuracy, *self._costs} <= result.keys() or math.isnan(result[self._accuracy]):
            return str(TrialScheduler.CONTINUE)
        costs = [result[cost] for cost in self._costs]
        goes_on = self.rungs.decide(self._identify(trial), int(result[self._time]), result[self._accuracy], costs)
        if self._state is not None:
            self.rungs.save(self._state)
        self.stopped += not goes_on
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def debug_string(self) -> str:
        return f"Successive halving by domination: {self.stopped} stopped, {len(self.rungs.finals)} finished"

    def save(self, checkpoint_path: str) -> None:
        self.rungs.save(Path(checkpoint_path))

    def restore(self, checkpoint_path: str) -> None:
        self.rungs.load_json(Path(checkpoint_path).read_text())
