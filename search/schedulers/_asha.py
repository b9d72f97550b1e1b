"""DominationASHA: multi-objective asynchronous successive halving for Ray Tune, with rungs that outlive a kill.

Ray's own schedulers take one metric, and lose their rungs when a run is restored (ray-project/ray#30838).
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.files import unreadable
from search.schedulers.rungs import Note, Rungs
from spaces.errors import UsageError


class DominationASHA(FIFOScheduler):
    """Stops a trial at a rung where others dominate it; trials start in the order they come.

    ``metric`` and ``costs`` are names in a trial's results, ``time_attr`` counts epochs. ``sign`` is 1 where more of the
    metric is better, else -1. ``journal`` is a file of JSON lines,
    one per note: read at the start if it is there, appended to before every decision, so that a kill loses none.
    ``identify`` names a trial over resumes (its id by default, which a new Ray experiment does not keep). A result without
    the metric, or with NaN, decides nothing. Raises UsageError for a journal that was kept under other rules.
    """

    def __init__(
        self,
        rungs: Rungs,
        *,
        metric: str = "accuracy",
        sign: float = 1.0,
        costs: Sequence[str] = ("flops",),
        time_attr: str = "training_iteration",
        journal: Path | None = None,
        identify: Callable[[Any], str] = lambda trial: str(trial.trial_id),
    ) -> None:
        super().__init__()
        self.rungs = rungs
        self._metric, self._sign, self._costs, self._time = metric, sign, tuple(costs), time_attr
        self._journal, self._identify = journal, identify
        self.stopped = 0
        if journal is not None:
            _read(journal, rungs)

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles its scheduler for its own way to resume; the journal holds everything that a resumed run needs."""
        return {}

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True  # several objectives are named here, not in TuneConfig, which takes one

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self.rungs.enter(self._identify(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return self._decide(trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if result.get(self._time, 0) >= self.rungs.epochs:  # those that were stopped have been decided on
            self._decide(trial, result)

    def _decide(self, trial: Any, result: dict[str, Any]) -> str:
        if not {self._time, self._metric, *self._costs} <= result.keys() or math.isnan(result[self._metric]):
            return str(TrialScheduler.CONTINUE)
        costs = [result[cost] for cost in self._costs]
        gain = self._sign * result[self._metric]
        note = self.rungs.heard(self._identify(trial), int(result[self._time]), gain, costs)
        if note is None:
            return str(TrialScheduler.CONTINUE)
        if self._journal is not None:
            with self._journal.open("a") as file:
                file.write(json.dumps(note.to_dict()) + "\n")
        self.rungs.note(note)
        goes_on = self.rungs.goes_on(note)
        self.stopped += not goes_on
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def debug_string(self) -> str:
        return f"Successive halving by domination: {self.stopped} stopped, {len(self.rungs.finals)} finished"


def _read(journal: Path, rungs: Rungs) -> None:
    """Take in what an earlier process noted, and begin the journal where there is none; half a last line is cut."""
    try:
        text = journal.read_text() if journal.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        lines = whole.splitlines()
        rules = json.loads(lines[0])["plan"] if lines else rungs.rules
        notes = [Note.from_dict(json.loads(line)) for line in lines[1:]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise unreadable(journal, error, "put back a whole one, or remove it and rungs are filled anew") from None
    if rules != rungs.rules:
        raise UsageError(f"{journal} was kept for epochs, first, reduction, brackets = {rules}, not {rungs.rules}")
    for note in notes:
        rungs.note(note)
    if not lines or whole != text:
        journal.write_text(whole or json.dumps({"plan": rungs.rules}) + "\n")
