"""What more evaluations may bring, by the sampler's own model: draws of many candidates together, not a sum of single ones."""

from copy import copy
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from search.pareto import hypervolume
from search.samplers.surrogate import Surrogate

Array = NDArray[np.float64]
MOST = 128  # candidates to give it: those are drawn together
DRAWS = 32


@dataclass
class Outlook:
    """The model when a candidate was chosen, what was known then, and the candidates (K, G), the most promising first.

    Accuracies are to be maximised here and costs to be minimised, in the scale that volumes are taken over.
    """

    model: Surrogate
    genes_KG: NDArray[np.int64]
    unit_KM: Array  # the costs as the model takes them
    costs_KM: Array
    known_N: Array
    known_costs_NM: Array
    reference_M: Array
    worst: float
    _told: dict[tuple[int, float], float | None] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.model = copy(self.model)  # it puts new arrays in place of old ones, and never changes one

    def rise(self, trials: int, ceiling: float = np.inf) -> float | None:
        """By how much `trials` more evaluations may raise the best accuracy below a budget, on average over the budgets.

        The mean of draws from the posterior of the candidates together. What would be learned on the way, and what other
        candidates would add, is left out, and so is what a draw has above ``ceiling``. Budgets are those from the cheapest
        candidate to the dearest. None where the costs span nothing to average over.
        """
        trials = min(trials, len(self.costs_KM))
        asked = trials, ceiling
        if asked not in self._told:
            self._told[asked] = self._rise(*asked)
        return self._told[asked]

    def _rise(self, trials: int, ceiling: float) -> float | None:
        every_NM = np.vstack([self.known_costs_NM, self.costs_KM])
        budgets = float(np.prod(self.reference_M - every_NM.min(axis=0)))
        if budgets <= 0:
            return None
        z_SK = self.model.draw(self.genes_KG, self.unit_KM, DRAWS, np.random.default_rng(0))  # for any number the same
        before = self._volume(self.known_N, self.known_costs_NM)
        costs_NM = every_NM[: len(self.known_N) + trials]
        after = [
            self._volume(np.concatenate([self.known_N, draw_K]), costs_NM)
            for draw_K in np.minimum(self.model.warp.accuracy(z_SK[:, :trials]), ceiling)
        ]
        return (float(np.mean(after)) - before) / budgets

    def _volume(self, accuracy_N: Array, costs_NM: Array) -> float:
        return hypervolume(np.column_stack([-accuracy_N, costs_NM]), np.append(-self.worst, self.reference_M))
