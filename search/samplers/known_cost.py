"""KnownCostSampler: of several objectives only the accuracy is unknown, all others are known functions of the parameters.

Emmerich et al., 2006 (expected hypervolume improvement), here with the costs known: see improvement.py; the model of the
accuracy: see surrogate.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import ThreadpoolController

from search.pareto import non_dominated
from search.samplers.base import SAMPLERS
from search.samplers.candidates import (
    ABSENT,
    Candidates,
    CostFunction,
    FeasibleFunction,
    Indices,
    MappingSpace,
    Space,
    matches,
)
from search.samplers.censored import floors
from search.samplers.guarded import SpaceSampler
from search.samplers.improvement import Staircase
from search.samplers.outlook import MOST, Outlook
from search.samplers.surrogate import Surrogate
from spaces.errors import UsageError

Array = NDArray[np.float64]
EXPECTED = "expected_accuracy"  # user attributes of a trial that was stopped early and told as failed
STOPPED_AT = "fidelity"
POOL = 3000  # candidates scored where the space is too large to list
LEARN_ON = 200  # trials that the kernel's factors are learned from at most
MODEL_ON = 500  # and that the posterior takes in: its time grows with their cube
LOGS_FROM = 5.0  # a cost that spans more than this factor is compared by its logarithm
ROUGH_FROM = 2_000_000  # numbers of a kernel that is first computed in single precision, then exactly for the best
MANY = 10_000  # of more candidates, the best SHORT are scored while the model stays as it was learned; all when it is learned
SHORT = 2500  # with a fifth of others no more than have their variances computed at MODEL_ON trials
WORK = 0.8e9  # multiplications that one suggestion may spend on variances


@dataclass(frozen=True)
class Hint:
    """What a trial that was stopped early is expected to reach, and after how many epochs that was said."""

    indices_G: Indices
    expected: float
    fidelity: float


class KnownCostSampler(SpaceSampler):
    """Proposes the candidate with the largest expected hypervolume improvement, its costs taken as known.

    ``space`` is Attune's SearchSpace or a mapping of names to Optuna's distributions, a float with a step (or
    Candidates, which hold it with all that follows). Numbers may matter as such: close ones are taken to be alike.
    ``costs`` maps n parameter dicts to an (n, M) array: the values of the study's objectives 2 to M+1, in their
    order. A study may minimise or maximise each. Without costs a study has one objective, and the sampler takes the
    candidate with the largest expected improvement of it. ``limits`` are upper bounds on the costs, ``feasible`` any
    further test on parameter dicts. ``noisy``: two evaluations of one candidate may differ; then candidates may be
    repeated, and the front that is to be improved is the model's, not the luckiest draws. ``initial``: trials that
    spread over the costs before the model starts (any finished trial counts). Volumes are taken over the logarithm of
    a cost that spans more than a factor of 5, else over the cost as it is given (between close values the two are the
    same but for a factor).

    A failed or pruned trial with the user attribute ``expected_accuracy`` (one that early stopping ended) teaches the model
    that accuracy, without being on the front: as a guess, which is as noisy as those with the same ``fidelity`` (a number,
    the epochs it had) turn out to be. Trials in flight are taken at their mean (kriging believer).

    Conditional parameters: with a mapping, `costs` gets full dicts, and which parameters a value switches off is learned
    from what the trials asked for; a candidate that agrees with a trial on all it asked for is the same evaluation.
    """

    def __init__(
        self,
        space: Candidates | Space | Mapping[str, BaseDistribution],
        costs: CostFunction | None = None,
        *,
        seed: int | None = None,
        limits: Sequence[float | None] | None = None,
        feasible: FeasibleFunction | None = None,
        noisy: bool = False,
        initial: int = 4,
    ) -> None:
        candidates = space
        if not isinstance(candidates, Candidates):
            candidates = Candidates(candidates, costs, limits=limits, feasible=feasible)
        if initial < 2:
            raise ValueError(f"initial must be at least 2, not {initial}")
        super().__init__(candidates, seed=seed, repeats=noisy)
        self._noisy, self._initial = noisy, initial
        self._model: Surrogate | None = None
        self._outlook: Outlook | None = None
        self._learned_at = 0
        self._short_NG: Indices | None = None  # the best candidates when all were scored last

    def propose(self, study: Study, trial: FrozenTrial, trials: list[FrozenTrial], seen_TG: Indices) -> Indices | None:
        sign_M = np.array([-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in study.directions])
        done, pending, hints = self._trials(trials, len(sign_M))
        pool_NG, costs_NM = self._pool(done, seen_TG, sign_M)
        if not len(pool_NG):
            return None
        if costs_NM.shape[1] != len(sign_M) - 1:
            if not self.candidates.knows_costs:
                raise UsageError(
                    f"sampler 'known_cost' needs the costs that it is to know: the study has {len(sign_M)} objectives"
                )
            raise ValueError(f"costs gave {costs_NM.shape[1]} columns, the study has {len(sign_M)} objectives")
        indices_TG = np.array([indices for indices, _ in done]).reshape(-1, pool_NG.shape[1]).astype(np.int64)
        values_TM = np.array([values for _, values in done]).reshape(-1, len(sign_M))
        waiting_PG = np.array(pending).reshape(-1, pool_NG.shape[1]).astype(np.int64)
        every_NM = np.vstack([costs_NM, values_TM[:, 1:]])
        logs = (every_NM > 0).all(axis=0) & (every_NM.max(axis=0) > LOGS_FROM * every_NM.min(axis=0))

        def scaled(values: Array) -> Array:
            """Costs to minimise: signed, in logarithms where all are positive."""
            return np.where(logs, np.log(np.where(values > 0, values, 1.0)), values) * sign_M[1:]

        pool_c, done_c = scaled(costs_NM), scaled(values_TM[:, 1:])
        waiting_c = scaled(self._costs_of(waiting_PG, costs_NM.shape[1]))
        if len(done) < 2 or len(done) + len(pending) < self._initial or np.ptp(values_TM[:, 0]) == 0:
            tried_TG, tried_c = np.vstack([indices_TG, waiting_PG]), np.vstack([done_c, waiting_c])
            return pool_NG[self._spread(pool_NG, pool_c, tried_TG, tried_c)]
        accuracy_T, level_T = -sign_M[0] * values_TM[:, 0], np.zeros(len(done), dtype=np.int64)
        if hints:
            guessed_HG = np.array([hint.indices_G for hint in hints])
            indices_TG = np.vstack([indices_TG, guessed_HG])
            done_c = np.vstack([done_c, scaled(self._costs_of(guessed_HG, costs_NM.shape[1]))])
            accuracy_T = np.concatenate([accuracy_T, [-sign_M[0] * hint.expected for hint in hints]])
            _, level_H = np.unique([hint.fidelity for hint in hints], return_inverse=True)
            level_T = np.concatenate([level_T, 1 + level_H])
        if len(accuracy_T) > MODEL_ON:
            use = _telling(accuracy_T, done_c)
            indices_TG, done_c, accuracy_T, level_T = indices_TG[use], done_c[use], accuracy_T[use], level_T[use]
        with _blas().limit(
            limits=1
        ):  # these matrices are small: threads cost more than they bring, above all shared ones
            best = self._best(pool_NG, pool_c, indices_TG, done_c, accuracy_T, level_T, waiting_PG, waiting_c)
        return pool_NG[best]

    def promise(self, trials: int, ceiling: float = np.inf) -> float | None:
        if self._outlook is None:
            return None
        with _blas().limit(limits=1):
            return self._outlook.rise(trials, ceiling)

    # --- what there is -----------------------------------------------------------------------------------------------

    def _trials(
        self, trials: list[FrozenTrial], objectives: int
    ) -> tuple[list[tuple[Indices, list[float]]], list[Indices], list[Hint]]:
        """Finished candidates with their values, those in flight (running or enqueued), and those stopped early."""
        done: list[tuple[Indices, list[float]]] = []
        pending: list[Indices] = []
        hints: list[Hint] = []
        for trial in trials:
            indices = self.indices_of(trial)
            if indices is None:
                continue
            if trial.state == TrialState.COMPLETE:
                if len(trial.values) == objectives and np.isfinite(trial.values).all():
                    done.append((indices, trial.values))
            elif trial.state in (TrialState.RUNNING, TrialState.WAITING):
                pending.append(indices)
            elif np.isfinite(trial.user_attrs.get(EXPECTED, np.nan)):
                at = float(trial.user_attrs.get(STOPPED_AT, 0))
                hints.append(Hint(indices, float(trial.user_attrs[EXPECTED]), at))
        return done, pending, hints

    def _pool(self, done: list[tuple[Indices, list[float]]], seen_TG: Indices, sign_M: Array) -> tuple[Indices, Array]:
        """The candidates to score and their costs: all that are left, or a draw and the front's neighbours."""
        listed_NG = self.candidates.listed_NG
        if listed_NG is not None:
            fresh = ~matches(listed_NG, seen_TG)
            return listed_NG[fresh], self.candidates.listed_costs_NM[fresh]
        pool_NG = self.candidates.draw(self._rng, POOL // 2, seen_TG)
        if done:
            front = non_dominated(np.array([values for _, values in done]) * sign_M)
            parents_NG = np.array([indices for indices, _ in done])[front]
            parents_NG = parents_NG[(parents_NG != ABSENT).all(axis=1)]
            for _ in range(2 if len(parents_NG) else 0):  # neighbours, then neighbours of neighbours
                near_NG = self.candidates.mutants(self._rng, parents_NG, POOL // 4, seen_TG)
                pool_NG = np.vstack([pool_NG, near_NG]) if len(near_NG) else pool_NG
                parents_NG = near_NG if len(near_NG) else parents_NG
        pool_NG = self.candidates.keep(pool_NG, seen_TG)
        return pool_NG, self.candidates.look_up(pool_NG)[0]

    def _costs_of(self, indices_PG: Indices, costs: int) -> Array:
        """Costs of candidates in flight; a parameter that was not asked for does not matter, so its first choice stands in."""
        if not len(indices_PG):
            return np.zeros((0, costs))
        return self.candidates.look_up(np.where(indices_PG == ABSENT, 0, indices_PG))[0]

    # --- which is next -----------------------------------------------------------------------------------------------

    def _spread(self, pool_NG: Indices, pool_c: Array, tried_TG: Indices, tried_c: Array) -> int:
        """The initial design: the cheapest, the dearest, then the middle of the widest gap, as unlike the others as can be."""
        if not pool_c.shape[1]:  # no costs: one level
            pool_c, tried_c = np.zeros((len(pool_c), 1)), np.zeros((len(tried_c), 1))
        span = np.ptp(pool_c, axis=0)
        level_N = ((pool_c - pool_c.min(axis=0)) / np.where(span > 0, span, 1.0)).mean(axis=1)
        level_T = ((tried_c - pool_c.min(axis=0)) / np.where(span > 0, span, 1.0)).mean(axis=1)
        low, high = level_N.min(), level_N.max()
        if not (level_T <= low + 0.05).any():
            return int(self._rng.choice(np.flatnonzero(level_N == low)))
        stops = np.unique(np.clip(np.concatenate([level_T, [low, high]]), low, high))
        target = high
        if (level_T >= high - 0.05).any() and len(stops) > 1:
            gap = int(np.diff(stops).argmax())
            target = (stops[gap] + stops[gap + 1]) / 2
        near = np.argsort(np.abs(level_N - target) + 1e-9 * self._rng.random(len(level_N)))[
            : max(20, len(level_N) // 100)
        ]
        unlike = np.array([(tried_TG != pool_NG[i]).sum(axis=1).min() for i in near])
        return int(self._rng.choice(near[unlike == unlike.max()]))

    def _best(
        self,
        pool_NG: Indices,
        pool_c: Array,
        indices_TG: Indices,
        done_c: Array,
        accuracy_T: Array,
        level_T: Indices,
        waiting_PG: Indices,
        waiting_c: Array,
    ) -> int:
        middle, spread = pool_c.mean(axis=0), pool_c.std(axis=0)
        reference_M = np.vstack([done_c, waiting_c, pool_c]).max(axis=0)
        considered = self._considered(pool_NG, len(accuracy_T))
        every = len(considered) == len(pool_NG)
        pool_NG, pool_c = pool_NG[considered], pool_c[considered]
        rows = np.cumsum([0, len(indices_TG), len(waiting_PG), len(pool_NG)])
        genes_NG = self._genes(np.vstack([indices_TG, waiting_PG, pool_NG]), indices_TG)
        costs_NM = np.vstack([done_c, waiting_c, pool_c])
        unit_NM = (costs_NM - middle) / np.where(spread > 0, spread, 1.0)
        if isinstance(self.space, MappingSpace):  # what else is smooth
            unit_NM = np.hstack([unit_NM, self.space.numbers(np.vstack([indices_TG, waiting_PG, pool_NG]))])
        done_G, wait_G, pool_G = (genes_NG[rows[i] : rows[i + 1]] for i in range(3))
        done_u, wait_u, pool_u = (unit_NM[rows[i] : rows[i + 1]] for i in range(3))
        measured_T = level_T == 0  # what was stopped early teaches the model, but is no result
        floor_T = floors(done_c, accuracy_T, measured_T)
        below_T, above_T = accuracy_T < floor_T, np.maximum(accuracy_T, floor_T)
        model = self._learned(done_G, done_u, done_c, above_T, level_T, below_T)
        model.condition(done_G, done_u, above_T, level_T, below_T)
        # A noisy front is the model's: the luckiest of many draws would be a bar that nothing real can pass.
        known_T = model.warp.accuracy(model.mean(done_G, done_u)) if self._noisy else accuracy_T
        known_T, done_c = known_T[measured_T], done_c[measured_T]
        if len(wait_G):
            believed_P = model.warp.accuracy(model.believe(wait_G, wait_u))
            known_T, done_c = np.concatenate([known_T, believed_P]), np.vstack([done_c, waiting_c])
        worst = float(accuracy_T.min())
        stairs = Staircase.build(done_c, known_T, reference_M, worst)
        kept = self._promising(model, stairs, pool_G, pool_u, pool_c, len(known_T))
        rough = len(kept) * len(known_T) > ROUGH_FROM
        mean_K, gain_K = self._gains(model, stairs, pool_G[kept], pool_u[kept], pool_c[kept], rough=rough)
        if every:
            self._short_NG = pool_NG[kept[np.argsort(-gain_K, kind="stable")[:SHORT]]]
        if rough:
            kept = kept[np.argsort(-gain_K, kind="stable")[: 2 * MOST]]
            mean_K, gain_K = self._gains(model, stairs, pool_G[kept], pool_u[kept], pool_c[kept])
        first = kept[np.argsort(-gain_K, kind="stable")[:MOST]]
        self._outlook = Outlook(model, pool_G[first], pool_u[first], pool_c[first], known_T, done_c, reference_M, worst)
        if gain_K.max() <= 0:  # nothing can improve in double precision: the best chance by the mean
            return int(considered[kept[mean_K.argmax()]])
        return int(considered[kept[self._rng.choice(np.flatnonzero(gain_K >= gain_K.max() * (1 - 1e-9)))]])

    def _considered(self, pool_NG: Indices, trials: int) -> NDArray[np.int64]:
        """Which candidates are scored: all when the model is learned anew, else the best of then and some others."""
        if len(pool_NG) <= MANY or self._short_NG is None or self._due(trials):
            return np.arange(len(pool_NG))
        short_N = matches(pool_NG, self._short_NG)
        others = self._rng.choice(np.flatnonzero(~short_N), SHORT // 5, replace=False)
        return np.concatenate([np.flatnonzero(short_N), others])

    def _due(self, trials: int) -> bool:
        """Whether the model's factors are to be learned anew: later trials change them ever less."""
        return trials < 60 or trials >= 1.05 * self._learned_at or trials < self._learned_at

    @staticmethod
    def _gains(
        model: Surrogate, stairs: Staircase, pool_G: Indices, pool_u: Array, pool_c: Array, *, rough: bool = False
    ) -> tuple[Array, Array]:
        """The mean of z, and the expected improvement, of candidates: (K,), (K,)."""
        mean_K, sd_K = model.predict(pool_G, pool_u, rough=rough)
        return mean_K, stairs.improvement(pool_c, model.warp.excess(mean_K, sd_K, stairs.level_J))

    def _learned(
        self,
        genes_NG: Indices,
        unit_NM: Array,
        costs_NM: Array,
        accuracy_N: Array,
        level_N: Indices,
        below_N: NDArray[np.bool_],
    ) -> Surrogate:
        """The model with factors from now, or from a while ago."""
        n, shape = len(accuracy_N), (genes_NG.shape[1], unit_NM.shape[1], int(level_N.max()))
        if self._model is None or (self._model.g, self._model.m, self._model.levels) != shape:
            genes, costs, levels = shape
            self._model, self._learned_at = Surrogate(genes, costs, levels=levels, noisy=self._noisy), 0
        if self._due(n):
            use = np.arange(n)
            if n > LEARN_ON:  # the front, which matters most, and a random part of the others
                front = non_dominated(np.column_stack([-accuracy_N, costs_NM]))
                use = np.argsort(~front + self._rng.random(n) * 0.5, kind="stable")[:LEARN_ON]
            self._model.learn(genes_NG[use], unit_NM[use], accuracy_N[use], level_N[use], below_N[use])
            self._learned_at = n
        return self._model

    def _promising(
        self, model: Surrogate, stairs: Staircase, pool_G: Indices, pool_u: Array, pool_c: Array, trials: int
    ) -> NDArray[np.int64]:
        """Which candidates get their variance computed: all while that is cheap, else the best by mean and some by chance."""
        most = max(2000, int(WORK / trials**2))
        if len(pool_G) <= most:
            return np.arange(len(pool_G))
        rough = len(pool_G) * trials > ROUGH_FROM
        margin_N = model.warp.accuracy(model.mean(pool_G, pool_u, rough=rough)) - stairs.reached(pool_c)
        order = np.argsort(-margin_N)
        return np.concatenate([order[: most // 2], self._rng.permutation(order[most // 2 :])[: most - most // 2]])

    def _genes(self, indices_NG: Indices, tried_TG: Indices) -> Indices:
        """Gene codes; what a mapping's candidate switches off becomes ABSENT, constant genes stay (their effect is zero).

        A choice that has genes of its own (a placement: type, site, r ...) is one more gene: what they do only together.
        """
        if not isinstance(self.space, MappingSpace):
            return np.hstack([self.space.genes(indices_NG), indices_NG])
        return self.space.genes(switched_off(indices_NG, tried_TG))


SAMPLERS.register("known_cost", KnownCostSampler)


def _telling(accuracy_N: Array, costs_NM: Array) -> NDArray[np.int64]:
    """The trials that tell a model most, ``MODEL_ON`` of them: the front, those behind it, and a sample of all times."""
    points_NM = np.column_stack([-accuracy_N, costs_NM])
    chosen, rest = np.zeros(0, dtype=np.int64), np.arange(len(points_NM))
    while len(chosen) < MODEL_ON // 2:
        front = non_dominated(points_NM[rest])
        chosen, rest = np.concatenate([chosen, rest[front]]), rest[~front]
    chosen = chosen[:MODEL_ON]
    others = rest[np.linspace(0, len(rest) - 1, MODEL_ON - len(chosen)).astype(np.int64)]
    return np.sort(np.concatenate([chosen, others]))


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def switched_off(indices_NG: Indices, tried_TG: Indices) -> Indices:
    """Candidates with the parameters ABSENT that a define-by-run objective would not ask for, as far as trials tell.

    For each parameter that some trials left out, the first other parameter whose value decides it in all trials is taken
    as its switch.
    """
    out_NG = indices_NG.copy()
    for gene in np.flatnonzero((tried_TG == ABSENT).any(axis=0)):
        absent_T = tried_TG[:, gene] == ABSENT
        for switch in range(tried_TG.shape[1]):
            off = np.unique(tried_TG[absent_T, switch])
            if switch != gene and not np.isin(tried_TG[~absent_T, switch], off).any():
                out_NG[np.isin(out_NG[:, switch], off), gene] = ABSENT
                break
    return out_NG
