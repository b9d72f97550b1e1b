"""Any Optuna sampler, kept inside the limits of a space and away from what was tried before."""

import logging
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.samplers.candidates import ABSENT, Candidates, Indices, Reader, matches, others, relative_space

log = logging.getLogger(__name__)


class SpaceSampler(BaseSampler):
    """Base of the samplers that propose whole candidates: `propose` is all that one has to add.

    Parameters outside the space, or asked for with another distribution, are drawn at random, as Optuna does for those
    that a relative sampler leaves out. With the last allowed candidate a study that runs its own loop is stopped;
    whoever asks for more gets repetitions and, once, a warning. `exhausted` says that this point is reached. A study may
    run several threads (n_jobs): one proposes at a time, and knows what the others were given.
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
        self._lock = Lock()
        self._warned = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}  # locks cannot be pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = Lock()

    @abstractmethod
    def propose(self, study: Study, trial: FrozenTrial, trials: list[FrozenTrial], seen_TG: Indices) -> Indices | None:
        """Indices (G,) of the next candidate, None where nothing is left; `trials` are all others of the study."""

    def promise(self, trials: int, ceiling: float = np.inf) -> float | None:
        """By how much so many more trials may raise the best accuracy below a budget, on average; None: nothing expects it.

        ``ceiling``: no accuracy exceeds it.
        """
        return None

    def reseed_rng(self) -> None:
        self._rng = np.random.default_rng()
        self._independent.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        ours = [name for name, distribution in search_space.items() if self._distributions.get(name) == distribution]
        params: dict[str, Any] = {}
        if ours:
            with self._lock:
                params = self.space.params(self._next(study, trial))
        # A parameter that this candidate does not use gets a value all the same: it is never asked for.
        return {
            name: params.get(name, self.space.distributions[name][0])
            if name in ours
            else self.sample_independent(study, trial, name, distribution)
            for name, distribution in search_space.items()
        }

    def _next(self, study: Study, trial: FrozenTrial) -> Indices:
        self.indices_of.enter(study)
        trials = others(study, trial)
        genes = len(self.candidates.sizes)
        seen_TG = self.indices_of.seen(trials, genes)
        indices_G = self.propose(study, trial, trials, seen_TG[:0] if self._repeats else seen_TG)
        if indices_G is None:  # a running trial that has not asked for all its parameters rules out more than itself
            whole_TG = self.indices_of.seen([other for other in trials if not self._half_asked(other)], genes)
            indices_G = self.propose(study, trial, trials, whole_TG) if len(whole_TG) < len(seen_TG) else None
        if indices_G is None:  # every candidate was tried: repeat one rather than leave the limits, and end the study
            indices_G = self.candidates.draw(self._rng, 1, seen_TG[:0])[0]
            self._end(study, repeats=True)
        self.indices_of.promise(trial, indices_G)
        return indices_G

    def _half_asked(self, trial: FrozenTrial) -> bool:
        indices_G = self.indices_of(trial) if trial.state == TrialState.RUNNING else None
        return indices_G is not None and bool((indices_G == ABSENT).any())

    def _end(self, study: Study, *, repeats: bool = False) -> None:
        """Stop a study that runs its own loop, and say so; to any other one repetitions are named once."""
        said, self.exhausted = self.exhausted, True
        with suppress(RuntimeError):  # only a study that runs its own loop can be stopped
            study.stop()
            if not said:
                log.warning("every allowed candidate was tried, so the study ends")
        if repeats and not self._warned:
            self._warned = True
            warnings.warn("every allowed candidate was tried, so one is proposed again", stacklevel=2)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """The study ends with its last candidate, not with a repetition."""
        listed_NG = self.candidates.listed_NG
        if self._repeats or listed_NG is None:
            return
        ended = [other for other in others(study, trial) if other.state.is_finished()]
        seen_TG = self.indices_of.seen([*ended, trial], listed_NG.shape[1])
        few = len(seen_TG) < len(listed_NG) and (seen_TG != ABSENT).all()  # a whole row is one candidate
        if not few and matches(listed_NG, seen_TG).all():
            self._end(study)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._independent.sample_independent(study, trial, param_name, param_distribution)


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
        super().after_trial(study, trial, state, values)
