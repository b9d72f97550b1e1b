"""The candidates of a Problem: its arithmetic prices, checks and draws index vectors, without a callback in between."""

import numpy as np
from numpy.typing import NDArray

from search.problem import Problem
from search.samplers.candidates import ENUMERATE, Array, Candidates, Indices


class ExactCandidates(Candidates):
    """All that is inside the budget of ``problem``, with its objectives besides the task's metric as costs.

    Draws are exactly uniform over what is allowed, however little of the space that is.
    """

    def __init__(self, problem: Problem, *, enumerate_up_to: int = ENUMERATE) -> None:
        self.problem = problem
        super().__init__(problem.space, enumerate_up_to=enumerate_up_to)

    @property
    def knows_costs(self) -> bool:
        return True

    def _ask(self, indices_NG: Indices) -> tuple[Array, NDArray[np.bool_]]:
        return self.problem.objectives(indices_NG).astype(float), self.problem.feasible.contains(indices_NG)

    def look_up(self, indices_NG: Indices) -> tuple[Array, NDArray[np.bool_]]:
        return self._ask(indices_NG)

    def _wander(self, rng: np.random.Generator, n: int, seen_TG: Indices) -> Indices:
        """Twice as many as are wanted, and more where most of what there is was seen."""
        wanted = min(2 * n + len(seen_TG), 4 * self.problem.feasible.count + 64)
        return rng.permutation(np.unique(self.problem.feasible.sample(rng, wanted), axis=0))
