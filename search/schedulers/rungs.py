"""Rungs of multi-objective asynchronous successive halving: who goes on, by domination among trials at the same rung.

Li et al., 2020 (ASHA), Li et al., 2018 (Hyperband), Schmucker et al., 2021 (several objectives). The costs are known
before a trial starts; only the accuracy grows. No Ray in here.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from search.pareto import crowding_distance, non_domination_rank
from spaces.errors import UsageError

FORMAT = 1


@dataclass
class Rungs:
    """Every accuracy that was seen at a rung, and the rule that decides on it.

    ``epochs``: of a full evaluation. ``first``: epochs of the first rung. ``reduction``: each rung lies so many times
    higher than the one before, and at least one in so many trials goes on. ``brackets``: Hyperband's; bracket b leaves out
    the first b rungs, and trials are dealt out so that every bracket spends about as many epochs. Raises UsageError where
    these do not fit together.
    """

    epochs: int
    first: int = 1
    reduction: float = 3.0
    brackets: int = 1
    seen: dict[tuple[int, int], dict[str, tuple[float, ...]]] = field(default_factory=dict)  # (bracket, rung) -> trial
    finals: dict[str, float] = field(default_factory=dict)  # accuracy at the last epoch
    bracket_of: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.epochs:
            raise UsageError(f"early stopping: the first rung {self.first} must lie between 1 and {self.epochs} epochs")
        if self.reduction <= 1:
            raise UsageError(f"early stopping: reduction {self.reduction} must be more than 1")
        if not 1 <= self.brackets <= max(len(self.levels(0)), 1):
            valid = max(len(self.levels(0)), 1)
            raise UsageError(f"early stopping: brackets {self.brackets} must lie between 1 and {valid}")

    def levels(self, bracket: int) -> list[int]:
        """Epochs of a bracket's rungs, all below the full number."""
        level, found = float(self.first), []
        while round(level) < self.epochs:
            found.append(round(level))
            level *= self.reduction
        return list(dict.fromkeys(found))[bracket:]

    def enter(self, trial: str) -> int:
        """The bracket of a trial, new ones dealt to the bracket that spent the least so far."""
        if trial not in self.bracket_of:
            spent = [0.0] * self.brackets
            for bracket in self.bracket_of.values():
                spent[bracket] += (self.levels(bracket) or [self.epochs])[0]
            self.bracket_of[trial] = int(np.argmin(spent))
        return self.bracket_of[trial]

    def decide(self, trial: str, epoch: int, accuracy: float, costs: Sequence[float]) -> bool:
        """Note an accuracy and say whether the trial goes on; between rungs it always does.

        At a rung it goes on if no trial that was there dominates it, or if it is among the best 1/reduction of them by
        (non-domination rank, crowding). Asking again for a trial that was here repeats the question with what is known now.
        """
        if epoch >= self.epochs:
            self.finals[trial] = accuracy
            return True
        bracket = self.enter(trial)
        if epoch not in self.levels(bracket):
            return True
        rung = self.seen.setdefault((bracket, epoch), {})
        rung[trial] = (-accuracy, *(float(cost) for cost in costs))
        losses_NM = np.array(list(rung.values()))
        here = list(rung).index(trial)
        rank_N = non_domination_rank(losses_NM)
        if rank_N[here] == 0:
            return True
        order = np.lexsort((-crowding_distance(losses_NM), rank_N))
        return bool(here in order[: int(len(rung) / self.reduction)])

    def expected(self, epoch: int, accuracy: float) -> float:
        """The accuracy to expect at the end of a trial that was stopped: plus the median gain of those that went on.

        Without any that did, the accuracy as it is.
        """
        gains = [
            self.finals[trial] + losses[0]
            for (_, level), rung in self.seen.items()
            for trial, losses in rung.items()
            if level == epoch and trial in self.finals
        ]
        return accuracy + float(np.median(gains)) if gains else accuracy

    # --- kept over kills ---------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        rungs = [[bracket, level, rung] for (bracket, level), rung in self.seen.items()]
        plan = [self.epochs, self.first, self.reduction, self.brackets]
        state = {"format": FORMAT, "plan": plan, "rungs": rungs, "finals": self.finals, "brackets": self.bracket_of}
        return json.dumps(state)

    def load_json(self, text: str) -> None:
        """Take in what another process noted; UsageError where that was under another plan."""
        state: dict[str, Any] = json.loads(text)
        plan = [self.epochs, self.first, self.reduction, self.brackets]
        if state["plan"] != plan:
            raise UsageError(
                f"the rungs were kept for epochs, first, reduction, brackets = {state['plan']}, not {plan}"
            )
        for bracket, level, rung in state["rungs"]:
            self.seen.setdefault((bracket, level), {}).update({trial: tuple(losses) for trial, losses in rung.items()})
        self.finals.update(state["finals"])
        self.bracket_of.update(state["brackets"])

    def save(self, path: Path) -> None:
        """Write one small file, whole or not at all."""
        beside = path.with_name(f"{path.name}.{os.getpid()}.part")
        beside.write_text(self.to_json())
        os.replace(beside, path)
