"""Rungs of multi-objective asynchronous successive halving: who goes on, by domination among trials at the same rung.

Li et al., 2020 (ASHA), Li et al., 2018 (Hyperband), Schmucker et al., 2021 (several objectives). The costs are known
before a trial starts; only the gain grows: the value of the task's metric, negated where less of it is better. No Ray here.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from search.pareto import crowding_distance, non_domination_rank
from spaces.errors import UsageError


@dataclass(frozen=True)
class Note:
    """The gain of a trial at a rung of its bracket or at its last epoch, with its known costs."""

    trial: str
    bracket: int
    epoch: int
    gain: float
    costs: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Note":
        data = {**data, "costs": tuple(data["costs"])}
        if "accuracy" in data:  # what journals of earlier versions call it
            data["gain"] = data.pop("accuracy")
        return cls(**data)


@dataclass
class Rungs:
    """Every gain that was seen at a rung, and the rule that decides on it.

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
    finals: dict[str, float] = field(default_factory=dict)  # gain at the last epoch
    bracket_of: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.first < self.epochs:
            raise UsageError(
                f"early stopping: the first rung {self.first} must lie below the {self.epochs} epochs of a full training"
            )
        if self.reduction <= 1:
            raise UsageError(f"early stopping: reduction {self.reduction} must be more than 1")
        most = len(self.levels(0))
        if not 1 <= self.brackets <= most:
            raise UsageError(f"early stopping: brackets {self.brackets} must lie between 1 and {most}")

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
                spent[bracket] += self.levels(bracket)[0]
            self.bracket_of[trial] = int(np.argmin(spent))
        return self.bracket_of[trial]

    def heard(self, trial: str, epoch: int, gain: float, costs: Sequence[float]) -> Note | None:
        """What there is to note of a gain: nothing between rungs."""
        bracket = self.enter(trial)
        if epoch < self.epochs and epoch not in self.levels(bracket):
            return None
        return Note(trial, bracket, min(epoch, self.epochs), gain, tuple(float(cost) for cost in costs))

    def note(self, note: Note) -> None:
        """Take a note in; one that is there already is replaced."""
        self.bracket_of[note.trial] = note.bracket
        if note.epoch == self.epochs:
            self.finals[note.trial] = note.gain
        else:
            self.seen.setdefault((note.bracket, note.epoch), {})[note.trial] = (-note.gain, *note.costs)

    def decide(self, trial: str, epoch: int, gain: float, costs: Sequence[float]) -> bool:
        """Note a gain and say whether the trial goes on; between rungs it always does."""
        note = self.heard(trial, epoch, gain, costs)
        if note is None:
            return True
        self.note(note)
        return self.goes_on(note)

    def goes_on(self, note: Note) -> bool:
        """Whether a trial that was noted goes on, by what is known now; after the last epoch it always does.

        At a rung it goes on if no trial that was there dominates it, or if it is among the best 1/reduction of them by
        (non-domination rank, crowding).
        """
        if note.epoch == self.epochs:
            return True
        rung = self.seen[note.bracket, note.epoch]
        losses_NM = np.array(list(rung.values()))
        here = list(rung).index(note.trial)
        if not _dominated(losses_NM, here):
            return True
        order = np.lexsort((-crowding_distance(losses_NM), non_domination_rank(losses_NM)))
        return bool(here in order[: int(len(rung) / self.reduction)])

    def expected(self, epoch: int, gain: float) -> float:
        """The gain to expect at the end of a trial that was stopped: more by the median of what those that went on won.

        Without any that did, the gain as it is.
        """
        won = [
            self.finals[trial] + losses[0]
            for (_, level), rung in self.seen.items()
            for trial, losses in rung.items()
            if level == epoch and trial in self.finals
        ]
        return gain + float(np.median(won)) if won else gain

    @property
    def rules(self) -> list[float]:
        """What has to be equal for notes to mean the same."""
        return [self.epochs, self.first, self.reduction, self.brackets]


def _dominated(losses_NM: np.ndarray, here: int) -> bool:
    none_worse_N = (losses_NM <= losses_NM[here]).all(axis=1)
    return bool((none_worse_N & (losses_NM < losses_NM[here]).any(axis=1)).any())
