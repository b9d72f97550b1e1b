"""Any Optuna sampler, kept inside the limits of a space and away from what was tried before."""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.samplers.candidates import Candidates, Indices, Reader, others, relative_space


class SpaceSampler(BaseSampler):
    """Base of the samplers that propose whole candidates: `propose` is all that one has to add.

    Parameters outside the space are drawn at random, as Optuna does for those that a relative sampler leaves out.
    Once every allowed candidate was tried, `exhausted` is True, a study that runs its own loop is stopped, and further
    proposals repeat.
    """

    def __init__(self, candidates: Candidates, *, seed: int | None = None, repeats: bool = False) -> None:
        self.candidates = candidates
        self.space = candidates.space
        self.indices_of = Reader(self.space)
        self.exhausted = False
        self._repeats = repeats
        self._rng = np.random.default_rng(seed)
        self._independent = RandomSampler(seed=seed)
        self._distributions = relative_space(self.space)

    @abstractmethod
    def propose(self, study: Study, trial: FrozenTrial, trials: list[FrozenTrial], seen_TG: Indices) -> Indices | None:
        """Indices (G,) of the next candidate, None where nothing is left; `trials` are all others of the study."""

    def reseed_rng(self) -> None:
        self._rng = np.random.default_rng()
        self._independent.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        trials = others(study, trial)
        genes = len(self.candidates.sizes)
        seen_TG = self.indices_of.seen(trials, genes)
        avoid_TG = seen_TG[:0] if self._repeats else seen_TG
        indices_G = self.propose(study, trial, trials, avoid_TG)
        if indices_G is None:  # every candidate was tried: repeat one rather than leave the limits, and end the study
            indices_G = self.candidates.draw(self._rng, 1, seen_TG[:0])[0]
            self.exhausted = True
            with suppress(RuntimeError):  # only a study that runs its own loop can be stopped
                study.stop()
        params = self.space.params(indices_G)
        # A parameter that this candidate does not use gets a value all the same: it is never asked for.
        return {name: params.get(name, _first(dist)) for name, dist in search_space.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._independent.sample_independent(study, trial, param_name, param_distribution)


def _first(distribution: BaseDistribution) -> Any:
    assert isinstance(distribution, CategoricalDistribution)
    return distribution.choices[0]


class GuardedSampler(SpaceSampler):
    """Asks `inner` up to `attempts` times for a new candidate within the limits, then takes the nearest to the last."""

    def __init__(
        self, inner: BaseSampler, candidates: Candidates, *, seed: int | None = None, attempts: int = 20
    ) -> None:
        super().__init__(candidates, seed=seed)
        self.inner = inner
        self._attempts = attempts

    def propose(self, study: Study, trial: FrozenTrial, trials: list[FrozenTrial], seen_TG: Indices) -> Indices | None:
        for _ in range(self._attempts):
            asked = self.inner.infer_relative_search_space(study, trial)
            params = self.inner.sample_relative(study, trial, asked)
            for name, distribution in self._distributions.items():
                if name not in params:
                    params[name] = self.inner.sample_independent(study, trial, name, distribution)
            for name, choices in self.space.distributions.items():
                params.setdefault(name, choices[0])
            indices_G = np.asarray(self.space.from_params(params), dtype=np.int64)
            if self._fresh(indices_G, seen_TG):
                return indices_G
        return self.candidates.nearest(self._rng, indices_G, seen_TG)

    def _fresh(self, indices_G: Indices, seen_TG: Indices) -> bool:
        return bool(len(self.candidates.keep(indices_G[None], seen_TG)))

    def reseed_rng(self) -> None:
        super().reseed_rng()
        self.inner.reseed_rng()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self.inner.after_trial(study, trial, state, values)
