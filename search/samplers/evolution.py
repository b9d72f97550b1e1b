"""Regularised evolution (Real et al., 2019) for several objectives: the oldest die, domination wins tournaments.

Parents are the winners of a random tournament among the youngest `population` finished trials: the lowest
non-domination rank, ties broken by the larger crowding distance (Deb et al., 2002). A child is its parent with one
gene changed.
"""

import numpy as np
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.pareto import crowding_distance, non_domination_rank
from search.samplers.base import SAMPLERS
from search.samplers.candidates import Candidates, Indices
from search.samplers.guarded import SpaceSampler


class EvolutionSampler(SpaceSampler):
    """Regularised evolution inside the limits; `population` random candidates come first."""

    def __init__(
        self, candidates: Candidates, *, seed: int | None = None, population: int = 24, tournament: int = 6
    ) -> None:
        if not 1 <= tournament <= population:
            raise ValueError(f"tournament {tournament} must lie between 1 and population {population}")
        super().__init__(candidates, seed=seed)
        self._population, self._tournament = population, tournament

    def propose(self, study: Study, trial: FrozenTrial, trials: list[FrozenTrial], seen_TG: Indices) -> Indices | None:
        done = [t for t in trials if t.state == TrialState.COMPLETE and self.indices_of(t) is not None]
        if len(trials) >= self._population and done:
            alive = sorted(done, key=lambda t: t.number)[-self._population :]
            for _ in range(8):  # a parent whose children were all tried leaves the stage to another
                parent_G = np.asarray(self.space.from_params(alive[self._winner(study, alive)].params), dtype=np.int64)
                child_NG = self.candidates.near(parent_G, seen_TG)
                if len(child_NG):
                    return child_NG[self._rng.integers(len(child_NG))]
        drawn_NG = self.candidates.draw(self._rng, 1, seen_TG)
        return drawn_NG[0] if len(drawn_NG) else None

    def _winner(self, study: Study, alive: list[FrozenTrial]) -> int:
        signs = np.array([-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in study.directions])
        losses_NM = np.array([t.values for t in alive]) * signs
        rank_N, crowding_N = non_domination_rank(losses_NM), crowding_distance(losses_NM)
        entrants = self._rng.choice(len(alive), size=min(self._tournament, len(alive)), replace=False)
        return int(min(entrants, key=lambda i: (rank_N[i], -crowding_N[i])))


SAMPLERS.register("evolution", EvolutionSampler)
